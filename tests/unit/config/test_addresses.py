"""Mistakes in the addresses of listeners and nodes, and in how they meet.

Addresses: 192.0.2.x and 2001:db8::x are listeners, 10.0.0.x and fd00::x nodes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pointsman.config import parse

Mistakes = Callable[[str], list[str]]
Changed = Callable[..., str]

FORMS = 'an IP address with its port: "192.0.2.10:5684" or "[2001:db8::10]:5684"'
NODE_FORMS = 'an IP address: "10.0.0.11" or "fd00::11", with a port "10.0.0.11:15684" or "[fd00::11]:15684"'
UDP_LISTEN = '["192.0.2.10:5683"]'

LISTENERS = [
    ('"192.0.2.10"', 'listen "192.0.2.10" has no port; with a port: "192.0.2.10:5684"'),
    ('"2001:db8::10"', 'listen "2001:db8::10" has no port; with a port: "[2001:db8::10]:5684"'),
    ('"[2001:db8::10]"', 'listen "[2001:db8::10]" has no port; with a port: "[2001:db8::10]:5684"'),
    ('"*:5683"', f'listen "*:5683" is not an IP address; {FORMS}'),
    ('":5683"', f'listen ":5683" has no address; {FORMS}'),
    ('""', f'listen "" has no address; {FORMS}'),
    ('"coap.example:5683"', f'listen "coap.example:5683" is a name, which is not looked up; {FORMS}'),
    ('"192.0.2.10/24:5683"', f'listen "192.0.2.10/24:5683" has a prefix length; without it, {FORMS}'),
    ('"192.0.2.010:5683"', f'listen "192.0.2.010:5683" is not an IP address; {FORMS}'),
    ('"[192.0.2.10]:5683"', f'listen "[192.0.2.10]:5683" has an IPv4 address in brackets; {FORMS}'),
    ('"192.0.2.10:0"', 'listen "192.0.2.10:0" has a port that is out of range; 1..65535'),
    ('"192.0.2.10:65536"', 'listen "192.0.2.10:65536" has a port that is out of range; 1..65535'),
    (
        f'"192.0.2.10:{"9" * 5000}"',
        f'listen "192.0.2.10:{"9" * 49}..." has a port that is out of range; 1..65535',
    ),
    ('"192.0.2.10:coap"', 'listen "192.0.2.10:coap" has no number for a port; a port, 1..65535'),
    ('"0.0.0.0:5683"', 'listen "0.0.0.0:5683" is the unspecified address; a unicast address of one machine'),
    ('"[::]:5683"', 'listen "[::]:5683" is the unspecified address; a unicast address of one machine'),
    (
        '"0.1.2.3:5683"',
        'listen "0.1.2.3:5683" is an address of 0.0.0.0/8, which no machine can have; '
        "a unicast address of one machine",
    ),
    ('"127.0.0.1:5683"', 'listen "127.0.0.1:5683" is a loopback address; a unicast address of one machine'),
    (
        '"224.0.1.187:5683"',
        'listen "224.0.1.187:5683" is a multicast address; a unicast address of one machine',
    ),
    (
        '"255.255.255.255:5683"',
        'listen "255.255.255.255:5683" is the broadcast address; a unicast address of one machine',
    ),
    (
        '"[fe80::1]:5683"',
        'listen "[fe80::1]:5683" is a link-local address, which has no meaning beyond its link; '
        "a unicast address of one machine",
    ),
    (
        '"[2001:db8::1%wan0]:5683"',
        'listen "[2001:db8::1%wan0]:5683" is an address with a zone; a unicast address of one machine',
    ),
    (
        '"[::ffff:192.0.2.10]:5683"',
        'listen "[::ffff:192.0.2.10]:5683" is an IPv4 address mapped into IPv6; '
        "a unicast address of one machine",
    ),
    (
        "5683",
        'listen holds an integer; an array of addresses: listen = ["192.0.2.10:5684", "[2001:db8::10]:5684"]',
    ),
    (
        "{ port = 5683 }",
        "unknown key port in listen; did you mean address? Known here: address, interface, node_port",
    ),
    (
        '{ address = "192.0.2.10:5683", node_port = 0 }',
        "listen.node_port 0 is out of range; a port, 1..65535",
    ),
    (
        '{ address = "192.0.2.10:5683", interface = "eth0:1" }',
        'listen.interface "eth0:1" is malformed; '
        "the name of a network interface: 1..15 characters, none of them blank, / or :",
    ),
    (
        '{ address = "192.0.2.10:5683", interface = "an-interface-too-long" }',
        'listen.interface "an-interface-too-long" is malformed; '
        "the name of a network interface: 1..15 characters, none of them blank, / or :",
    ),
    ('{ address = "192.0.2.10:5683", interface = ".." }', 'interface ".." is no interface name'),
    (
        '"192.0.2.10:5684"',
        "listener 192.0.2.10:5684 is service coaps's already, on line 8; "
        "each address and port once in the file",
    ),
    (
        '"192.0.2.10:5683", "192.0.2.10:5683"',
        "listener 192.0.2.10:5683 is this service's already, on line 22; "
        "each address and port once in the file",
    ),
    (
        '{ address = "192.0.2.10:5683", interface = "a" }, { address = "192.0.2.10:5685", interface = "b" }',
        'interface "b" is to carry 192.0.2.10, which "a" carries by line 22; one interface for one address',
    ),
    ("", "listen is empty; an address with its port for each family that is served"),
]

NODES = [
    ('"node1.example"', f'address "node1.example" is a name, which is not looked up; {NODE_FORMS}'),
    ('"10.0.0"', f'address "10.0.0" is not an IP address; {NODE_FORMS}'),
    ('"10.0.0.12:0"', 'address "10.0.0.12:0" has a port that is out of range; 1..65535'),
    (
        '"169.254.1.1"',
        'address "169.254.1.1" is a link-local address, which has no meaning beyond its link; '
        "a unicast address of one machine",
    ),
    (
        '["10.0.0.12", "10.0.0.13"]',
        'address "10.0.0.13" is a second one of IPv4; '
        "one of each family; another server is another [[service.node]]",
    ),
    (
        '"fd00::12"',
        "no IPv4 address for listener 192.0.2.10:5683; "
        "an address of every family that the service listens on",
    ),
    ("[]", "address is empty; one address of each family that the service listens on"),
    (
        "12",
        'address 12 is an integer; "10.0.0.11", "10.0.0.11:15684", or an array of one address of each family',
    ),
    (
        "[12]",
        'address holds an integer; "10.0.0.11", "10.0.0.11:15684", or an array of one address of each family',
    ),
    (
        '"192.0.2.10"',
        "address 192.0.2.10 is that of listener 192.0.2.10:5684 on line 8; "
        "an address of a server behind the gateway",
    ),
    (
        '"10.0.0.11:5683"',
        "address 10.0.0.11:5683 is that of node n1 on line 25; an address of its own, or a port of its own",
    ),
]


@pytest.mark.parametrize(("new", "line"), LISTENERS)
def test_mistakes_in_listeners(new: str, line: str, mistakes: Mistakes, changed: Changed) -> None:
    assert mistakes(changed((UDP_LISTEN, f"[{new}]"))) == [f"g:22: service coap: {line}"]


@pytest.mark.parametrize(("new", "line"), NODES)
def test_mistakes_in_node_addresses(new: str, line: str, mistakes: Mistakes, changed: Changed) -> None:
    text = changed(('"10.0.0.12"\n', f"{new}\n"))
    assert mistakes(text) == [f"g:28: service coap, node n2: {line}"]


def test_a_family_that_nodes_lack_is_named_with_the_listener(mistakes: Mistakes, changed: Changed) -> None:
    assert mistakes(changed(('["10.0.0.12", "fd00::12"]', '["10.0.0.12"]'))) == [
        "g:17: service coaps, node n2: no IPv6 address for listener [2001:db8::10]:5684; "
        "an address of every family that the service listens on"
    ]


WHY = "(docs/adr/0004-stateless-replies.md says why)"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            [("5684", "5684"), (UDP_LISTEN, '["192.0.2.11:5684"]')],
            "g:22: service coap: listener 192.0.2.11:5684 reaches node n1 at 10.0.0.11:5684 and 1 more, "
            "as does "
            "listener 192.0.2.10:5684 of service coaps on line 8, and replies would not tell which; "
            f"a node_port of its own for one of the listeners, or another port in the nodes' address {WHY}",
        ),
        (
            [(UDP_LISTEN, '["192.0.2.10:5683", "192.0.2.11:5683"]')],
            "g:22: service coap: listener 192.0.2.11:5683 reaches node n1 at 10.0.0.11:5683 and 1 more, "
            "as does "
            "listener 192.0.2.10:5683 on line 22, and replies would not tell which; "
            f"a node_port of its own for one of the listeners, or another port in the nodes' address {WHY}",
        ),
        (
            [(UDP_LISTEN, '["192.0.2.10:5683", "192.0.2.10:5685"]'), ('"10.0.0.12"\n', '"10.0.0.12:7"\n')],
            "g:22: service coap: listener 192.0.2.10:5685 reaches node n2 at 10.0.0.12:7, as does "
            "listener 192.0.2.10:5683 on line 22, and replies would not tell which; "
            f"no port in address, and a node_port of its own for one of the listeners {WHY}",
        ),
        (
            [('"10.0.0.12"\n', '"10.0.0.12:5684"\n')],
            "g:22: service coap: listener 192.0.2.10:5683 reaches node n2 at 10.0.0.12:5684, as does "
            "listener 192.0.2.10:5684 of service coaps on line 8, and replies would not tell which; "
            "another port "
            "in address for one of the services, or none there and a node_port of its own for one of the "
            f"listeners {WHY}",
        ),
    ],
)
def test_replies_that_could_be_of_two_listeners_are_refused(
    changes: list[tuple[str, str]], line: str, mistakes: Mistakes, changed: Changed
) -> None:
    assert mistakes(changed(*changes)) == [line]


def test_a_node_port_of_its_own_is_a_way_out(changed: Changed) -> None:
    parse(
        changed((UDP_LISTEN, '["192.0.2.10:5683", { address = "192.0.2.11:5683", node_port = 15683 }]')), "g"
    )


def beside_coaps(protocol: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Changes that have the second service listen where the first does, in its own protocol."""
    return (UDP_LISTEN, '["192.0.2.10:5684"]'), ('protocol = "udp"', f'protocol = "{protocol}"')


def test_tcp_and_udp_share_an_address_a_port_and_the_nodes(mistakes: Mistakes, changed: Changed) -> None:
    gateway = parse(changed(*beside_coaps("tcp")), "g").gateway
    first, second = (service.listeners[0].endpoint for service in gateway.services)
    assert first == second
    assert mistakes(changed(*beside_coaps("udp"))) == [
        "g:22: service coap: listener 192.0.2.10:5684 is service coaps's already, on line 8; "
        "each address and port once in the file"
    ]


def test_two_tcp_listeners_in_one_place_are_one_too_many(mistakes: Mistakes, changed: Changed) -> None:
    text = changed(
        (UDP_LISTEN, '["192.0.2.10:5683", "192.0.2.10:5683"]'), ('protocol = "udp"', 'protocol = "tcp"')
    )
    assert mistakes(text) == [
        "g:22: service coap: listener 192.0.2.10:5683 is this service's already, on line 22; "
        "each address and port once in the file"
    ]


def test_replies_of_two_tcp_listeners_are_told_apart_like_udps(mistakes: Mistakes, changed: Changed) -> None:
    text = changed(
        (UDP_LISTEN, '["192.0.2.10:5683", "192.0.2.11:5683"]'), ('protocol = "udp"', 'protocol = "tcp"')
    )
    (line,) = mistakes(text)
    assert line.startswith("g:22: service coap: listener 192.0.2.11:5683 reaches node n1 at 10.0.0.11:5683")
    assert line.endswith(WHY)
