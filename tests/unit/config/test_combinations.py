"""Which keys of a service belong together: ranges of ports, sources, affinity, backup, linger, tunnels."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pointsman.config import parse
from pointsman.model import Affinity, AllDown, Forward, Gateway, Passive, PortRange, Scheduler, abilities

Mistakes = Callable[[str], list[str]]
Changed = Callable[..., str]

UDP = 'protocol = "udp"'
TCP = 'protocol = "tcp"'
DTLS = 'protocol = "dtls"'
LISTEN = '["192.0.2.10:5683"]'
BOTH = '["192.0.2.10:5683", "[2001:db8::10]:5683"]'
FULL_NAT = 'forward = "full-nat"\nsource = "10.0.0.1"'


@pytest.fixture(autouse=True)
def every_plane_carries_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs together does not depend on what a plane carries so far."""
    monkeypatch.setattr(
        abilities, "_LACKS", {plane: frozenset[tuple[str, str]]() for plane in abilities.PLANES}
    )


def udp(changed: Changed, *lines: str) -> str:
    return changed((UDP, "\n".join([UDP, *lines])))


def coap(text: str) -> Gateway:
    return parse(text, "g").gateway


WRONG = [
    (
        UDP,
        UDP + '\nsource = "10.0.0.1"',
        'g:22: service coap: source with forward = "nat"; leave it out; it is for forward = "full-nat" and "tunnel"',
    ),
    (
        UDP,
        UDP + '\nsource_ports = "2000-3000"',
        'g:22: service coap: source_ports with forward = "nat"; leave it out; it is for forward = "full-nat"',
    ),
    (
        UDP,
        UDP + '\nforward = "full-nat"',
        'g:19: service coap: forward = "full-nat" without source; source = ["10.0.0.1"], an address of the gateway',
    ),
    (
        UDP,
        UDP + '\nforward = "full-nat"\nsource = "fd00::1"',
        "g:23: service coap: source has no IPv4 address for listener 192.0.2.10:5683; an address of every family "
        "that the service listens on",
    ),
    (
        UDP,
        UDP + '\nforward = "full-nat"\nsource = "10.0.0.1:99"',
        "g:23: service coap: source 10.0.0.1 has a port; an address alone; source_ports has the ports",
    ),
    (
        UDP,
        UDP + '\nforward = "full-nat"\nsource = ["10.0.0.1", "10.0.0.1"]',
        "g:23: service coap: source 10.0.0.1 comes twice; each address once",
    ),
    (
        UDP,
        UDP + '\nforward = "full-nat"\nsource = "127.0.0.1"',
        'g:23: service coap: source "127.0.0.1" is a loopback address; a unicast address of one machine',
    ),
    (
        UDP,
        UDP + "\n" + FULL_NAT + '\nsource_ports = "2000-2010"',
        "g:24: service coap: source_ports has 11 ports; at least 64",
    ),
    (
        UDP,
        UDP + "\n" + FULL_NAT + '\nsource_ports = "3000-2000"',
        'g:24: service coap: source_ports "3000-2000" is no port or range of ports; '
        'a port or a range of ports: 5684, "6000-6010"; 1..65535, the lower first',
    ),
    (
        UDP,
        UDP + '\nforward = "full-nat"\nsource = "10.0.0.11"',
        "g:23: service coap: source 10.0.0.11 is the address of node n1 on line 25; an address of the gateway",
    ),
    (
        UDP,
        UDP + '\nforward = "full-nat"\nsource = "192.0.2.10"',
        "g:23: service coap: source 192.0.2.10 has the port 5684 in source_ports, which is that of the listener on "
        "line 8; another address, or source_ports without it",
    ),
    (
        DTLS,
        DTLS + "\n" + FULL_NAT.replace('"10.0.0.1"', '["10.0.0.1", "fd00::1"]'),
        'g:8: service coaps: forward = "full-nat" on a dtls service would need a port and its state for each peer, '
        'which connection IDs are there to avoid; "nat", "dsr" or "tunnel", or protocol = "udp"',
    ),
    (
        DTLS,
        DTLS + '\naffinity = "client-address"',
        "g:8: service coaps: affinity on a dtls service; leave it out; handshakes go by flow, sessions by "
        "connection ID",
    ),
    (
        DTLS,
        DTLS + '\nlinger = "9s"',
        "g:8: service coaps: linger on a dtls service; leave it out; handshake_timeout says how long a removed node "
        "is served",
    ),
    (
        DTLS,
        DTLS + '\nscheduler = "least-connections"',
        "g:8: service coaps: least-connections on a dtls service: sessions with connection IDs are not counted "
        'anywhere; "maglev", "random" or "round-robin"',
    ),
    (
        UDP,
        UDP + '\nscheduler = "random"\nmaglev_table_size = 1009',
        'g:23: service coap: maglev_table_size with scheduler = "random"; scheduler = "maglev"',
    ),
    (
        LISTEN,
        '[{ address = "192.0.2.10:1000-1999", node_port = 65000 }]',
        "g:22: service coap: node_port 65000 has no 1000 ports behind it; at most 64536",
    ),
    (
        '"192.0.2.10:5684"',
        '"192.0.2.10:5684-5685"',
        'g:8: service coaps: a range of ports on a dtls service; one port, or protocol = "udp"',
    ),
    (
        UDP,
        UDP + '\nforward = "tunnel"\nsource = ["10.0.0.1", "fd00::1"]\ngue_port = 99',
        'g:24: service coap: gue_port with encapsulation = "ipip"; encapsulation = "gue", or no gue_port',
    ),
    (
        UDP,
        UDP + '\nforward = "tunnel"\nsource = ["10.0.0.1", "fd00::1"]\nmss_clamp = true',
        "g:24: service coap: mss_clamp on a udp service; leave it out; only TCP has segments",
    ),
]


@pytest.mark.parametrize(("old", "new", "line"), WRONG)
def test_keys_that_do_not_belong_together(
    old: str, new: str, line: str, mistakes: Mistakes, changed: Changed
) -> None:
    assert mistakes(changed((old, new))) == [line]


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (UDP, UDP + '\naffinity = "source"', "client-address"),
        (UDP, UDP + "\naffinity = { ip4 = 7 }", "8..32"),
        (UDP, UDP + "\naffinity = { ip6 = 8 }", "16..128"),
        (UDP, UDP + '\naffinity = { timeout = "0s" }', "1s..1d"),
        (LISTEN, '["192.0.2.10:5700-5600"]', "lower"),
        (LISTEN, '["192.0.2.10:1000-2500"]', "1000"),
        (LISTEN, '["192.0.2.10:65000-66000"]', "65535"),
        (UDP, UDP + '\nlinger = "2d"', "1d"),
        ('"10.0.0.12"\n', '"10.0.0.12"\n  backup = "yes"\n', "true or false"),
    ],
)
def test_values_out_of_range_are_one_line(
    old: str, new: str, word: str, mistakes: Mistakes, changed: Changed
) -> None:
    (line,) = mistakes(changed((old, new)))
    assert word in line
    assert line.startswith("g:")


def test_a_nodes_own_port_has_room_for_the_whole_range(mistakes: Mistakes, changed: Changed) -> None:
    text = changed((LISTEN, '["192.0.2.10:8000-8099"]'), ('"10.0.0.11"\n', '"10.0.0.11:65500"\n'))
    (line,) = mistakes(text)
    assert "port 65500 has no 100 ports behind it; at most 65436" in line


def test_every_node_a_backup_is_a_mistake(mistakes: Mistakes, changed: Changed) -> None:
    text = changed(
        ('"10.0.0.11"\n', '"10.0.0.11"\n  backup = true\n'),
        ('"10.0.0.12"\n', '"10.0.0.12"\n  backup = true\n'),
    )
    assert mistakes(text) == [
        "g:19: service coap: every node is a backup; at least one node without backup = true"
    ]


def test_ranges_are_listeners_one_by_one(changed: Changed) -> None:
    text = changed(
        (LISTEN, '[{ address = "192.0.2.10:8000-8002", node_port = 9000 }]'),
        ('"10.0.0.12"\n', '"10.0.0.12:70"\n'),
    )
    service = coap(text).services[1]
    assert [one.endpoint.port for one in service.listeners] == [8000, 8001, 8002]
    ends = [[str(node.endpoint(one)) for one in service.listeners] for node in service.nodes]
    assert ends == [
        ["10.0.0.11:9000", "10.0.0.11:9001", "10.0.0.11:9002"],
        ["10.0.0.12:70", "10.0.0.12:71", "10.0.0.12:72"],
    ]


def test_ranges_that_meet_listen_twice(mistakes: Mistakes, changed: Changed) -> None:
    (line,) = mistakes(changed((LISTEN, '["192.0.2.10:8000-8002", "192.0.2.10:8002"]')))
    assert "listener 192.0.2.10:8002 is this service's already" in line


def test_everything_of_a_service_by_full_nat(changed: Changed) -> None:
    text = changed(
        (
            UDP,
            TCP
            + '\nforward = "full-nat"\nsource = ["10.0.0.1", "fd00::1", "10.0.0.2"]\nsource_ports = "9000-9999"\n'
            'scheduler = "round-robin"\naffinity = { ip4 = 24, timeout = "1m" }\nlinger = "30s"',
        ),
        (LISTEN, BOTH),
        ('"10.0.0.11"\n', '["10.0.0.11", "fd00::11"]\n'),
        ('"10.0.0.12"\n', '["10.0.0.12", "fd00::12"]\n  backup = true\n'),
        ('dtls"', 'dtls"'),
    )
    service = coap(text).services[1]
    assert (service.forward, service.scheduler, service.linger) == (
        Forward.FULL_NAT,
        Scheduler.ROUND_ROBIN,
        30,
    )
    assert service.affinity == Affinity(24, 64, 60)
    assert service.sources is not None
    assert service.sources.ports == PortRange(9000, 9999)
    assert [str(address) for address in service.sources.addresses] == ["10.0.0.1", "fd00::1", "10.0.0.2"]
    assert [node.backup for node in service.nodes] == [False, True]


def test_affinity_by_name_has_the_defaults(changed: Changed) -> None:
    assert coap(udp(changed, 'affinity = "client-address"')).services[1].affinity == Affinity()


def test_listeners_of_full_nat_reach_nodes_at_ports_of_their_own(
    mistakes: Mistakes, changed: Changed
) -> None:
    """As with nat: its answers are made the listener's by the node's address and port."""
    text = changed(
        (UDP, f"{UDP}\n{FULL_NAT}"),
        (LISTEN, '["192.0.2.10:5683", { address = "192.0.2.11:99", node_port = 5683 }]'),
    )
    (line,) = mistakes(text)
    assert "replies would not tell which" in line


def test_a_service_says_how_nodes_come_back_and_what_holds_when_all_are_down(changed: Changed) -> None:
    plain = coap(changed()).services[1]
    assert (plain.slow_start, plain.all_down) == (0, AllDown.DROP)
    own = coap(udp(changed, 'slow_start = "60s"', 'all_down = "keep"')).services[1]
    assert (own.slow_start, own.all_down) == (60, AllDown.KEEP)


def test_signs_are_shown_unless_the_service_says_otherwise(changed: Changed) -> None:
    assert coap(changed()).services[1].passive is Passive.SHOW
    assert coap(udp(changed, 'passive = "count"')).services[1].passive is Passive.COUNT


def test_signs_cannot_count_where_answers_pass_by(mistakes: Mistakes, changed: Changed) -> None:
    found = mistakes(udp(changed, 'passive = "count"', 'forward = "dsr"'))
    assert any('passive = "count" with forward = "dsr", whose answers pass by' in line for line in found)


def test_other_words_for_all_down_and_slow_start_are_mistakes(mistakes: Mistakes, changed: Changed) -> None:
    (line,) = mistakes(udp(changed, 'all_down = "backup"'))
    assert line == 'g:22: service coap: all_down "backup" is unknown; "drop" or "keep"'
    (line,) = mistakes(udp(changed, 'slow_start = "2d"'))
    assert line.startswith("g:22: service coap: slow_start ")
    assert line.endswith("0..1d")


def test_slow_start_with_one_node_that_takes_new_flows_is_a_warning(changed: Changed) -> None:
    slow = (UDP, f'{UDP}\nslow_start = "60s"')
    assert not parse(changed(slow), "g").warnings
    idle = ('name = "n2"\n  address = "10.0.0.12"', 'name = "n2"\n  weight = 0\n  address = "10.0.0.12"')
    found = [each.render("g") for each in parse(changed(slow, idle), "g").warnings]
    assert any("slow_start with one node that takes new flows" in line for line in found)
