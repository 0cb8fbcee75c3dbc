"""Where clients, nodes and the gateway stand in unusual places: each works, or is refused with a reason.

| role                | IPv4           | IPv6            |
|---------------------|----------------|-----------------|
| VIP on wan0's link  | 203.0.113.10   | 2001:db8:3::10  |
| VIP routed there    | 192.0.2.10     | 2001:db8::10    |
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from tests.conformance.evidence import (
    NEIGHBOUR_DISCOVERY,
    REDIRECT,
    carried,
    ip,
    is_icmp,
    mac,
    needs_device,
    only_on,
    own_site,
    refused,
    showing_a_node,
    warnings,
)
from tests.conformance.site import COAPS, Site, cid, hello

from pointsman.lab.build import Lab
from pointsman.lab.capture import Frame
from pointsman.lab.topology import CLIENT, CLIENT_POOL, GATEWAY_WAN, ONLINK_VIP


@pytest.fixture
def site(plane: str, family: int) -> Iterator[Site]:
    with own_site(plane, family) as found:
        yield found


def check(site: Site, text: str, *, status: int = 0) -> list[str]:
    """What `check` warns of, or the line that it refuses with."""
    done = site.pointsman("check", str(site.file(text)), check=False)
    if status:
        return [refused(done, status)]
    assert done.returncode == 0, done
    return warnings(done)


def balanced_both_ways(site: Site, client: socket.socket, vip: str | None = None) -> None:
    """Records by CID, handshakes, answers, and nodes that speak first."""
    site.nodes(["n1", "n2"])
    assert [site.ask(client, cid(i), vip=vip).node for i in (1, 2, 2, 1)] == ["n1", "n2", "n2", "n1"]
    arrival = site.ask(client, hello(), vip=vip)
    assert arrival.source == client.getsockname()[:2]
    site.node("n1").sendto(b"unasked", client.getsockname()[:2])
    answer, source = client.recvfrom(100)
    assert (answer, source[:2]) == (b"unasked", (vip or site.vip, COAPS))


def answers_through_the_gateway(site: Site, *nodes: str, by_address: bool = True) -> None:
    """What the how-to tells operators to do on a node whose clients share its link."""
    family = f"-{site.family}"
    for node in nodes:
        gateway = site.lab.address("gw", site.family, "lan0")
        route = ["default", "via", gateway, "dev", "eth0", "table", "100"]
        site.lab.run(node, ["ip", family, "route", "add", *route])
        source = ["from", site.node_address(node)] if by_address else []
        rule = [*source, "ipproto", "udp", "sport", str(COAPS), "lookup", "100"]
        site.lab.run(node, ["ip", family, "rule", "add", *rule])


# the gateway itself, hairpins, clients beside the nodes


def test_client_on_the_gateway_is_told_at_once(site: Site) -> None:
    site.apply(carried(site, families=[site.family]))
    site.nodes(["n1", "n2"])
    handle = site.lab.socket("gw", site.inet, socket.SOCK_DGRAM)
    handle.settimeout(2)
    handle.connect((ONLINK_VIP[site.family], COAPS))
    start = time.monotonic()
    handle.send(cid(1))
    with pytest.raises(ConnectionRefusedError):
        handle.recv(100)
    assert time.monotonic() - start < 0.5
    handle.close()
    assert site.arrivals(wait=0.1) == []
    # What the gateway sends itself never passes an XDP program; the kernel answers it all the same.
    assert site.counted("from_gateway") == {"nftables": 1, "xdp": 0}[site.plane]
    assert site.counted("icmp_suppressed") == 0


def test_node_that_would_be_sent_to_itself_is_dropped_and_counted(site: Site) -> None:
    site.serve(nodes=["n1"])
    site.node("n1")
    client = site.client(machine="n1")
    for payload in (hello(), hello(message_seq=1), b"\x17\xfe\xfd\0\1" + bytes(30)):
        site.dropped(client, payload)
    assert site.counted("hairpin") == 3
    assert site.counted("balanced") == 0


def test_handshakes_of_a_node_go_to_the_other_one_or_are_counted(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    answers_through_the_gateway(site, "n1", "n2")
    reached = 0
    for _ in range(24):
        client = site.client(machine="n1")
        client.sendto(hello(), (site.vip, COAPS))
        for arrival in site.arrivals(wait=0.1):
            assert arrival.node == "n2"
            site.answer(arrival)
            assert client.recvfrom(100)[1][:2] == (site.vip, COAPS)
            reached += 1
    assert 0 < reached < 24
    assert (site.counted("balanced"), site.counted("hairpin")) == (reached, 24 - reached)


@pytest.mark.parametrize("machine", ["n1", "n3"], ids=["a node", "a neighbour of the nodes"])
def test_client_on_the_nodes_link_works_where_answers_take_the_gateway(site: Site, machine: str) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    answers_through_the_gateway(site, "n1", "n2")
    client = site.client(machine=machine)
    with site.lab.capture("n2", "eth0", outgoing=False) as at_node:
        for _ in range(4):
            assert site.ask(client, cid(2)).node == "n2"
    assert [frame for frame in at_node if is_icmp(frame, *REDIRECT)] == []


@pytest.mark.parametrize("machine", ["n1", "n3"], ids=["a node", "a neighbour of the nodes"])
def test_control_answers_past_the_gateway_come_from_the_wrong_address(site: Site, machine: str) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client(machine=machine)
    arrival = site.send(client, cid(2))
    site.answer(arrival)
    assert client.recvfrom(100)[1][:2] == (site.node_address("n2"), COAPS)
    connected = site.client(machine=machine)
    connected.connect((site.vip, COAPS))
    connected.send(cid(2))
    site.answer(site.arrivals()[0])
    connected.settimeout(0.3)
    with pytest.raises(TimeoutError):
        connected.recv(100)


def test_server_on_every_address_needs_a_rule_by_its_port(site: Site) -> None:
    """Its answers have no source address yet when their route is looked up."""
    site.serve()
    site.node("n1")
    server = site.lab.socket("n2", site.inet, socket.SOCK_DGRAM)
    server.bind(("", COAPS))
    server.settimeout(2)
    answers_through_the_gateway(site, "n2", by_address=False)
    client = site.client(machine="n3")
    client.sendto(cid(2), (site.vip, COAPS))
    data, source = server.recvfrom(100)
    assert data == cid(2)
    server.sendto(b"answer", source)
    answer, vip = client.recvfrom(100)
    assert (answer, vip[:2]) == (b"answer", (site.vip, COAPS))
    server.close()


# one arm


def make_one_armed(site: Site) -> None:
    """Put clients and nodes on one segment, the gateway's lan0; they are in subnets of their own."""
    lab = site.lab
    lab.run("sw", ["ip", "link", "set", "client-eth0", "master", "lan"])
    move(lab, "wan0", "lan0")
    lab.run("gw", ["ip", "link", "set", "wan0", "down"])


def move(lab: Lab, old: str, new: str) -> None:
    """Give another interface the addresses and routes that the gateway has toward clients."""
    lab.run("gw", ["ip", "address", "flush", "dev", old, "scope", "global"])
    for address in GATEWAY_WAN:
        options = ["nodad"] if ":" in address else []
        lab.run("gw", ["ip", "address", "add", address, "dev", new, *options])
    to_clients(lab, new)


def to_clients(lab: Lab, device: str, *options: str) -> None:
    for prefix, client in zip(CLIENT_POOL, CLIENT, strict=True):
        route = [prefix, "via", client.partition("/")[0], "dev", device, *options]
        lab.run("gw", ["ip", "route", "replace", *route])


def is_traffic(frame: Frame) -> bool:
    """Not the link's own talk, in which addresses are no secret."""
    return frame.ethertype in (0x0800, 0x86DD) and not is_icmp(frame, *NEIGHBOUR_DISCOVERY)


def test_one_armed_gateway_works_and_redirects_nobody(site: Site) -> None:
    make_one_armed(site)
    lab, vip = site.lab, ONLINK_VIP[site.family]
    site.apply(carried(site, families=[site.family], interface="lan0"))
    client = site.client()
    with (
        lab.capture("client", "eth0", outgoing=False) as at_client,
        lab.capture("n1", "eth0", outgoing=False) as n1,
        lab.capture("n2", "eth0", outgoing=False) as n2,
    ):
        balanced_both_ways(site, client, vip)
    assert [frame for seen in (at_client, n1, n2) for frame in seen if is_icmp(frame, *REDIRECT)] == []
    to_client = bytes.fromhex(mac(lab, "client", "eth0").replace(":", ""))
    seen = [frame for frame in at_client if is_traffic(frame) and frame.data[:6] == to_client]
    assert len(seen) >= 6
    assert showing_a_node(lab, seen) == []
    if site.plane == "nftables":  # with xdp the kernel does not see what it could send redirects about
        assert site.counted("icmp_suppressed") > 0
    routes = ip(lab, "client", f"-{site.family}", "route", "get", vip)
    assert "redirected" not in str(routes)


@only_on("nftables", because="it takes away that plane's rules; with xdp the kernel forwards nothing here")
def test_control_without_the_rules_a_one_armed_gateway_redirects_the_client(site: Site) -> None:
    make_one_armed(site)
    lab, vip = site.lab, ONLINK_VIP[site.family]
    site.apply(carried(site, families=[site.family], interface="lan0"))
    lab.run("gw", ["nft", "flush", "chain", "inet", "pointsman", f"icmp_error{site.family}"])
    site.nodes(["n1", "n2"])
    client = site.client()
    with lab.capture("client", "eth0", outgoing=False) as capture:
        site.send(client, cid(1), vip=vip)
        capture.wait(want=lambda frame: is_icmp(frame, *REDIRECT))
    assert showing_a_node(lab, [frame for frame in capture if is_icmp(frame, *REDIRECT)]) != []


def test_redirects_about_other_traffic_still_help(site: Site) -> None:
    """Somebody on the nodes' link that sends through the gateway to a neighbour learns the short way."""
    site.serve(nodes=["n1"])
    lab = site.lab
    target = lab.address("n2", site.family)
    gateway = lab.address("gw", site.family, "lan0")
    lab.run("n3", ["ip", "route", "add", target, "via", gateway, "dev", "eth0"])
    with lab.capture("n3", "eth0", outgoing=False) as capture:
        lab.run("n3", ["ping", "-c2", "-i0.2", "-W1", target], check=False)
        capture.wait(want=lambda frame: is_icmp(frame, *REDIRECT))
    assert site.counted("icmp_suppressed") == 0


# kinds of interfaces


@pytest.mark.parametrize("filtering", ["0", "1"], ids=["plain", "with br_netfilter"])
@pytest.mark.parametrize("shape", ["clients", "nodes", "one for all"])
def test_bridge(site: Site, shape: str, filtering: str) -> None:
    lab, family = site.lab, site.family
    for name in ("iptables", "ip6tables"):
        try:
            lab.sysctl("gw", f"net.bridge.bridge-nf-call-{name}", filtering)
        except FileNotFoundError:
            if filtering == "1":
                pytest.skip("this kernel has no br_netfilter, or it is not loaded")
    lab.run("gw", ["ip", "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0"])
    lab.run("gw", ["ip", "link", "set", "br0", "up"])
    if shape in ("clients", "one for all"):
        move(lab, "wan0", "br0")
        lab.run("gw", ["ip", "link", "set", "wan0", "master", "br0"])
        to_clients(lab, "br0")
    if shape in ("nodes", "one for all"):
        lab.run("gw", ["ip", "address", "flush", "dev", "lan0", "scope", "global"])
        lab.run("gw", ["ip", "link", "set", "lan0", "master", "br0"])
        for address in ("10.0.0.1/24", "fd00::1/64"):
            options = ["nodad"] if ":" in address else []
            lab.run("gw", ["ip", "address", "add", address, "dev", "br0", *options])
    interface = "wan0" if shape == "nodes" else "br0"
    if interface == "br0":
        (line,) = check(site, carried(site, families=[family], interface="wan0"), status=2)
        assert "interface wan0 is a part of the bridge br0, which takes all that arrives; name br0" in line
    site.apply(carried(site, families=[family], interface=interface))
    balanced_both_ways(site, site.client(), ONLINK_VIP[family])
    big = site.client()
    assert site.ask(big, cid(2, body=bytes(3000)), vip=ONLINK_VIP[family]).node == "n2"
    assert site.tracked() == 0


def test_vlan(site: Site) -> None:
    lab, family = site.lab, site.family
    needs_vlan(lab)
    for machine, device in (("gw", "wan0"), ("client", "eth0")):
        lab.run(machine, ["ip", "link", "add", "link", device, "name", "v7", "type", "vlan", "id", "7"])
        lab.run(machine, ["ip", "link", "set", "v7", "up"])
    move(lab, "wan0", "v7")
    lab.run("client", ["ip", "address", "flush", "dev", "eth0", "scope", "global"])
    for address, gateway in zip(CLIENT, GATEWAY_WAN, strict=True):
        options = ["nodad"] if ":" in address else []
        lab.run("client", ["ip", "address", "add", address, "dev", "v7", *options])
        anywhere = "::/0" if ":" in address else "0.0.0.0/0"
        route = [anywhere, "via", gateway.partition("/")[0], "dev", "v7"]
        lab.run("client", ["ip", "route", "replace", *route])
        lab.run("client", ["ip", "route", "replace", f"{ONLINK_VIP[6 if options else 4]}", "dev", "v7"])
    text = carried(site, families=[family], interface="v7")
    assert check(site, text) == []
    with lab.capture("gw", "wan0") as tagged:
        site.apply(text)
        balanced_both_ways(site, site.client(), ONLINK_VIP[family])
        assert site.ask(site.client(), cid(2, body=bytes(3000)), vip=ONLINK_VIP[family]).node == "n2"
    assert tagged.frames


def needs_vlan(lab: Lab) -> None:
    """The same probe as needs_device, on a device that it can stand on."""
    lab.run("sw", ["ip", "link", "add", "pmbase", "type", "bridge"])
    try:
        needs_device(lab, "vlan", "id", "7", base="pmbase")
    finally:
        lab.run("sw", ["ip", "link", "delete", "pmbase"])


@pytest.mark.parametrize("shape", ["clients", "nodes"])
def test_bond(site: Site, shape: str) -> None:
    lab, family = site.lab, site.family
    needs_device(lab, "bond")
    port = "wan0" if shape == "clients" else "lan0"
    lab.run("gw", ["ip", "link", "add", "bond0", "type", "bond", "mode", "active-backup", "miimon", "50"])
    lab.run("gw", ["ip", "address", "flush", "dev", port, "scope", "global"])
    lab.run("gw", ["ip", "link", "set", port, "down"])
    lab.run("gw", ["ip", "link", "set", port, "master", "bond0"])
    lab.run("gw", ["ip", "link", "set", "bond0", "up"])
    if shape == "clients":
        move(lab, "wan0", "bond0")
    else:
        for address in ("10.0.0.1/24", "fd00::1/64"):
            options = ["nodad"] if ":" in address else []
            lab.run("gw", ["ip", "address", "add", address, "dev", "bond0", *options])
    interface = "wan0"
    if shape == "clients":
        (line,) = check(site, carried(site, families=[family], interface="wan0"), status=2)
        assert "interface wan0 is a part of the bond bond0, which takes all that arrives; name bond0" in line
        interface = "bond0"
    text = carried(site, families=[family], interface=interface)
    assert check(site, text) == []
    site.apply(text)
    balanced_both_ways(site, site.client(), ONLINK_VIP[family])
    assert site.ask(site.client(), cid(2, body=bytes(3000)), vip=ONLINK_VIP[family]).node == "n2"


def enslave(lab: Lab, interface: str, addresses: tuple[str, ...]) -> None:
    """Put an interface into the VRF; its IPv6 addresses do not survive that."""
    lab.run("gw", ["ip", "address", "flush", "dev", interface, "scope", "global"])
    lab.run("gw", ["ip", "link", "set", interface, "master", "vrf0"])
    for address in addresses:
        options = ["nodad"] if ":" in address else []
        lab.run("gw", ["ip", "address", "add", address, "dev", interface, *options])


def make_vrf(lab: Lab) -> None:
    needs_device(lab, "vrf", "table", "10")
    lab.run("gw", ["ip", "link", "add", "vrf0", "type", "vrf", "table", "10"])
    lab.run("gw", ["ip", "link", "set", "vrf0", "up"])


@pytest.mark.parametrize("interface", ["wan0", "vrf0"])
def test_vrf_that_holds_clients_and_nodes(site: Site, interface: str) -> None:
    """The listener may name the VRF's device or the interface in it that clients come by."""
    lab, family = site.lab, site.family
    make_vrf(lab)
    enslave(lab, "wan0", GATEWAY_WAN)
    enslave(lab, "lan0", ("10.0.0.1/24", "fd00::1/64"))
    to_clients(lab, "wan0", "table", "10")
    vip = ONLINK_VIP[family] if interface == "wan0" else site.vip
    text = carried(site, families=[family], interface=interface, vip={family: vip})
    assert [line for line in check(site, text) if "which has no route" in line] == []
    site.apply(text)
    balanced_both_ways(site, site.client(), vip)
    assert site.ask(site.client(), cid(2, body=bytes(3000)), vip=vip).node == "n2"


def test_vrf_without_a_route_to_the_nodes_is_warned_of(site: Site) -> None:
    lab, family = site.lab, site.family
    make_vrf(lab)
    enslave(lab, "wan0", GATEWAY_WAN)
    # Without it, what the VRF's table does not know is looked up in the main table.
    anywhere = "0.0.0.0/0" if family == 4 else "::/0"
    lab.run("gw", ["ip", "route", "add", "unreachable", anywhere, "table", "10", "metric", "4278198272"])
    text = carried(site, families=[family])
    said = check(site, text)
    for node in ("n1", "n2"):
        wanted = (
            f"service s, node {node}: what arrives on wan0 is routed by the VRF vrf0, which has no route to "
            f"{site.node_address(node)}; add one to its table, or put the nodes' link into it"
        )
        assert wanted in said
    site.apply(text)
    site.nodes(["n1", "n2"])
    site.dropped(site.client(), cid(1), vip=ONLINK_VIP[family])


# what `check` finds

CHECKED_ALIKE = only_on("nftables", because="what is warned of does not depend on the plane")


@CHECKED_ALIKE
def test_merging_of_datagrams_is_warned_of(site: Site) -> None:
    text = carried(site, families=[site.family])
    assert check(site, text) == []
    site.lab.run("gw", ["ethtool", "-K", "wan0", "rx-udp-gro-forwarding", "on"])
    (line,) = check(site, text)
    assert line == (
        "wan0 merges datagrams of different sessions (rx-udp-gro-forwarding is on) and all would go to the node "
        "of the first; `ethtool -K wan0 rx-udp-gro-forwarding off`"
    )
    site.lab.run("gw", line.partition("`")[2].rstrip("`").split())
    assert check(site, text) == []


@CHECKED_ALIKE
def test_program_on_the_listeners_port_is_refused(site: Site) -> None:
    vip = ONLINK_VIP[site.family]
    length = 32 if site.family == 4 else 128
    options = ["nodad"] if site.family == 6 else []
    site.lab.run("gw", ["ip", "address", "add", f"{vip}/{length}", "dev", "wan0", *options])
    program = site.lab.socket("gw", site.inet, socket.SOCK_DGRAM)
    program.bind((vip, COAPS))
    text = carried(site, families=[site.family])
    (line,) = check(site, text, status=2)
    assert f"listener {site.at(vip, COAPS)}: a program on this machine is bound to it" in line
    assert refused(site.pointsman("apply", str(site.file(text)), check=False), 2) == line
    program.close()
    assert check(site, text) == []


def test_program_on_the_port_of_every_address_is_warned_of_and_keeps_the_others(site: Site) -> None:
    program = site.lab.socket("gw", site.inet, socket.SOCK_DGRAM)
    program.bind(("", COAPS))
    program.settimeout(1)
    text = carried(site, families=[site.family])
    (line,) = check(site, text)
    vip = ONLINK_VIP[site.family]
    assert f"bound to port {COAPS} of every address; it will not hear what is sent to {vip}" in line
    site.apply(text)
    client = site.client()
    balanced_both_ways(site, client, vip)
    client.sendto(b"for the program", (site.lab.address("gw", site.family), COAPS))
    assert program.recv(100) == b"for the program"
    client.sendto(cid(1), (vip, COAPS))
    assert site.arrivals()[0].node == "n1"
    program.settimeout(0.2)
    with pytest.raises(TimeoutError):
        program.recv(100)
    program.close()


@CHECKED_ALIKE
def test_node_that_is_this_machine_is_refused(site: Site) -> None:
    text = carried(site, families=[site.family]).replace(
        f'"{site.node_address("n1")}"', f'"{site.lab.address("gw", site.family, "lan0")}"'
    )
    (line,) = check(site, text, status=2)
    assert "is this machine's own; a node is another machine or network namespace" in line


@pytest.mark.parametrize("family", [4], ids=["ip4"])  # for IPv6 the switch of all is the only one
def test_interface_that_does_not_forward_though_the_machine_does_is_warned_of(site: Site) -> None:
    site.lab.sysctl("gw", "net.ipv4.ip_forward", "1")
    site.lab.sysctl("gw", "net.ipv4.conf.wan0.forwarding", "0")
    text = carried(site, families=[site.family])
    (line,) = check(site, text)
    assert line.startswith("forwarding is on but not for wan0")
    site.apply(text)
    site.nodes(["n1", "n2"])
    client = site.client()
    site.dropped(client, cid(1), vip=ONLINK_VIP[4])
    site.lab.run("gw", line.partition("`")[2].rstrip("`").split())
    assert site.ask(client, cid(1), vip=ONLINK_VIP[4]).node == "n1"
    assert check(site, text) == []


@CHECKED_ALIKE
def test_node_without_a_route_and_vip_that_nobody_carries_are_warned_of(site: Site) -> None:
    far = {4: "172.16.5.5", 6: "fd99::5"}[site.family]
    text = carried(site, families=[site.family], interface=None).replace(
        f'"{site.node_address("n1")}"', f'"{far}"'
    )
    said = check(site, text)
    assert [line for line in said if f"node n1: no route to {far}; add one" in line]
    assert [line for line in said if f"no interface carries {ONLINK_VIP[site.family]}" in line]
