"""Every mistake is one line that says where, what, and what is allowed.

Addresses: 192.0.2.x and 2001:db8::x are listeners, 10.0.0.x and fd00::x nodes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pointsman.config import parse
from pointsman.config.document import Document, ServiceTable
from pointsman.model import Protocol, abilities

Mistakes = Callable[[str], list[str]]
Changed = Callable[..., str]

NAMES = "1..63 letters, digits, dots, underscores or hyphens, the first a letter or digit"
SERVICE_NAMES = "1..31 lower-case letters, digits or hyphens, the first a letter"
DURATIONS = '"90s", "5m", "2h", "1d" or whole seconds; 1s..1d'
SERVICE_KEYS = ", ".join(ServiceTable.model_fields)
TOP_KEYS = ", ".join(Document.model_fields)
HEADER = 'protocol = "dtls"'
UDP_HEADER = 'protocol = "udp"'
GATEWAY_KEYS = "name, dataplane, interfaces, flow_memory, hash_seed"
INTERFACES = 'an array of interface names: interfaces = ["wan0", "lan0"]'

KEYS = [
    ('name = "edge-1"', "", f"g:1: gateway: name is missing; {NAMES}"),
    ('name = "edge-1"', 'name = ""', f"g:2: gateway: name is empty; {NAMES}"),
    ('name = "edge-1"', 'name = "edge/1"', f'g:2: gateway: name "edge/1" is malformed; {NAMES}'),
    (
        'name = "edge-1"',
        'name = "a\\u0000\\u001b[2J"',
        f'g:2: gateway: name "a\\x00\\x1b[2J" is malformed; {NAMES}',
    ),
    ('name = "edge-1"', "name = 1", f"g:2: gateway: name 1 is an integer; {NAMES}"),
    (
        'name = "edge-1"',
        'nme = "edge-1"',
        f"g:2: gateway: unknown key nme; did you mean name? Known here: {GATEWAY_KEYS}",
    ),
    (
        "hash_seed = 1",
        "hash-seed = 1",
        f"g:3: gateway: unknown key hash-seed; did you mean hash_seed? Known here: {GATEWAY_KEYS}",
    ),
    (
        "hash_seed = 1",
        "hash_seed = 0x100000000",
        "g:3: gateway: hash_seed 4294967296 is out of range; "
        "32 bits: 0x1234abcd, or its hexadecimal digits as a string",
    ),
    (
        "hash_seed = 1",
        'hash_seed = "secret"',
        'g:3: gateway: hash_seed "secret" is not a seed; '
        "32 bits: 0x1234abcd, or its hexadecimal digits as a string",
    ),
    (
        "hash_seed = 1",
        'hash_seed = 1\ndataplane = "ipvs"',
        'g:4: gateway: dataplane "ipvs" is unknown; "auto", "nftables" or "xdp"',
    ),
    (
        "hash_seed = 1",
        'hash_seed = 1\ninterfaces = "wan0"',
        f'g:4: gateway: interfaces "wan0" is a string; {INTERFACES}',
    ),
    (
        "hash_seed = 1",
        "hash_seed = 1\ninterfaces = [1]",
        f"g:4: gateway: interfaces holds an integer; {INTERFACES}",
    ),
    (
        "hash_seed = 1",
        'hash_seed = 1\ninterfaces = ["wan0", "eth0:1"]',
        f'g:4: gateway: interfaces "eth0:1" is malformed; {INTERFACES}',
    ),
    (
        "hash_seed = 1",
        "hash_seed = 1\nflow_memory = 7",
        "g:4: gateway: flow_memory 7 is out of range; 8..67108864",
    ),
    (
        "hash_seed = 1",
        'hash_seed = 1\nflow_memory = "1M"',
        'g:4: gateway: flow_memory "1M" is a string; 8..67108864',
    ),
    (
        "hash_seed = 1",
        "hash_seed = 1\nflow_timeout = 5",
        "g:4: gateway: unknown key flow_timeout; a key of [[service]]",
    ),
    ("[gateway]", 'title = "x"\n[gateway]', f"g:1: unknown key title; known here: {TOP_KEYS}"),
    ("[gateway]", '"a b" = 1\n[gateway]', f'g:1: unknown key "a b"; known here: {TOP_KEYS}'),
    ('name = "coaps"', 'name = "CoAPs"', f'g:6: service CoAPs: name "CoAPs" is malformed; {SERVICE_NAMES}'),
    ('name = "coaps"', "", f"g:5: service #1: name is missing; {SERVICE_NAMES}"),
    (
        'name = "coap"\n',
        'name = "coaps"\n',
        'g:20: service coaps: name "coaps" is taken by the service on line 6; a name of its own',
    ),
    (
        HEADER,
        'protocol = "sctp"',
        'g:7: service coaps: protocol "sctp" is unknown; "dtls", "udp" or "tcp"',
    ),
    (HEADER, "protocol = true", 'g:7: service coaps: protocol true is a boolean; "dtls", "udp" or "tcp"'),
    (
        HEADER,
        HEADER + '\nforward = "tunnel"',
        'g:5: service coaps: forward = "tunnel" without source; source = ["10.0.0.1"], an address of the gateway',
    ),
    (
        HEADER,
        HEADER + '\nforward = "tunnel"\nsource = "fd00::1"',
        "g:9: service coaps: source has no IPv4 address for listener 192.0.2.10:5684; "
        "an address of every family that the service listens on",
    ),
    (
        HEADER,
        HEADER + '\nforward = "tunnel"\nsource = ["192.0.2.10", "fd00::1"]',
        "g:9: service coaps: source 192.0.2.10 is a listener's address, which nodes have too and drop as a martian; "
        "another address of the gateway",
    ),
    (
        HEADER,
        HEADER + '\nforward = "dsr"\nsource = "10.0.0.1"',
        'g:9: service coaps: source with forward = "dsr"; leave it out; it is for forward = "full-nat" and "tunnel"',
    ),
    (
        HEADER,
        HEADER + '\nscheduler = "rr"',
        'g:8: service coaps: scheduler "rr" is unknown; "maglev", "random", "round-robin" or "least-connections"',
    ),
    (HEADER, HEADER + "\nid = 1", "g:8: service coaps: unknown key id; a key of [[service.node]]"),
    (
        HEADER,
        HEADER + "\nport = 5684",
        f"g:8: service coaps: unknown key port; did you mean listen? Known here: {SERVICE_KEYS}",
    ),
    (
        HEADER,
        HEADER + '\ncid_unknown = "pass"',
        'g:8: service coaps: cid_unknown "pass" is unknown; "drop" or "balance"',
    ),
    (
        HEADER,
        HEADER + '\nflow_timeout = "1w"',
        f'g:8: service coaps: flow_timeout "1w" is not a duration; {DURATIONS}',
    ),
    (
        HEADER,
        HEADER + '\nflow_timeout = "2d"',
        f'g:8: service coaps: flow_timeout "2d" is out of range; {DURATIONS}',
    ),
    (
        HEADER,
        HEADER + "\nflow_timeout = 0",
        f"g:8: service coaps: flow_timeout 0 is out of range; {DURATIONS}",
    ),
    (
        HEADER,
        HEADER + "\nflow_timeout = 1.5",
        f"g:8: service coaps: flow_timeout 1.5 is a float; {DURATIONS}",
    ),
    (
        HEADER,
        HEADER + "\nflow_timeout = 07:32:00",
        f"g:8: service coaps: flow_timeout 07:32:00 is a time; {DURATIONS}",
    ),
    (
        HEADER,
        HEADER + "\nflow_table_size = 0",
        "g:8: service coaps: flow_table_size 0 is out of range; 1..16777216",
    ),
    (
        HEADER,
        HEADER + "\nmaglev_table_size = 1000",
        "g:8: service coaps: maglev_table_size 1000 is not a prime; "
        "a prime, 251..1000003, the nearest is 997",
    ),
    (
        HEADER,
        HEADER + "\nmaglev_table_size = 13",
        "g:8: service coaps: maglev_table_size 13 is too small for 2 nodes; "
        "a prime, 251..1000003, the nearest is 251",
    ),
    (
        HEADER,
        HEADER + "\nmaglev_table_size = 0x" + "f" * 5000,
        "g:8: service coaps: maglev_table_size of 20000 bits "
        "is too large; a prime, 251..1000003, the nearest is 1000003",
    ),
    (
        UDP_HEADER,
        UDP_HEADER + '\nhandshake_timeout = "9s"',
        "g:22: service coap: handshake_timeout on a udp service; leave it out; flow_timeout is for udp",
    ),
    (
        UDP_HEADER,
        UDP_HEADER + '\ncid_unknown = "drop"',
        "g:22: service coap: cid_unknown without connection_id; "
        'leave it out, or use protocol = "dtls" with connection_id',
    ),
    (
        UDP_HEADER,
        UDP_HEADER + '\nconnection_id = "californium"',
        'g:22: service coap: connection_id on a udp service; leave it out, or use protocol = "dtls"',
    ),
    (
        UDP_HEADER,
        'protocol = "tcp"\nhandshake_timeout = "9s"',
        "g:22: service coap: handshake_timeout on a tcp service; leave it out; flow_timeout is for tcp",
    ),
]


def test_the_file_that_the_mistakes_are_made_in_has_none(good: str) -> None:
    assert parse(good, "g").warnings == ()


@pytest.mark.parametrize(("old", "new", "line"), KEYS)
def test_mistakes_in_keys(old: str, new: str, line: str, mistakes: Mistakes, changed: Changed) -> None:
    assert mistakes(changed((old, new))) == [line]


def test_what_one_plane_alone_carries_is_a_mistake_on_the_other(
    mistakes: Mistakes, changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks = {"nftables": frozenset({("protocol", Protocol.TCP)}), "xdp": frozenset[tuple[str, str]]()}
    monkeypatch.setattr(abilities, "_LACKS", lacks)

    def text(plane: str) -> str:
        return changed(
            ("hash_seed = 1", f'hash_seed = 1\ndataplane = "{plane}"'), (UDP_HEADER, 'protocol = "tcp"')
        )

    assert mistakes(text("nftables")) == [
        'g:22: service coap: protocol = "tcp" is not carried by dataplane "nftables" in this version; '
        'dataplane = "xdp" or "auto"'
    ]
    for plane in ("xdp", "auto"):
        assert parse(text(plane), "g").gateway.services[1].protocol is Protocol.TCP


def test_a_misspelt_connection_id_is_not_also_missing(mistakes: Mistakes, changed: Changed) -> None:
    (line,) = mistakes(changed(("connection_id", "conection_id")))
    assert line.startswith("g:9: service coaps: unknown key conection_id; did you mean connection_id?")


def test_sections_in_the_wrong_brackets_are_told_the_right_ones(mistakes: Mistakes, good: str) -> None:
    one_service = good[: good.index('[[service]]\nname = "coap"\n')]
    assert mistakes(one_service.replace("[[service]]", "[service]")) == [
        "g:5: service is a table; [[service]] in double brackets, one for each service"
    ]
    assert mistakes(good.replace("[gateway]", "[[gateway]]")) == [
        'g:1: gateway is an array; [gateway] in single brackets, with name = "edge-1"'
    ]
    first_node_only = good.replace('  [[service.node]]\n  name = "n2"\n  address = "10.0.0.12"\n', "")
    assert mistakes(
        first_node_only.replace(
            '[[service.node]]\n  name = "n1"\n  address', '[service.node]\n  name = "n1"\n  address'
        )
    ) == ["g:23: service coap: node is a table; [[service.node]] in double brackets, one for each server"]
    assert mistakes('[gateway]\nname = "a"\n[[node]]\nname = "n1"\n') == [
        "g:1: no [[service]]; [[service]] in double brackets, one for each service",
        "g:3: unknown key node; [[service.node]], below its [[service]]",
    ]


def test_an_empty_file_lacks_both_sections(mistakes: Mistakes) -> None:
    for text in ("", "\n\n", "# nothing yet"):
        assert mistakes(text) == [
            'g:1: no [gateway]; [gateway] in single brackets, with name = "edge-1"',
            "g:1: no [[service]]; [[service]] in double brackets, one for each service",
        ]


def test_a_service_without_nodes_is_refused(mistakes: Mistakes) -> None:
    for nodes in ("", "node = []"):
        lines = mistakes(
            '[gateway]\nname = "a"\n[[service]]\nname = "s"\nprotocol = "udp"\nlisten = '
            f'["192.0.2.1:1"]\n{nodes}'
        )
        assert lines == [
            "g:3: service s: no [[service.node]]; [[service.node]] in double brackets, one for each server"
        ]


def test_sections_of_no_table_at_all(mistakes: Mistakes) -> None:
    assert mistakes("gateway = 1\nservice = [1, []]") == [
        'g:1: gateway 1 is an integer; [gateway] in single brackets, with name = "edge-1"',
        "g:2: service #1: service holds an integer; [[service]] in double brackets, one for each service",
        "g:2: service #2: service holds an array; [[service]] in double brackets, one for each service",
    ]


def test_too_many_nodes_for_one_service_and_for_the_file(mistakes: Mistakes) -> None:
    nodes = "\n".join(
        f'{{ name = "n{index}", address = "10.{index >> 16}.{index >> 8 & 255}.{index & 255}" }},'
        for index in range(10001)
    )
    services = "".join(
        f'[[service]]\nname = "s{index}"\nprotocol = "udp"\nlisten = ["192.0.2.1:{index + 1}"]\nnode = '
        f"[{nodes}]\n"
        for index in range(7)
    )
    lines = mistakes(f'[gateway]\nname = "a"\n{services}')
    assert lines[0] == "g:3: service s0: 10001 nodes are too many; at most 10000"
    assert lines[-1] == "g:65566: service s6, node n5529: 70007 nodes in the file; at most 65535"
    assert len(lines) == 8


def test_all_mistakes_of_a_file_come_at_once_by_line_and_none_twice(
    mistakes: Mistakes, changed: Changed
) -> None:
    text = changed(
        ('name = "edge-1"', 'nme = "edge-1"'),
        (HEADER, 'protocol = "sctp"'),
        ('"192.0.2.10:5684"', '"192.0.2.10"'),
        ("bits = 8", "bits = 80"),
        ('name = "n1"', 'name = "n 1"'),
        ("id = 2", "id = 2\n  weights = 3"),
        ('"fd00::12"', '"fd00::/12"'),
        (UDP_HEADER, UDP_HEADER + "\nmaglev_table_size = 6"),
        ('"10.0.0.12"\n', '"fd00::12"\n'),
    )
    lines = [line.split(":")[1] for line in mistakes(text)]
    assert lines == ["2", "7", "8", "9", "11", "17", "18", "23", "30"]
