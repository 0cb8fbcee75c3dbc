"""Mistakes in connection IDs and in the ids and weights of nodes.

Addresses: 192.0.2.x and 2001:db8::x are listeners, 10.0.0.x and fd00::x nodes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

Mistakes = Callable[[str], list[str]]
Changed = Callable[..., str]

CID = "{ offset = 0, bits = 8, length = 6 }"
NAMES = "1..63 letters, digits, dots, underscores or hyphens, the first a letter or digit"

CONNECTION_IDS = [
    (
        '"mbedtls"',
        'connection_id "mbedtls" is unknown; "californium" or { offset = 0, bits = 8, length = 6 }',
    ),
    ("8", 'connection_id 8 is an integer; "californium" or { offset = 0, bits = 8, length = 6 }'),
    ("{ offset = 0 }", "connection_id.bits is missing; 1..32"),
    ("{ offset = 0, bits = 33 }", "connection_id.bits 33 is out of range; 1..32"),
    ("{ offset = -1, bits = 8 }", "connection_id.offset -1 is out of range; bits from the start, 0..2039"),
    ("{ offset = 0, bits = 8, length = 0 }", "connection_id.length 0 is out of range; bytes, 1..255"),
    (
        "{ offset = 0, bits = 8, len = 6 }",
        "unknown key len in connection_id; did you mean length? Known here: offset, bits, length",
    ),
    (
        "{ offset = 44, bits = 8, length = 6 }",
        "offset 44 and bits 8 need 7 bytes and length is 6; length 7..255",
    ),
    (
        "{ offset = 2039, bits = 2, length = 255 }",
        "offset 2039 and bits 2 need 256 bytes and length is 255; length 255, and offset + bits at most 2040",
    ),
    (
        "{ offset = 2039, bits = 2 }",
        "offset 2039 and bits 2 end at bit 2041; at most 2040: a connection ID has up to 255 bytes",
    ),
]


@pytest.mark.parametrize(("new", "line"), CONNECTION_IDS)
def test_mistakes_in_connection_ids(new: str, line: str, mistakes: Mistakes, changed: Changed) -> None:
    assert mistakes(changed((CID, new))) == [f"g:9: service coaps: {line}"]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("id = 2", "id = 300", "g:16: service coaps, node n2: id 300 is out of range; 0..255 (8 bits)"),
        ("id = 2", "id = -1", "g:16: service coaps, node n2: id -1 is out of range; 0..255 (8 bits)"),
        (
            "id = 2",
            "id = 1",
            "g:16: service coaps, node n2: id 1 is taken by node n1 on line 10; one of its own, 0..255 "
            "(8 bits)",
        ),
        (
            "  id = 2\n",
            "",
            "g:14: service coaps, node n2: id is missing, which connection_id needs; 0..255 (8 bits)",
        ),
        (
            "id = 2",
            'id = "2"',
            'g:16: service coaps, node n2: id "2" is a string; an integer that the bits of connection_id '
            "can hold",
        ),
        (
            "id = 2",
            "id = 2\n  weight = 101",
            "g:17: service coaps, node n2: weight 101 is out of range; 0..100",
        ),
        ("id = 2", "id = 2\n  weight = nan", "g:17: service coaps, node n2: weight nan is a float; 0..100"),
        (
            "id = 2",
            "id = 2\n  weights = 1",
            "g:17: service coaps, node n2: unknown key weights; did you mean weight? "
            "Known here: name, address, id, weight, backup",
        ),
        (
            "id = 2",
            'id = 2\n  flow_timeout = "5m"',
            "g:17: service coaps, node n2: unknown key flow_timeout; a key of [[service]], "
            "to be written above the first [[service.node]]",
        ),
        ('name = "n2"', 'name = "n/2"', f'g:15: service coaps, node #2: name "n/2" is malformed; {NAMES}'),
        (
            'name = "n2"',
            'name = "n1"',
            'g:15: service coaps, node n1: name "n1" is taken by the node on line 11; a name of its own',
        ),
    ],
)
def test_mistakes_in_nodes(old: str, new: str, line: str, mistakes: Mistakes, changed: Changed) -> None:
    assert mistakes(changed((old, new))) == [line]


def test_ids_without_connection_id_are_refused_with_the_way_out(mistakes: Mistakes, changed: Changed) -> None:
    assert mistakes(changed((f"connection_id = {CID}\n", ""))) == [
        "g:11: service coaps, node n1: id 1 without connection_id; leave it out, or set connection_id",
        "g:15: service coaps, node n2: id 2 without connection_id; leave it out, or set connection_id",
    ]


def test_weights_of_zero_everywhere_are_refused_once(mistakes: Mistakes, changed: Changed) -> None:
    text = changed(("id = 1", "id = 1\n  weight = 0"), ("id = 2", "id = 2\n  weight = 0"))
    assert mistakes(text) == [
        "g:5: service coaps: weight is 0 on every node; at least one node of weight 1..100"
    ]
