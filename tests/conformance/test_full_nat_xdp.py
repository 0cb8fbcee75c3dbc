"""full-nat on XDP with real sockets: nodes without a route to anybody but their link."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from tests.conformance.evidence import ip, only_on, own_site
from tests.conformance.site import COAP, Site
from tests.conformance.tcp import connections, servers

pytestmark = only_on("xdp", because="how this plane hands out ports and keeps them")

LOW, HIGH = 30000, 30999


@pytest.fixture
def cut_off(plane: str, family: int) -> Iterator[Site]:
    """A site whose nodes have no route back to clients."""
    with own_site(plane, family) as found:
        for node in ("n1", "n2", "n3"):
            found.lab.run(node, ["ip", f"-{family}", "route", "del", "default"])
        yield found


def source(site: Site) -> str:
    return site.lab.address("gw", site.family, "lan0")


def settings(site: Site, ports: str = f"{LOW}-{HIGH}", more: str = "") -> str:
    return f'forward = "full-nat"\nsource = "{source(site)}"\nsource_ports = "{ports}"\n{more}'


def test_nodes_without_a_route_back_answer_clients(cut_off: Site) -> None:
    site = cut_off
    site.serve(protocol="udp", settings=settings(site))
    site.nodes(["n1", "n2"], COAP)
    clients = [site.client() for _ in range(24)]
    found = [site.ask(each, b"hello", port=COAP) for each in clients]
    assert {each.node for each in found} == {"n1", "n2"}
    assert {each.source[0] for each in found} == {source(site)}
    assert all(LOW <= each.source[1] <= HIGH for each in found)
    assert len({(each.node, each.source) for each in found}) == 24
    assert [site.ask(each, b"again", port=COAP).source for each in clients] == [each.source for each in found]
    assert site.counted("reply") == 48
    assert site.tracked() == 0


def test_a_client_that_went_to_another_node_keeps_its_port_when_the_first_is_removed(cut_off: Site) -> None:
    """What the removed node's ports remember of a client must not take the other node's port from it."""
    site = cut_off
    site.serve(nodes=["n1", "n2"], protocol="udp", settings=settings(site))
    site.nodes(["n1", "n2"], COAP)
    clients = [site.client() for _ in range(24)]
    first = [site.send(each, b"hello", port=COAP) for each in clients]
    assert {each.node for each in first} == {"n1", "n2"}
    site.order("disable", "n1")
    moved = [site.send(each, b"and on", port=COAP) for each in clients]
    assert {each.node for each in moved} == {"n2"}
    site.serve(nodes=["n2"], protocol="udp", settings=settings(site))
    after = [site.send(each, b"and on", port=COAP) for each in clients]
    assert [each.source for each in after] == [each.source for each in moved]


def test_control_with_nat_they_cannot(cut_off: Site) -> None:
    site = cut_off
    site.serve(protocol="udp")
    site.nodes(["n1", "n2"], COAP)
    client = site.client()
    arrival = site.send(client, b"hello", port=COAP)
    with pytest.raises(OSError, match="unreachable"):
        site.answer(arrival)


def test_connections_carry_data_and_survive_whatever_is_applied(cut_off: Site) -> None:
    site = cut_off
    both = settings(site)
    site.serve(nodes=2, protocol="tcp", settings=both)
    with servers(site, "n1", "n2", "n3"), connections(site, 30) as found:
        assert {each.node for each in found} == {"n1", "n2"}
        data = bytes(i % 251 for i in range(1 << 20))
        sender = threading.Thread(target=found[0].socket.sendall, args=(data,))
        sender.start()
        assert found[0].heard(len(data)) == data
        sender.join()
        site.serve(nodes=3, protocol="tcp", settings=both)  # more nodes than the maps have room for
        assert all(each.echoes() for each in found)
        site.serve(nodes=3, protocol="tcp", settings=settings(site, f"{LOW - 9000}-{HIGH}"))
        assert all(each.echoes() for each in found)
        site.serve(nodes=3, protocol="tcp", settings=both)
        assert all(each.echoes() for each in found)
        text = site.config(nodes=3, protocol="tcp", settings=both)
        site.apply(text.replace("hash_seed", "flow_memory = 5000\nhash_seed"))  # another memory of flows
        assert all(each.echoes() for each in found)
        site.order("drain", "n1")
        with connections(site, 10) as late:
            assert "n1" not in {each.node for each in late}
            assert all(each.echoes() for each in [*found, *late])
        assert site.tracked() == 0


def test_a_lingering_node_keeps_its_connections(site: Site) -> None:
    more = settings(site, more='linger = "1h"\nscheduler = "round-robin"')
    site.serve(nodes=2, protocol="tcp", settings=more)
    with servers(site, "n1", "n2"), connections(site, 4) as found:
        site.serve(nodes=1, protocol="tcp", settings=more)
        assert all(each.echoes() for each in found)
        site.serve(nodes=1, protocol="tcp", settings=settings(site, more='scheduler = "round-robin"'))
        assert all(each.echoes() for each in found)  # it stays for as long as was said


def test_a_range_is_used_up_and_said_so(site: Site) -> None:
    site.serve(nodes=1, protocol="udp", settings=settings(site, f"{LOW}-{LOW + 63}"))
    site.nodes(["n1"], COAP)
    clients = [site.client() for _ in range(65)]
    ports = {site.ask(each, b"hello", port=COAP).source[1] for each in clients[:64]}
    assert ports == set(range(LOW, LOW + 64))
    site.dropped(clients[64], b"hello", port=COAP)
    assert site.counted("no_source_port") == 1
    assert site.ask(clients[0], b"still", port=COAP)


def test_ports_are_free_again_when_their_flows_are_forgotten(site: Site) -> None:
    more = settings(site, f"{LOW}-{LOW + 63}", 'flow_timeout = "1s"')
    site.serve(nodes=1, protocol="udp", settings=more)
    site.nodes(["n1"], COAP)
    for _ in range(2):
        ports = {site.ask(site.client(), b"hello", port=COAP).source[1] for _ in range(64)}
        assert ports == set(range(LOW, LOW + 64))
        time.sleep(1.8)


def test_a_client_hears_of_a_closed_port(site: Site) -> None:
    site.serve(nodes=1, protocol="udp", settings=settings(site))
    client = site.client()
    client.connect((site.vip, COAP))
    client.send(b"hello")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)
    assert site.counted("icmp_error") == 1


def test_a_node_hears_of_a_client_that_is_gone(site: Site) -> None:
    site.serve(nodes=1, protocol="udp", settings=settings(site))
    site.nodes(["n1"], COAP)
    client = site.client()
    arrival = site.ask(client, b"hello", port=COAP)
    client.close()
    server = site.node("n1", COAP)
    server.connect(arrival.source)
    server.setblocking(True)
    server.settimeout(4)
    server.send(b"late")
    with pytest.raises(ConnectionRefusedError):
        server.recv(100)


@pytest.mark.parametrize("narrow", ["wan0", "lan0"])
def test_path_mtu_discovery_works_both_ways(plane: str, family: int, narrow: str) -> None:
    with own_site(plane, family, nodes=1) as site:
        far, to = {"wan0": ("client", "n1"), "lan0": ("n1", "client")}[narrow]
        route = [site.lab.address(far, family), "dev", narrow, "mtu", "lock", "1300"]
        site.lab.run("gw", ["ip", "route", "add", *route])
        site.serve(nodes=1, protocol="tcp", settings=settings(site))
        data = bytes(i % 251 for i in range(200_000))
        with servers(site, "n1"), connections(site, 1) as (connection,):
            sender = threading.Thread(target=connection.socket.sendall, args=(data,))
            sender.start()
            assert connection.heard(len(data)) == data
            sender.join()
            peer = {"n1": source(site), "client": site.vip}[to]
            assert ip(site.lab, to, "route", "get", peer)[0]["metrics"][0]["mtu"] == 1300
        assert site.counted("too_big") > 0


def test_the_gateways_own_sockets_keep_theirs(site: Site) -> None:
    """A program on the gateway talks to a node from the same address, by a port outside the range."""
    site.serve(nodes=1, protocol="udp", settings=settings(site))
    server = site.node("n1", COAP)
    own = site.lab.socket("gw", site.inet, socket.SOCK_DGRAM)
    with own:
        own.bind((source(site), HIGH + 1))
        own.settimeout(4)
        own.sendto(b"by myself", (site.node_address("n1"), COAP))
        server.setblocking(True)
        server.settimeout(4)
        data, sender = server.recvfrom(100)
        server.sendto(b"answer", sender)
        assert (data, own.recv(100)) == (b"by myself", b"answer")
        server.setblocking(False)
        assert site.ask(site.client(), b"hello", port=COAP).node == "n1"
