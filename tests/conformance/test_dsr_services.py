"""What services have besides a way of forwarding holds where nodes answer by themselves: states, filter, affinity."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from tests.conformance.direct import DSR, listen, set_up
from tests.conformance.evidence import only_on, wait_for
from tests.conformance.junk import REASONS
from tests.conformance.site import COAP, COAPS, QUIET, Site, cid, flight5, hello
from tests.conformance.tcp import Connection, connections, servers

from pointsman.plan.verdicts import MEANINGS, Verdict

NODES = ("n1", "n2", "n3")
PING = bytes.fromhex("40000001")


def serve(
    site: Site, protocol: str, settings: str = "", *, nodes: Sequence[str] = NODES, more: str = ""
) -> None:
    site.serve(nodes=nodes, protocol=protocol, settings=f"{DSR}\n{settings}", more=more)


def start(
    site: Site, protocol: str, settings: str = "", *, nodes: Sequence[str] = NODES, more: str = ""
) -> None:
    """Apply a file with one service and prepare its nodes; those of UDP listen, too."""
    serve(site, protocol, settings, nodes=nodes, more=more)
    set_up(site, *nodes)
    if protocol != "tcp":
        listen(site, *nodes, port=COAPS if protocol == "dtls" else COAP)


def remembered(site: Site, name: str) -> int:
    """How many elements one of nftables' maps has."""
    table = ["ip" if site.family == 4 else "ip6", "pointsman"]
    return site.lab.run("gw", ["nft", "list", "map", *table, name]).stdout.count("expires")


def address_in(site: Site, network: int, host: int) -> str:
    return f"198.19.{network}.{host}" if site.family == 4 else f"2001:db8:19::{network:x}:{host:x}"


def reached(site: Site, network: int, hosts: range) -> set[str]:
    """The nodes that new flows from a network come to."""
    clients = [site.client(address_in(site, network, host)) for host in hosts]
    return {site.ask(client, PING, port=COAP).node for client in clients}


# TCP


@only_on("nftables", because="it looks into nftables' maps")
def test_flow_whose_client_has_ended_it_is_kept_for_a_minute_and_comes_back_with_a_syn(direct: Site) -> None:
    start(direct, "tcp")
    own = f"s/{direct.vip.replace(':', '_')}-{COAP}"

    def kept() -> tuple[int, int]:
        return remembered(direct, f"{own}/flows"), remembered(direct, f"{own}/closing")

    with servers(direct, *NODES, address=direct.vip):
        first = Connection(direct)
        port, node = first.port, first.node
        assert kept() == (1, 0)
        first.socket.shutdown(1)
        wait_for(lambda: kept() == (0, 1))
        direct.order("drain", node)
        assert first.heard(1) == b"", "the node's FIN, and what acknowledges it"
        assert kept() == (0, 1)
        direct.order("enable", node)
        first.reset()
        again = Connection(direct, port)
        assert again.node == node
        assert kept() == (1, 0)
        again.reset()
        wait_for(lambda: kept() == (0, 1))
        direct.order("drain", node)
        late = Connection(direct, port)
        assert late.node != node
        assert kept() == (1, 0)
        late.reset()


def test_disabled_node_gets_no_segment(direct: Site) -> None:
    start(direct, "tcp", nodes=("n1", "n2"))
    with servers(direct, "n1", "n2", address=direct.vip), connections(direct, 6) as found:
        gone = found[0].node
        direct.order("disable", gone)
        with pytest.raises(ConnectionResetError):  # another node knows nothing of it
            found[0].echoes()
        with connections(direct, 6) as late:
            assert {each.node for each in late} == {"n1", "n2"} - {gone}


@pytest.mark.parametrize("linger", ["", 'linger = "1m"'], ids=["without", "linger"])
def test_connections_to_a_removed_node_go_on_with_linger_alone(direct: Site, linger: str) -> None:
    start(direct, "tcp", linger, nodes=("n1", "n2"))
    with servers(direct, "n1", "n2", address=direct.vip), connections(direct, 24) as found:
        assert {each.node for each in found} == {"n1", "n2"}
        serve(direct, "tcp", linger, nodes=["n2"])
        for each in found:
            if each.node == "n2" or linger:
                assert each.echoes()
            else:
                with pytest.raises(ConnectionResetError):
                    each.echoes()
        with connections(direct, 8) as late:
            assert {each.node for each in late} == {"n2"}


@pytest.mark.parametrize("family", [4], ids=["ip4"])
@only_on("nftables", because="test_linger.py says it of both planes; here it is another table's chain")
def test_a_linger_is_refreshed_by_a_steady_sender_and_ends_by_itself(direct: Site) -> None:
    settings = 'linger = "3s"\nflow_timeout = "1s"'
    start(direct, "udp", settings, nodes=("n1", "n2"))
    client = direct.client()
    gone = direct.ask(client, PING, port=COAP).node
    serve(direct, "udp", settings, nodes=[{"n1": "n2", "n2": "n1"}[gone]])
    removed, stayed = time.monotonic(), 0.0
    while time.monotonic() < removed + 4.5:
        if direct.ask(client, PING, port=COAP).node == gone:
            stayed = time.monotonic() - removed
        time.sleep(0.2)
    assert 1.5 < stayed < 4.2


# affinity

BY_TURNS = 'scheduler = "round-robin"'
OF_NETWORK = f"{BY_TURNS}\naffinity = {{ ip4 = 24, ip6 = 112 }}"


def test_new_flows_of_a_network_go_to_one_node_as_long_as_it_takes_them(direct: Site) -> None:
    start(direct, "udp", OF_NETWORK)
    of_networks = [reached(direct, network, range(1, 4)) for network in range(1, 7)]
    assert all(len(nodes) == 1 for nodes in of_networks)
    assert set().union(*of_networks) == set(NODES)
    (first,) = of_networks[0]
    direct.order("drain", first)
    (second,) = reached(direct, 1, range(5, 8))
    assert second != first
    direct.order("enable", first)
    assert reached(direct, 1, range(9, 12)) == {second}


def test_control_without_affinity_flows_of_a_network_are_spread(direct: Site) -> None:
    start(direct, "udp", BY_TURNS)
    assert reached(direct, 1, range(1, 4)) == set(NODES)


@pytest.mark.parametrize("affine", [True, False])
def test_connections_of_one_client_stay_together_under_round_robin(direct: Site, *, affine: bool) -> None:
    start(direct, "tcp", f'{BY_TURNS}\naffinity = "client-address"' if affine else BY_TURNS)
    with servers(direct, *NODES, address=direct.vip), connections(direct, 6) as found:
        assert len({each.node for each in found}) == (1 if affine else 3)


# filter


def held(site: Site) -> dict[str, int]:
    """What the filter has had against packets so far."""
    found: dict[str, int] = {}
    for service in site.status()["services"]:
        for listener in service["listeners"]:
            for verdict, count in listener["counters"].items():
                if MEANINGS[Verdict(verdict)].of_filter and count["packets"]:
                    found[verdict] = found.get(verdict, 0) + count["packets"]
    return found


def translated(site: Site) -> str:
    """A service beside it that is translated, and has no filter."""
    return f"""[[service]]
name = "beside"
protocol = "dtls"
listen = ["{site.at(site.vip, 4433)}"]
[[service.node]]
name = "n1"
address = "{site.at(site.node_address("n1"), 4433)}"
"""


def test_a_filter_drops_and_counts_what_it_is_for(direct: Site) -> None:
    denied = address_in(direct, 9, 1)
    rules = f'[service.filter]\ndeny = ["{denied}"]\ndrop_source_ports = [6123]\n'
    start(direct, "dtls", nodes=("n1", "n2"), more=rules + translated(direct))
    client = direct.client()
    for payload in (hello(), hello(message_seq=1, cookie=b"c" * 20), flight5(), cid(1)):
        direct.ask(client, payload)
    assert held(direct) == {}
    for junk in REASONS.values():
        for payload in junk.values():
            client.sendto(payload, (direct.vip, COAPS))
    direct.client(denied).sendto(hello(), (direct.vip, COAPS))
    direct.client(port=6123).sendto(cid(1), (direct.vip, COAPS))
    assert direct.arrivals(wait=QUIET) == []
    wanted = {reason: len(junk) for reason, junk in REASONS.items()}
    assert held(direct) == wanted | {"denied": 1, "source_port": 1}


def test_control_a_monitor_counts_the_same_and_drops_nothing(direct: Site) -> None:
    start(direct, "dtls", nodes=("n1", "n2"), more='[service.filter]\nmode = "monitor"')
    client = direct.client()
    for junk in REASONS.values():
        for payload in junk.values():
            client.sendto(payload, (direct.vip, COAPS))
    every = sum(len(junk) for junk in REASONS.values())
    named = direct.counted("cid_unknown")  # some of the junk names no node
    assert len(direct.arrivals(every, wait=QUIET)) == every - named
    assert held(direct) == {reason: len(junk) for reason, junk in REASONS.items()}


@pytest.mark.parametrize(
    ("budget", "payload", "reason"),
    [
        ("hello = { per_prefix = 5, burst = 1 }", hello(), "hello_over_prefix"),
        ("hello = { total = 5, burst = 1 }", hello(), "hello_over_total"),
        ("hello = { per_node = 5, burst = 1 }", hello(), "hello_over_node"),
        ("cid = { per_prefix = 5, burst = 1 }", cid(1), "cid_over_prefix"),
        ("cid = { per_node = 5, burst = 1 }", cid(1), "cid_over_node"),
    ],
    ids=["hello-prefix", "hello-total", "hello-node", "cid-prefix", "cid-node"],
)
@only_on("nftables", because="test_filter.py says it of both planes; here they are other tables' sets")
def test_a_budget_lets_its_rate_pass(direct: Site, budget: str, payload: bytes, reason: str) -> None:
    start(direct, "dtls", nodes=("n1", "n2"), more=f"[service.filter]\n{budget}")
    client, begin = direct.client(), time.monotonic()
    for _ in range(40):
        client.sendto(payload, (direct.vip, COAPS))
    elapsed = time.monotonic() - begin
    passed = len(direct.arrivals(40, wait=QUIET))
    assert 5 <= passed <= 5 * (1 + elapsed) + 2
    assert held(direct) == {reason: 40 - passed}
    if reason == "cid_over_node":
        direct.ask(client, cid(2))
