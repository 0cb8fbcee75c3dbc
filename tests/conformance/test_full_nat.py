"""full-nat: nodes see an address of the gateway, and their answers come back whatever their routes are."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.conformance.evidence import only_on, warnings
from tests.conformance.site import COAP, QUIET, Site
from tests.conformance.tcp import connections, servers

PING = bytes.fromhex("40000001")
NODES = ("n1", "n2", "n3")
SOURCE = {4: ("10.0.0.200", "10.0.0.201"), 6: ("fd00::200", "fd00::201")}

pytestmark = pytest.mark.asks("forward", "full-nat")


def full_nat(site: Site, *, sources: int = 1, ports: str = "20000-29999", more: str = "") -> str:
    listed = ", ".join(f'"{address}"' for address in SOURCE[site.family][:sources])
    return f'forward = "full-nat"\nsource = [{listed}]\nsource_ports = "{ports}"\n{more}'


@contextmanager
def with_sources(site: Site) -> Iterator[None]:
    """The gateway's addresses for it, and nodes that know no way to the clients."""
    length = 32 if site.family == 4 else 128
    # Else the kernel takes it for the gateway's own connections: it is the longest match (RFC 6724, rule 8).
    flag = [] if site.family == 4 else ["nodad", "preferred_lft", "0"]
    routes = {}
    for address in SOURCE[site.family]:
        site.lab.run("gw", ["ip", "addr", "add", f"{address}/{length}", "dev", "lan0", *flag])
    for name in NODES:
        default = site.lab.run(name, ["ip", f"-{site.family}", "route", "show", "default"]).stdout.split()
        routes[name] = default[: default.index("dev") + 2]
        site.lab.run(name, ["ip", f"-{site.family}", "route", "del", *routes[name]])
    try:
        yield
    finally:
        for name, route in routes.items():
            site.lab.run(name, ["ip", f"-{site.family}", "route", "add", *route])
        for address in SOURCE[site.family]:
            site.lab.run("gw", ["ip", "addr", "del", f"{address}/{length}", "dev", "lan0"])
        site.lab.run("gw", ["conntrack", "-F"])


@pytest.fixture(autouse=True)
def routed(site: Site) -> Iterator[None]:
    with with_sources(site):
        yield


def test_connections_are_answered_without_a_route_and_nodes_see_the_source(site: Site) -> None:
    site.serve(nodes=3, protocol="tcp", settings=full_nat(site, more='scheduler = "round-robin"'))
    client = socket.inet_pton(site.inet, site.lab.address("client", site.family))
    with servers(site, *NODES) as there, site.lab.capture("n1", "eth0", outgoing=True) as capture:
        with connections(site, 12) as found:
            assert all(each.echoes() for each in found)
            assert Counter(each.node for each in found) == there.accepted == dict.fromkeys(NODES, 4)
            for verdict in ("balanced", "flow", "reply"):
                assert site.counted(verdict, "n1") >= 4, verdict
        frames = list(capture)
    source = socket.inet_pton(site.inet, SOURCE[site.family][0])
    assert [frame for frame in frames if client in frame.data] == []
    assert [frame for frame in frames if source in frame.data]
    assert (site.counted("balanced"), site.counted("not_tracked")) == (12, 0)


def test_control_nat_needs_the_route(site: Site) -> None:
    site.serve(nodes=1, protocol="tcp")
    handle = site.lab.socket("client", site.inet, socket.SOCK_STREAM)
    handle.settimeout(2 * QUIET)
    with servers(site, "n1"), handle, pytest.raises(TimeoutError):
        handle.connect((site.vip, COAP))


def test_datagrams_have_one_source_port_for_as_long_as_their_flow(site: Site) -> None:
    site.serve(nodes=2, protocol="udp", settings=full_nat(site))
    site.nodes(["n1", "n2"], COAP)
    clients = [site.client() for _ in range(8)]
    first = [site.ask(client, PING, port=COAP) for client in clients]
    assert {arrival.source[0] for arrival in first} == {SOURCE[site.family][0]}
    assert all(20000 <= arrival.source[1] <= 29999 for arrival in first)
    assert [site.ask(client, PING, port=COAP).source for client in clients] == [each.source for each in first]
    assert len({(arrival.node, arrival.source) for arrival in first}) == 8


def test_every_port_is_handed_out_once_for_each_node(site: Site) -> None:
    """64 ports, two nodes: 128 flows have 128 places, and the next one has none."""
    settings = full_nat(site, ports="20000-20063", more='scheduler = "round-robin"')
    site.serve(nodes=2, protocol="udp", settings=settings)
    site.nodes(["n1", "n2"], COAP)
    seen = set()
    for _ in range(128):
        arrival = site.send(site.client(), PING, port=COAP)
        seen.add((arrival.node, arrival.source[1]))
    assert len(seen) == 128
    site.dropped(site.client(), PING, port=COAP)


def test_several_sources_share_the_flows(site: Site) -> None:
    site.serve(nodes=1, protocol="udp", settings=full_nat(site, sources=2))
    site.nodes(["n1"], COAP)
    found = Counter(site.ask(site.client(), PING, port=COAP).source[0] for _ in range(48))
    assert found.keys() == set(SOURCE[site.family])
    assert min(found.values()) >= 4


def test_nodes_own_ports_and_changes_of_the_node_set(site: Site) -> None:
    ports = {"n1": 15683, "n2": 25683}
    settings = full_nat(site, more='linger = "1m"')
    site.serve(nodes=["n1", "n2"], protocol="tcp", ports=ports, settings=settings)
    with servers(site, *NODES, ports=ports), connections(site, 24) as found:
        site.serve(nodes=["n1", "n2", "n3"], protocol="tcp", ports=ports, settings=settings)
        site.order("drain", "n1")
        assert all(each.echoes() for each in found)
        with connections(site, 24) as late:
            assert {each.node for each in late} == {"n2", "n3"}
        site.serve(nodes=["n1", "n3"], protocol="tcp", ports=ports, settings=settings)
        assert all(each.echoes() for each in found), "a removed node lingers"
        assert {each.node for each in found} == {"n1", "n2"}
    assert site.counted("not_tracked") == 0


def test_connections_of_a_disabled_node_are_reset(site: Site) -> None:
    site.serve(nodes=2, protocol="tcp", settings=full_nat(site))
    with servers(site, "n1", "n2"), connections(site, 8) as found:
        gone = found[0].node
        site.order("disable", gone)
        for each in found:
            if each.node == gone:
                with pytest.raises(ConnectionResetError):
                    each.echoes()
            else:
                assert each.echoes()


def test_a_node_may_be_a_client_of_its_own_service(site: Site) -> None:
    """Its answers come back by the gateway's address, as everybody's."""
    site.lab.run(
        "n1",
        [
            "ip",
            f"-{site.family}",
            "route",
            "add",
            site.vip,
            "via",
            site.lab.address("gw", site.family, "lan0"),
        ],
    )
    site.serve(nodes=1, protocol="udp", settings=full_nat(site))
    site.nodes(["n1"], COAP)
    site.ask(site.client(machine="n1"), PING, port=COAP)
    site.lab.run("n1", ["ip", f"-{site.family}", "route", "del", site.vip])


def test_gateways_own_connections_to_nodes_are_its_own(site: Site) -> None:
    site.serve(nodes=1, protocol="tcp", settings=full_nat(site))
    with servers(site, "n1"):
        handle = site.lab.socket("gw", site.inet, socket.SOCK_STREAM)
        handle.settimeout(4)
        with handle:
            handle.connect((site.node_address("n1"), COAP))
            assert handle.recv(2) == b"n1"


def test_check_warns_of_sources_that_are_not_the_services_alone(site: Site) -> None:
    """The gateway's own address, without reserved ports; and one that nobody carries."""
    own = site.lab.address("gw", site.family, "lan0")
    settings = full_nat(site).replace(SOURCE[site.family][0], own).replace("20000-29999", "20000-65535")
    text = site.config(protocol="udp", settings=settings)
    (shared,) = [line for line in warnings(site.pointsman("check", str(site.file(text)))) if "source" in line]
    assert f"source {own}: the gateway's own connections to nodes come from {own} as well" in shared
    assert "ip_local_reserved_ports=" in shared
    text = text.replace(f'"{own}"', '"10.0.0.77"' if site.family == 4 else '"fd00::77"')
    (missing,) = [
        line for line in warnings(site.pointsman("check", str(site.file(text)))) if "source" in line
    ]
    assert "no interface carries" in missing
    text = site.config(protocol="udp", settings=full_nat(site))
    with site.lab.socket("gw", site.inet, socket.SOCK_DGRAM) as handle:
        handle.bind((SOURCE[site.family][0], 20022))
        (bound,) = [
            line for line in warnings(site.pointsman("check", str(site.file(text)))) if "source" in line
        ]
    assert "bound to port 20022" in bound
    assert [
        line for line in warnings(site.pointsman("check", str(site.file(text)))) if "source" in line
    ] == []


def test_others_masquerade_does_not_come_between(site: Site) -> None:
    hook = "type nat hook postrouting priority srcnat;"
    rules = f'table inet other {{ chain post {{ {hook} oifname "lan0" masquerade; }}; }}'
    site.lab.run("gw", ["nft", rules])
    try:
        site.serve(nodes=1, protocol="udp", settings=full_nat(site))
        site.nodes(["n1"], COAP)
        assert site.ask(site.client(), PING, port=COAP).source[0] == SOURCE[site.family][0]
    finally:
        site.lab.run("gw", ["nft", "delete table inet other"])


@only_on("nftables", because="xdp hands out ports itself, without connection tracking")
def test_who_rewrites_sources_before_is_told_of(site: Site) -> None:
    hook = "type nat hook postrouting priority 50;"
    site.lab.run("gw", ["nft", f'table inet other {{ chain post {{ {hook} oifname "lan0" masquerade; }}; }}'])
    try:
        text = site.config(nodes=1, protocol="udp", settings=full_nat(site))
        told = [line for line in warnings(site.apply(text)) if "rewrites sources" in line]
        assert told[0].startswith("chain inet other post rewrites sources before full-nat does")
        site.nodes(["n1"], COAP)
        site.dropped(site.client(), PING, port=COAP)
        assert site.counted("not_tracked") == 1
    finally:
        site.lab.run("gw", ["nft", "delete table inet other"])


@only_on("nftables", because="xdp hands out ports itself, without connection tracking")
def test_what_is_not_tracked_shows_no_client_to_a_node_and_is_counted(site: Site) -> None:
    rules = "table inet other { chain pre { type filter hook prerouting priority -299; notrack; }; }"
    site.serve(nodes=1, protocol="udp", settings=full_nat(site))
    site.nodes(["n1"], COAP)
    site.lab.run("gw", ["nft", rules])
    try:
        site.dropped(site.client(), PING, port=COAP)
    finally:
        site.lab.run("gw", ["nft", "delete table inet other"])
    assert site.counted("not_tracked") == 1
