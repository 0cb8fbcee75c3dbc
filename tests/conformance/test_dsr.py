"""Direct server return: the Ethernet header and the hop limit change, and nodes answer clients themselves."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest
from tests.conformance.direct import DSR, listen, of_vip, put_back, set_up, start
from tests.conformance.evidence import carried, ip, mac, neighbour, only_on, refused, wait_for
from tests.conformance.http_nodes import HTTP, Browser, http_servers
from tests.conformance.site import COAP, COAPS, QUIET, Site, cid, flight5, hello

from pointsman.lab.topology import ONLINK_VIP

ALL = "net.ipv4.conf.all"


def test_the_node_answers_and_no_byte_of_it_comes_by_the_gateway(direct: Site) -> None:
    start(direct)
    client = direct.client()
    with (
        direct.lab.capture("gw", "wan0") as wan,
        direct.lab.capture("gw", "lan0") as lan,
        direct.lab.capture("n1", "eth0", outgoing=False) as arriving,
        direct.lab.capture("n1", "eth1") as leaving,
    ):
        for number in (1, 2):
            assert direct.ask(client, cid(number)).node == f"n{number}"
        flow = {direct.ask(client, payload).node for payload in (hello(), hello(message_seq=1), flight5())}
    assert len(flow) == 1
    assert of_vip(direct, [*wan, *lan]) == []
    assert of_vip(direct, leaving)
    at = 16 if direct.family == 4 else 24
    to_vip = [frame for frame in arriving if frame.packet[at:].startswith(ip_address(direct.vip).packed)]
    assert {frame.packet[8 if direct.family == 4 else 7] for frame in to_vip} == {63}
    assert (direct.counted("cid"), direct.counted("balanced"), direct.counted("flow")) == (2, 1, 2)
    assert direct.counted("cid", "n1") == 1
    assert direct.counted("reply") == 0
    assert direct.tracked() == 0


def test_states_mean_what_they_mean_with_nat(direct: Site) -> None:
    start(direct, ["n1", "n2", "n3"])
    client = direct.client()
    was = direct.ask(client, hello()).node
    direct.order("drain", was)
    assert direct.ask(client, flight5()).node == was
    assert direct.ask(client, cid(int(was[1]))).node == was
    assert direct.ask(client, hello()).node != was
    direct.order("disable", was)
    direct.dropped(client, cid(int(was[1])))
    assert direct.counted("cid_node_down") == 1
    direct.dropped(client, cid(77))
    assert direct.counted("cid_unknown") == 1
    for name in {"n1", "n2", "n3"} - {was}:
        direct.order("drain", name)
    direct.dropped(client, hello())
    assert direct.counted("no_node") == 1


def test_a_handshake_ends_on_a_node_that_was_removed(direct: Site) -> None:
    start(direct, ["n1", "n2", "n3"])
    clients = [direct.client() for _ in range(40)]
    held = next(each for each in clients if direct.ask(each, hello()).node == "n3")
    direct.serve(nodes=["n1", "n2"], settings=DSR)
    assert direct.ask(held, flight5()).node == "n3"
    assert direct.ask(held, hello()).node != "n3"


def test_control_without_its_memory_a_handshake_leaves_a_draining_node(direct: Site) -> None:
    start(direct)
    client = direct.client()
    was = direct.ask(client, hello()).node
    direct.order("drain", was)
    assert direct.ask(client, flight5()).node == was
    direct.forget_flows()
    assert direct.ask(client, flight5()).node != was


def test_fragments_arrive_whole(direct: Site) -> None:
    start(direct)
    client = direct.client()
    large = cid(2) + bytes(4000)
    assert direct.ask(client, large).node == "n2"


def test_the_same_client_has_the_same_node_as_with_nat(direct: Site) -> None:
    direct.nodes(["n1", "n2", "n3"])
    direct.serve(nodes=3)
    ports = range(20000, 20012)
    by_nat = [direct.send(direct.client(port=port), hello()).node for port in ports]
    for name in ("n1", "n2", "n3"):
        direct.close_node(name)
    for handle in direct._clients:
        handle.close()
    start(direct, ["n1", "n2", "n3"])
    assert [direct.ask(direct.client(port=port), hello()).node for port in ports] == by_nat


def test_from_nat_to_dsr_and_back_under_one_service(direct: Site) -> None:
    direct.serve(nodes=1)
    direct.node("n1")
    client = direct.client()
    assert direct.send(client, cid(1)).node == "n1"
    direct.close_node("n1")
    start(direct, ["n1"])
    assert direct.ask(client, cid(1)).node == "n1"
    direct.close_node("n1")
    direct.node("n1")
    direct.serve(nodes=1)
    assert direct.send(client, cid(1)).node == "n1"


def test_one_arm_is_enough(direct: Site) -> None:
    """Clients, gateway and nodes on one link: packets leave by the interface that they came by."""
    addresses = {name: direct.lab.address(name, direct.family, "eth1") for name in ("n1", "n2")}
    text = direct.config(settings=DSR)
    for name, address in addresses.items():
        text = text.replace(f'"{direct.node_address(name)}"', f'"{address}"')
    direct.apply(text)
    set_up(direct, "n1", "n2")
    listen(direct, "n1", "n2")
    with direct.lab.capture("gw", "wan0") as wan:
        for number in (1, 2):
            assert direct.ask(direct.client(), cid(number)).node == f"n{number}"
    assert of_vip(direct, wan) == []


def onlink(site: Site) -> str:
    """A service whose VIP is on the clients' link, where its nodes have a leg too."""
    text = carried(site, families=(site.family,))
    return text.replace('protocol = "dtls"', f'protocol = "dtls"\n{DSR}')


@pytest.mark.parametrize("quiet", [True, False])
def test_nodes_do_not_answer_for_the_vip_on_its_link(direct: Site, *, quiet: bool) -> None:
    """Control: without arp_ignore the node does, and takes the clients from the gateway. IPv6 nodes never do."""
    vip = ONLINK_VIP[direct.family]
    direct.apply(onlink(direct))
    set_up(direct, "n1", "n2")
    listen(direct, "n1", "n2", address=vip)
    if not quiet:
        for name in ("n1", "n2"):
            direct.lab.sysctl(name, f"{ALL}.arp_ignore", "0")
    direct.lab.run("client", ["ip", "neighbour", "flush", "all"])
    with direct.lab.capture("client", "eth0", outgoing=False) as heard:
        client = direct.client()
        client.sendto(cid(2), (vip, COAPS))
        arrived = direct.arrivals()
    asked = [frame for frame in heard if frame.ethertype == 0x0806 and frame.data[20:22] == b"\0\2"]
    answered = {
        ":".join(f"{byte:02x}" for byte in frame.data[22:28])
        for frame in asked
        if frame.data[28:32] == ip_address(vip).packed
    }
    if direct.family == 6:
        assert neighbour(direct.lab, vip) == mac(direct.lab, "gw", "wan0")
    else:
        nodes = {mac(direct.lab, name, "eth1") for name in ("n1", "n2")}
        assert (answered & nodes == set()) is quiet
    if quiet or direct.family == 6:
        assert [each.node for each in arrived] == ["n2"]
        assert neighbour(direct.lab, vip) == mac(direct.lab, "gw", "wan0")


def test_check_on_the_node_finds_what_is_missing_before_users_do(direct: Site) -> None:
    direct.serve(nodes=1, settings=DSR)
    file = str(direct._file)
    done = direct.pointsman("node-setup", "--check", file, "s/n1", machine="n1", check=False)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert lines[0].startswith(f"s/n1: {direct.vip} is not on lo: `ip address add {direct.vip}/")
    assert len(lines) == (3 if direct.family == 4 else 1)
    client = direct.client()
    with direct.lab.capture("n1", "eth1") as out:
        direct.dropped(client, cid(1))
    assert of_vip(direct, out) == []
    set_up(direct, "n1")
    listen(direct, "n1")
    assert direct.ask(client, cid(1)).node == "n1"
    done = direct.pointsman("node-setup", "--check", file, "s/n1", machine="n1")
    assert done.stdout == "s/n1: nothing is missing\n"


def test_a_node_behind_a_router_is_refused_with_the_way_out(direct: Site) -> None:
    far, router = {4: ("10.9.0.1", "10.0.0.13"), 6: ("fd00:9::1", "fd00::13")}[direct.family]
    direct.lab.run("gw", ["ip", "route", "add", far, "via", router])
    text = direct.config(nodes=2, settings=DSR).replace(f'"{direct.node_address("n1")}"', f'"{far}"')
    try:
        for verb in ("check", "apply"):
            line = refused(direct.pointsman(verb, str(direct.file(text)), check=False), 2)
            assert line.startswith(f"error: service s, node n1: {far} is behind the router {router}")
            assert line.endswith('or say forward = "tunnel"')
    finally:
        direct.lab.run("gw", ["ip", "route", "del", far])


def test_the_last_hop_is_answered_as_from_the_listener(direct: Site) -> None:
    start(direct, ["n1"])
    client = direct.client()
    option = (socket.IPPROTO_IP, socket.IP_TTL) if direct.family == 4 else (socket.IPPROTO_IPV6, 16)
    client.setsockopt(*option, 1)
    level, receive = (socket.IPPROTO_IP, 11) if direct.family == 4 else (socket.IPPROTO_IPV6, 25)
    client.setsockopt(level, receive, 1)
    client.sendto(cid(1), (direct.vip, COAPS))
    assert direct.arrivals(wait=QUIET) == []
    _, ancillary, _, _ = client.recvmsg(100, 500, socket.MSG_ERRQUEUE)
    kind = ancillary[0][2][5]
    # The kernel has the VIP itself, and no socket: to it this is the packet's destination.
    unreachable, exceeded = {4: (3, 11), 6: (1, 3)}[direct.family]
    assert kind == (exceeded if direct.plane == "xdp" else unreachable)


# TCP


def test_real_http_is_answered_past_the_gateway(direct: Site) -> None:
    direct.serve(protocol="tcp", settings=DSR, listen=[direct.at(direct.vip, HTTP)])
    set_up(direct, "n1", "n2")
    body = bytes(i % 251 for i in range(200_000))
    with http_servers(direct, "n1", "n2", body=body) as served:
        with direct.lab.capture("gw", "wan0") as wan, direct.lab.capture("gw", "lan0") as lan:
            browsers = [Browser(direct) for _ in range(24)]
            nodes = [browser.get() for browser in browsers]
            again = [browser.get() for browser in browsers]
        assert {content for _, content in [*nodes, *again]} == {body}
        assert [node for node, _ in nodes] == [node for node, _ in again]
        assert set(served) == {"n1", "n2"}
        assert of_vip(direct, [*wan, *lan]) == []
        for browser in browsers:
            browser.close()


def test_the_gateway_carries_requests_only(direct: Site) -> None:
    """Answers a hundred times the size of requests: what the gateway counts is what the client sent."""
    direct.serve(nodes=1, protocol="tcp", settings=DSR, listen=[direct.at(direct.vip, HTTP)])
    set_up(direct, "n1")
    with http_servers(direct, "n1", body=bytes(100_000)), direct.lab.capture("client", "eth0") as seen:
        browser = Browser(direct)
        for _ in range(10):
            assert len(browser.get()[1]) == 100_000
        browser.close()
        wait_for(lambda: direct.counted("flow") > 10)
    packed, at = ip_address(direct.vip).packed, (16 if direct.family == 4 else 24)
    kind = 0x0800 if direct.family == 4 else 0x86DD
    asked = [frame for frame in seen if frame.ethertype == kind and frame.packet[at:].startswith(packed)]
    answered = of_vip(direct, seen)
    assert direct.counted("flow") + direct.counted("balanced") == len(asked)
    assert sum(len(frame.data) for frame in answered) > 10 * sum(len(frame.data) for frame in asked)


def test_connections_live_through_drain_and_other_nodes_coming(direct: Site) -> None:
    settings = {"protocol": "tcp", "settings": DSR, "listen": [direct.at(direct.vip, HTTP)]}
    direct.serve(nodes=["n1", "n2", "n3"], **settings)
    set_up(direct, "n1", "n2", "n3")
    direct.serve(nodes=["n1", "n2"], **settings)
    with http_servers(direct, "n1", "n2"):
        browsers = [Browser(direct) for _ in range(10)]
        nodes = [browser.get()[0] for browser in browsers]
        direct.order("drain", nodes[0])
        assert [browser.get()[0] for browser in browsers] == nodes
        assert Browser(direct).get()[0] != nodes[0]
        direct.serve(nodes=["n1", "n2", "n3"], **settings)
        assert [browser.get()[0] for browser in browsers] == nodes
        direct.forget_flows()
        with pytest.raises(ConnectionResetError):  # control
            [browser.get() for browser in browsers]


@only_on(
    "xdp", because="on nftables such errors end at the gateway, which has the VIP (docs/reference/limits.md)"
)
def test_path_mtu_discovery_of_nodes_works(direct: Site) -> None:
    """A router toward the client says too big to the VIP, which is the gateway's too: the node hears of it."""
    direct.serve(nodes=["n1"], protocol="tcp", settings=DSR, listen=[direct.at(direct.vip, HTTP)])
    set_up(direct, "n1")
    family = direct.family
    pool = {4: "198.19.0.1", 6: "2001:db8:19::1"}[family]
    route = {4: "198.19.0.0/16", 6: "2001:db8:19::/64"}[family]
    via, wan = direct.lab.address("n3", family, "eth1"), direct.lab.address("client", family)
    # n3 is a router to the client's pool, with a narrow way on.
    direct.lab.sysctl("n3", "net.ipv4.ip_forward" if family == 4 else "net.ipv6.conf.all.forwarding", "1")
    direct.lab.run("n3", ["ip", "route", "replace", route, "via", wan, "dev", "eth1", "mtu", "lock", "1300"])
    direct.lab.run("n1", ["ip", "route", "replace", route, "via", via, "dev", "eth1"])
    direct.lab.sysctl("n3", "net.ipv4.conf.all.send_redirects", "0")
    direct.lab.sysctl("n3", "net.ipv4.conf.eth1.send_redirects", "0")
    # What n3 says to the VIP comes to the gateway, as everybody's packets to the VIP do.
    gateway = direct.lab.address("gw", family, "wan0")
    vip = f"{direct.vip}/{32 if family == 4 else 128}"
    direct.lab.run("n3", ["ip", "route", "replace", vip, "via", gateway, "dev", "eth1"])
    try:
        with http_servers(direct, "n1", body=bytes(300_000)):
            browser = Browser(direct, own=pool)
            assert len(browser.get()[1]) == 300_000
        assert direct.counted("icmp_error") > 0
        assert ip(direct.lab, "n1", "route", "get", pool)[0]["metrics"][0]["mtu"] == 1300
    finally:
        direct.lab.run("n1", ["ip", "route", "replace", route, "via", wan, "dev", "eth1"])
        direct.lab.run("n1", ["ip", "route", "flush", "cache"])
        direct.lab.run("n3", ["ip", "route", "del", vip])
        direct.lab.run("n3", ["ip", "route", "replace", route, "via", wan, "dev", "eth1"])
        direct.lab.sysctl("n3", "net.ipv4.ip_forward" if family == 4 else "net.ipv6.conf.all.forwarding", "0")
        put_back(direct, "n1")


def test_udp_goes_by_flow(direct: Site) -> None:
    direct.serve(nodes=2, protocol="udp", settings=DSR)
    set_up(direct, "n1", "n2")
    listen(direct, "n1", "n2", port=COAP)
    nodes = set()
    for _ in range(24):
        client = direct.client()
        first = direct.ask(client, b"one", port=COAP).node
        assert direct.ask(client, b"two", port=COAP).node == first
        nodes.add(first)
    assert nodes == {"n1", "n2"}
