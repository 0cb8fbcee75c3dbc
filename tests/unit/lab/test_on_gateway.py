"""Roles other than balancing to nodes' addresses: what a lab has for them, and what it says to try."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from pointsman.config import parse
from pointsman.lab import state
from pointsman.lab.errors import LabError
from pointsman.lab.fit import fit, servers
from pointsman.lab.on_gateway import carried, own_servers
from pointsman.lab.picture import picture
from pointsman.lab.topology import Topology
from pointsman.lab.tries import tries
from pointsman.model import Gateway

HEAD = '[gateway]\nname = "g"\nhash_seed = 1\n'
SERVICE = """
[[service]]
name = "s"
protocol = "udp"
listen = ["192.0.2.10:53"]
{more}
  [[service.node]]
  name = "a"
  address = "{first}"
  [[service.node]]
  name = "b"
  address = "{second}"
"""
GUARD = (
    '[[guard]]\nname = "dtls"\ninterface = "{}"\nports = [5684]\n[guard.filter]\nhello = {{ total = 9 }}\n'
)
MULTIHOME = '[[multihome]]\nname = "dns"\nmode = "{}"\nports = [53, "60-69"]\n{}\n'


def gateway(*parts: str) -> Gateway:
    return parse(HEAD + "".join(parts), "g").gateway


def service(more: str = "", first: str = "10.0.0.11", second: str = "10.0.0.12") -> str:
    return SERVICE.format(more=more, first=first, second=second)


def uplink(interface: str, more: str = "") -> str:
    return f'[[multihome.uplink]]\ninterface = "{interface}"\n{more}\n'


def multihome(*uplinks: str, mode: str = "address", settings: str = 'address = "10.255.0.53"') -> Gateway:
    return gateway(MULTIHOME.format(mode, settings), *uplinks)


def fitted(of: Gateway) -> Topology:
    return fit("t", of, nats=1, devices=1)


def tried(of: Gateway) -> list[tuple[str, str]]:
    """Machines and the words behind the program."""
    return [
        (machine, line.partition("pointsman.lab.ask ")[2] or line.partition("cidpeer ")[2])
        for machine, line in tries(of, fitted(of), "dev1")
    ]


def test_the_gateway_carries_the_sources_that_are_not_its_own() -> None:
    of = gateway(service('forward = "full-nat"\nsource = ["10.0.0.1", "10.0.0.2"]'))
    assert carried(of, fitted(of)) == ("address add 10.0.0.2/32 dev lan0",)
    of = multihome(uplink("wan0"), settings='address = ["10.255.0.53", "fd00:53::53"]')
    assert carried(of, fitted(of)) == (
        "address add 10.255.0.53/32 dev lo",
        "address add fd00:53::53/128 dev lo nodad",
    )


def test_nodes_that_answer_by_themselves_have_a_link_to_the_clients_and_servers_at_the_vip() -> None:
    of = gateway(service('forward = "dsr"'))
    assert fitted(of).direct
    assert not fitted(of).router
    assert [str(server.listen[0]) for server in servers(of)] == ["192.0.2.10:53"] * 2
    assert not fitted(gateway(service())).direct


def test_nodes_of_a_tunnel_are_behind_a_router_unless_they_are_on_the_link() -> None:
    settings = 'forward = "tunnel"\nsource = "10.0.0.1"'
    far = fitted(gateway(service(settings, "10.1.0.11", "10.2.0.11")))
    assert far.router
    assert far.machine("n2").interfaces[0].segment == "far"
    ways = {str(route.prefix): str(route.via) for route in far.machine("gw").routes}
    assert ways["10.2.0.11/32"] == "10.0.0.254"
    assert "lan0 -- r1 --" in picture(far)
    assert not fitted(gateway(service(settings, "10.0.0.11", "10.2.0.11"))).router
    with pytest.raises(LabError, match="nodes behind a router have no address on the lan segment"):
        Topology("t", nodes=1, router=True, node_addresses=(("10.0.0.11",),))


def test_a_guarded_server_is_on_the_gateway_and_junk_gets_no_answer() -> None:
    of = gateway(GUARD.format("wan0"))
    (server,) = own_servers(of, fitted(of))
    assert (server.machine, server.protocol) == ("gw", "dtls")
    assert [str(each) for each in server.listen] == ["198.51.100.1:5684", "[2001:db8:1::1]:5684"]
    assert tried(of) == [
        ("dev1", "client --connect 198.51.100.1:5684 --sessions 3 --requests 6 --report-ms 0"),
        ("dev1", "--unanswered udp 198.51.100.1 5684"),
    ]
    with pytest.raises(LabError, match="guard dtls: interface eth0 is none of a lab's"):
        fitted(gateway(GUARD.format("eth0")))


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        ("", True),
        ('protocol = "tcp"\nports = [80, 443]', True),
        ('from = "10.0.0.0/24"', True),
        ("ports = [22]\nprotocol = 'tcp'", False),
        ('from = "198.51.100.0/28"', False),
        ('from = "10.0.0.0/24"\nboth_ways = true', False),
    ],
)
def test_a_policy_is_tried_where_no_rule_may_let_it_in(rule: str, *, asked: bool) -> None:
    policy = '[forwarding]\npolicy = "drop"\ninterfaces = ["wan0", "lan0"]\n'
    of = gateway(service(), policy, f"[[forwarding.allow]]\n{rule}\n" if rule else "")
    assert (("dev1", "--unanswered tcp 10.0.0.11 22") in tried(of)) is asked


def test_nodes_without_ipv4_are_asked_by_ipv6() -> None:
    policy = '[forwarding]\npolicy = "drop"\ninterfaces = ["wan0", "lan0"]\n'
    only = service(first="fd00::11", second="fd00::12").replace("192.0.2.10:53", "[2001:db8::10]:53")
    assert tried(gateway(only, policy)) == [
        ("dev1", "udp 2001:db8::10 53 5"),
        ("dev1", "--unanswered tcp fd00::11 22"),
    ]


def test_uplinks_are_those_of_the_file_and_made_up_where_it_leaves_them_open() -> None:
    of = multihome(
        uplink("wan0", 'gateway = ["192.0.2.2", "2001:db8:a::1"]'),
        uplink(
            "lte0", 'address = ["203.0.113.0/24", "2001:db8:b::/56"]\ngateway = ["203.0.113.1", "fe80::1"]'
        ),
        uplink("dsl0", 'address = "203.0.114.9"'),
        uplink("fib0"),
    )
    found = fitted(of)
    assert [(world.own, world.routers) for world in found.worlds] == [
        (("192.0.2.1/24", "2001:db8:a::2/64"), ("192.0.2.2", "2001:db8:a::1")),
        (("203.0.113.2/24", "2001:db8:b::2/56"), ("203.0.113.1", "fe80::1")),
        (("203.0.114.9/24", "2001:db8:18:3::2/64"), ("203.0.114.1", "2001:db8:18:3::1")),
        (("198.18.4.2/24", "2001:db8:18:4::2/64"), ("198.18.4.1", "2001:db8:18:4::1")),
    ]
    assert [machine.name for machine in found.machines] == ["gw", *(f"client{i}" for i in range(1, 5))]
    assert tried(of)[:3] == [
        ("client1", "udp 192.0.2.1 53"),
        ("client1", "udp 2001:db8:a::2 53"),
        ("client2", "udp 203.0.113.2 53"),
    ]
    assert state.parse(state.dump(state.State(found))).topology == found
    drawn = picture(found).splitlines()
    assert drawn[:2] == ["  [gw] wan0 -- client1", "       lte0 -- client2"]


@pytest.mark.parametrize(
    ("mode", "settings", "addresses", "cgroup"),
    [
        ("address", 'address = "10.255.0.53"', ["10.255.0.53"], ""),
        ("socket", 'unit = "a-b.slice"', ["0.0.0.0", "::"], "a.slice/a-b.slice"),  # noqa: S104
    ],
)
def test_a_multihomed_server_is_bound_as_its_mode_says(
    mode: str, settings: str, addresses: list[str], cgroup: str
) -> None:
    of = multihome(uplink("wan0"), mode=mode, settings=settings)
    (server,) = own_servers(of, fitted(of))
    assert server.cgroup == cgroup
    assert [(each.address, each.port) for each in server.listen] == [
        (ip_address(address), port) for port in (53, 60) for address in addresses
    ]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([uplink("wan0"), service()], "either multihomed servers or services and guards"),
        ([uplink("enp123s0f4np0")], "uplink enp123s0f4np0: a lab's interfaces have names of at most 12"),
        (
            [uplink("wan0", 'address = "203.0.113.9"\ngateway = "192.0.2.1"')],
            "uplink wan0: in a lab the gateway 192.0.2.1 has to be in 203.0.113.0/24",
        ),
    ],
)
def test_what_no_lab_can_have_is_refused_in_a_line(parts: list[str], message: str) -> None:
    with pytest.raises(LabError, match=message):
        fitted(multihome(*parts))


def test_clients_beyond_uplinks_ask_from_behind_their_router() -> None:
    found = fitted(multihome(uplink("wan0")))
    client = found.machine("client1")
    assert {str(route.source) for route in client.routes} == {"198.19.1.7", "2001:db8:19:1::7"}
    networks = {ip_interface(own).network for own in found.worlds[0].own}
    assert {route.prefix for route in client.routes} == networks
