"""TCP: a connection stays on its node from its first segment to its last."""

from __future__ import annotations

import socket
import threading
from collections import Counter

import pytest
from tests.conformance.evidence import ip, only_on, own_site, showing_a_node, wait_for
from tests.conformance.site import COAP, QUIET, Site
from tests.conformance.tcp import Connection, connections, servers

NODES = ("n1", "n2", "n3")


def test_connections_are_spread_over_the_nodes_and_counted(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp")
    with servers(site, *NODES) as there, connections(site, 48) as found:
        assert all(each.echoes() for each in found)
        reached = Counter(each.node for each in found)
        assert reached == there.accepted
        assert min(reached[node] for node in NODES) > 0
        assert site.counted("balanced") == 48
        assert {node: site.counted("balanced", node) for node in NODES} == reached
        assert site.counted("flow") >= 96
        assert site.counted("reply") >= 96
    assert site.tracked() == 0


def test_client_keeps_its_node_for_its_next_connections_from_the_same_port(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp")
    with servers(site, *NODES):
        first = Connection(site)
        port, node = first.port, first.node
        for _ in range(5):
            first.reset()
            first = Connection(site, port)
            assert first.node == node
        first.reset()


def test_large_transfers_arrive_whole_both_ways(site: Site) -> None:
    site.serve(protocol="tcp")
    data = bytes(i % 251 for i in range(1 << 20))
    with servers(site, "n1", "n2"), connections(site, 1) as (connection,):
        sender = threading.Thread(target=connection.socket.sendall, args=(data,))
        sender.start()
        assert connection.heard(len(data)) == data
        sender.join()


def test_nodes_may_have_ports_of_their_own(site: Site) -> None:
    ports = {"n1": 15683, "n2": 25683}
    site.serve(nodes=3, protocol="tcp", ports=ports)
    with servers(site, *NODES, ports=ports) as there, connections(site, 48) as found:
        assert all(each.echoes() for each in found)
        assert min(there.accepted[node] for node in NODES) > 0


def test_established_connections_survive_drain_and_new_ones_go_elsewhere(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp")
    with servers(site, *NODES), connections(site, 20) as found:
        drained = found[0].node
        site.order("drain", drained)
        assert all(each.echoes() for each in found)
        with connections(site, 20) as late:
            assert drained not in {each.node for each in late}
            assert all(each.echoes() for each in [*found, *late])


def test_established_connections_survive_that_other_nodes_come_and_go(site: Site) -> None:
    site.serve(nodes=["n1", "n2"], protocol="tcp")
    with servers(site, *NODES), connections(site, 20) as found:
        site.serve(nodes=["n1", "n2", "n3"], protocol="tcp")
        assert all(each.echoes() for each in found)
        with connections(site, 40) as late:
            assert "n3" in {each.node for each in late}
        site.serve(nodes=["n1", "n3"], protocol="tcp")
        mine = [each for each in found if each.node == "n1"]
        assert mine
        assert all(each.echoes() for each in mine)


def test_control_without_its_memory_a_connection_to_a_drained_node_breaks(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp")
    with servers(site, *NODES), connections(site, 1) as (connection,):
        site.order("drain", connection.node)
        assert connection.echoes()
        site.forget_flows()
        with pytest.raises(ConnectionResetError):
            connection.echoes()


def test_disabled_node_gets_nothing(site: Site) -> None:
    site.serve(protocol="tcp")
    with servers(site, "n1", "n2") as there, connections(site, 8) as found:
        gone = found[0].node
        site.order("disable", gone)
        before = there.accepted[gone]
        with site.lab.capture(gone, "eth0", outgoing=False) as capture:
            with pytest.raises(ConnectionResetError):  # another node knows nothing of it
                found[0].echoes()
            with connections(site, 8) as late:
                assert {each.node for each in late} == {"n1", "n2"} - {gone}
        assert there.accepted[gone] == before
        client = socket.inet_pton(site.inet, site.lab.address("client", site.family))
        assert [frame for frame in capture if client in frame.data] == []


def test_two_hundred_connections_at_once(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp")
    with servers(site, *NODES) as there, connections(site, 200) as found:
        for each in found:
            each.socket.sendall(b"all at once")
        assert {each.heard(11) for each in found} == {b"all at once"}
        assert sum(there.accepted.values()) == 200
        assert site.counted("balanced") == 200


def test_ends_of_connections_reach_the_other_side(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp")
    with servers(site, *NODES) as there:
        finished, reset = Connection(site), Connection(site)
        assert finished.echoes()
        assert reset.echoes()
        finished.socket.shutdown(socket.SHUT_WR)
        assert finished.socket.recv(10) == b""  # the server's FIN
        finished.close()
        reset.reset()
        wait_for(lambda: there.ended == {"": 1, "ConnectionResetError": 1})


def test_closed_port_of_a_node_refuses_at_once(site: Site) -> None:
    site.serve(nodes=1, protocol="tcp")
    handle = site.lab.socket("client", site.inet, socket.SOCK_STREAM)
    handle.settimeout(4)
    with handle, pytest.raises(ConnectionRefusedError):
        handle.connect((site.vip, COAP))


def remembered(site: Site, name: str) -> int:
    address = site.vip.replace(":", "_")
    listed = site.lab.run("gw", ["nft", "list", "map", "inet", "pointsman", f"s/{address}-{COAP}/{name}"])
    return listed.stdout.count("expires")


@only_on("nftables", because="it looks into nftables' maps")
def test_flow_whose_client_has_ended_it_is_kept_for_a_minute_and_comes_back_with_a_syn(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp")
    with servers(site, *NODES):
        first = Connection(site)
        port, node = first.port, first.node
        assert (remembered(site, "flows"), remembered(site, "closing")) == (1, 0)
        first.socket.shutdown(socket.SHUT_WR)
        wait_for(lambda: (remembered(site, "flows"), remembered(site, "closing")) == (0, 1))
        site.order("drain", node)
        assert first.heard(1) == b"", "the node's FIN, and what acknowledges it"
        assert (remembered(site, "flows"), remembered(site, "closing")) == (0, 1)
        site.order("enable", node)
        first.reset()
        again = Connection(site, port)
        assert again.node == node
        assert (remembered(site, "flows"), remembered(site, "closing")) == (1, 0)
        again.reset()
        wait_for(lambda: (remembered(site, "flows"), remembered(site, "closing")) == (0, 1))
        site.order("drain", node)
        late = Connection(site, port)
        assert late.node != node
        assert (remembered(site, "flows"), remembered(site, "closing")) == (1, 0)
        late.reset()


@only_on("nftables", because="on XDP the error is rewritten and reaches the client (test_icmp_xdp.py)")
def test_icmp_error_that_quotes_a_node_is_suppressed(site: Site) -> None:
    hook = "type filter hook input priority 0;"
    rules = (
        f"table inet refuse {{ chain c {{ {hook} tcp dport {COAP} reject with icmpx admin-prohibited; }}; }}"
    )
    site.serve(nodes=1, protocol="tcp")
    site.lab.run("n1", ["nft", rules])
    try:
        handle = site.lab.socket("client", site.inet, socket.SOCK_STREAM)
        handle.settimeout(2 * QUIET)
        with (
            site.lab.capture("client", "eth0", outgoing=False) as capture,
            handle,
            pytest.raises(TimeoutError),
        ):
            handle.connect((site.vip, COAP))
    finally:
        site.lab.run("n1", ["nft", "delete table inet refuse"])
    assert showing_a_node(site.lab, capture) == []
    assert site.counted("icmp_suppressed") >= 1


def test_segment_of_no_connection_is_reset_by_a_node_and_remembered_by_nobody(site: Site) -> None:
    """What a scanner sends, or who comes back after the flow was forgotten."""
    site.serve(protocol="tcp")
    with servers(site, "n1", "n2"), connections(site, 1) as (connection,):
        site.pointsman("down")
        site.serve(protocol="tcp")
        site.order("disable", connection.node)
        with pytest.raises(ConnectionResetError):
            connection.echoes()
    assert site.counted("balanced") >= 1


def test_without_a_node_connections_are_not_answered(site: Site) -> None:
    site.serve(nodes=1, protocol="tcp")
    with servers(site, "n1"):
        site.order("disable", "n1")
        handle = site.lab.socket("client", site.inet, socket.SOCK_STREAM)
        handle.settimeout(QUIET)
        with handle, pytest.raises(TimeoutError):
            handle.connect((site.vip, COAP))
    assert site.counted("no_node") >= 1


@only_on("xdp", because="an error that would quote a node is suppressed on nftables (icmp_suppressed)")
@pytest.mark.parametrize("narrow", ["wan0", "lan0"])
def test_path_mtu_discovery_of_connections_works_both_ways(plane: str, family: int, narrow: str) -> None:
    """Both ends believe in 1500 bytes; the gateway has a route of less to one of them."""
    with own_site(plane, family, nodes=1) as site:
        far, to = {"wan0": ("client", "n1"), "lan0": ("n1", "client")}[narrow]
        route = [site.lab.address(far, family), "dev", narrow, "mtu", "lock", "1300"]
        site.lab.run("gw", ["ip", "route", "add", *route])
        site.serve(nodes=1, protocol="tcp")
        data = bytes(i % 251 for i in range(200_000))
        with servers(site, "n1"), connections(site, 1) as (connection,):
            sender = threading.Thread(target=connection.socket.sendall, args=(data,))
            sender.start()
            assert connection.heard(len(data)) == data
            sender.join()
            peer = {"n1": connection.socket.getsockname()[0], "client": site.vip}[to]
            assert ip(site.lab, to, "route", "get", peer)[0]["metrics"][0]["mtu"] == 1300
        assert site.counted("too_big") > 0
