"""The structs of plan/xdp/abi.py lie as the compiler has laid out those of bpf/abi.h."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from tests.unit.plan.xdp import btf

from pointsman.model import Protocol
from pointsman.plan.verdicts import MEANINGS, Scope, Verdict
from pointsman.plan.xdp import abi, abi_filter
from pointsman.wire import dtls, records

ROOT = Path(__file__).parents[4]
OBJECT = ROOT / "src/pointsman/programs/pointsman.bpf.o"
STRUCTS: dict[str, Any] = {
    "config": abi.Config,
    "listener": abi.Listener,
    "node": abi.Node,
    "reply": abi.Reply,
    "port": abi.Port,
    "block": abi.Block,
    "translation": abi.Translation,
    "shortcut": abi.Shortcut,
    "event": abi.Event,
    "filter_rule": abi_filter.FilterRule,
}
OTHER_NAMES = {
    "code": "verdict",
    "flow_base": "base",
    "flow_mask": "mask",
    "flow_pairs": "pairs",
    "flow_ways": "ways",
}

pytestmark = pytest.mark.skipif(not OBJECT.exists(), reason="`make programs` has not been run")


@pytest.fixture(scope="module")
def types() -> btf.Btf:
    return btf.read(OBJECT)


def flattened(types: btf.Btf, name: str) -> Iterator[tuple[str, int, int]]:
    """Members with those of an embedded flow_table in its place, and arrays of stamps one by one."""
    for member, (offset, size) in types.struct(name)[1].items():
        if member == "flows":
            yield from ((inner, offset + at, own) for inner, at, own in flattened(types, "flow_table"))
        elif name == "filter_rule" and size == 16 and member != "mask6":
            yield from (
                (f"{member}_{inner}", offset + at, own) for inner, at, own in flattened(types, "budget")
            )
        elif member == "stamp":
            yield from ((f"stamp{each}", offset + each * size // 2, size // 2) for each in range(2))
        else:
            yield member, offset, size


def offsets(kind: Any) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of a dataclass's fields by its format; padding is no field."""
    parts = re.findall(r"(\d*)([A-Za-z])", kind.FORMAT.format)
    sizes = {"Q": 8, "I": 4, "H": 2, "B": 1}
    at, names = 0, iter(fields(kind))
    for count, code in parts:
        number = int(count or 1)
        if code == "x":
            at += number
        elif code == "s":
            yield next(names).name, at, number
            at += number
        else:
            for _ in range(number):
                yield next(names).name, at, sizes[code]
                at += sizes[code]


@pytest.mark.parametrize("name", STRUCTS)
def test_structs_have_the_compilers_size(types: btf.Btf, name: str) -> None:
    assert STRUCTS[name].FORMAT.size == types.struct(name)[0]


@pytest.mark.parametrize("name", STRUCTS)
def test_fields_are_where_the_compiler_put_them(types: btf.Btf, name: str) -> None:
    compiled = list(flattened(types, name))
    named = {member for member, _, _ in compiled}
    ours = [
        (field if field in named else OTHER_NAMES.get(field, field), at, size)
        for field, at, size in offsets(STRUCTS[name])
    ]
    assert ours == [row for row in compiled if row[0] != "zeros"]


@pytest.mark.parametrize(
    ("constant", "name", "member"),
    [
        (abi.Config.ACTIVE, "config", "active"),
        (abi.Config.DIRTY, "config", "dirty"),
        (abi.Config.MULTIPLIER, "config", "port_multiplier"),
        (abi.Config.GENERATION, "config", "next_hop_generation"),
        (abi.Config.SAMPLE, "config", "sample"),
        (abi.Config.STAMPS, "config", "stamp"),
        (abi.Listener.FLAGS_OFFSET, "listener", "flags"),
        (abi.Reply.FLAGS_OFFSET, "reply", "flags"),
    ],
)
def test_offsets_that_are_written_by_themselves(
    types: btf.Btf, constant: int, name: str, member: str
) -> None:
    assert types.struct(name)[1][member][0] == constant


@pytest.mark.parametrize(
    ("constant", "name"),
    [
        (abi.HOT_SIZE, "hot"),
        (abi.LISTENER_COUNTS_SIZE, "listener_counts"),
        (abi.GATEWAY_COUNTS_SIZE, "gateway_counts"),
        (abi.BUCKET_SIZE, "bucket"),
        (abi.DESTINATION_SIZE, "destination"),
        (abi.COUNTER.size, "counter"),
        (len(abi.endpoint_key(IPv6Address("::1"), 1, 17)), "endpoint_key"),
        (2 * abi.Listener.FORMAT.size, "listener_versions"),
        (2 * abi.Reply.FORMAT.size, "reply_versions"),
        (abi_filter.BUDGETS_SIZE, "buckets"),
        (abi_filter.PEER_SIZE, "peer"),
        (abi_filter.GUARDED.size, "guarded"),
        (len(abi_filter.prefix_key(1, 0, bytes(4))), "prefix4_key"),
        (len(abi_filter.prefix_key(1, 0, bytes(16))), "prefix6_key"),
    ],
)
def test_sizes_of_map_elements(types: btf.Btf, constant: int, name: str) -> None:
    assert types.struct(name)[0] == constant


@pytest.mark.parametrize("name", ["hot", "destination", "bucket", "node"])
def test_elements_fill_whole_cache_lines(types: btf.Btf, name: str) -> None:
    assert types.struct(name)[0] % 64 == 0


@pytest.mark.parametrize(
    ("ours", "scope"),
    [
        (abi.NODE_VERDICTS, Scope.NODE),
        (abi.LISTENER_VERDICTS, Scope.LISTENER),
        (abi.GATEWAY_VERDICTS, Scope.GATEWAY),
    ],
)
def test_verdicts_are_numbered_alike(ours: tuple[Verdict, ...], scope: Scope) -> None:
    prefix = scope.value.upper()
    text = (ROOT / "bpf/verdicts.h").read_text()
    body = re.search(rf"enum {scope.value}_verdict {{(.*?)}}", text, re.DOTALL)
    assert body
    listed = re.findall(rf"^\s*{prefix}_(\w+?)(?: = (\d+))?,", body[1], re.MULTILINE)
    assert [name for name, _ in listed if name != "VERDICTS"] == [each.name for each in ours]
    assert listed[0][1] == "0"


def test_every_verdict_of_the_plane_has_a_counter() -> None:
    counted = {*abi.NODE_VERDICTS, *abi.LISTENER_VERDICTS, *abi.GATEWAY_VERDICTS}
    assert counted == {
        verdict for verdict, meaning in MEANINGS.items() if "xdp" in meaning.planes and not meaning.beside
    }


def test_scopes_agree_with_the_words() -> None:
    for scope, own in (
        (Scope.NODE, abi.NODE_VERDICTS),
        (Scope.LISTENER, abi.LISTENER_VERDICTS),
        (Scope.GATEWAY, abi.GATEWAY_VERDICTS),
    ):
        assert {MEANINGS[each].scope for each in own} == {scope}


def defined(name: str) -> int:
    for path in sorted((ROOT / "bpf").rglob("*.h")):
        if found := re.search(rf"^#define {name} (0x[0-9a-f]+|\d+)", path.read_text(), re.MULTILINE):
            return int(found[1], 0)
    raise AssertionError(f"{name} is defined nowhere")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("ABI_VERSION", abi.VERSION),
        ("PORTS", abi.PORTS),
        ("STAMP_BYTES", abi.STAMP_BYTES),
        ("EVENT_BYTES", abi.EVENT_BYTES),
        ("FLOW_TICK_SHIFT", abi.FLOW_TICK_SHIFT),
        ("FLOW_WAYS", abi.FLOW_WAYS),
        ("PROBES", abi.PROBES),
        ("BUCKET_SHIFT", abi_filter.BUCKET_SHIFT),
        ("SOURCE_PORT_WORDS", abi_filter.SOURCE_PORT_WORDS),
        ("GUARD_PORT_WORDS", abi_filter.GUARD_PORT_WORDS),
        ("RECORDS_MOST", records.MOST),
        ("RECORDS_REACH", records.REACH),
        ("RECORD_BODY_MOST", dtls.MAX_BODY_SIZE),
        ("RECORD_SEALED_LEAST", records.SEALED_LEAST),
        *((f"RULE_{flag.name}", flag.value) for flag in abi_filter.RuleFlag),
        *((f"PREFIX_{says.name}", says.value) for says in abi_filter.PrefixSays),
        *((f"RECORD_{kind.name}", kind.value) for kind in records.Kind),
        *((f"LISTENER_{flag.name}", flag.value) for flag in abi.ListenerFlag),
        *((f"NODE_{flag.name}", flag.value) for flag in abi.NodeFlag),
        *((f"REPLY_{flag.name}", flag.value) for flag in abi.ReplyFlag),
        *((f"PORT_{flag.name}", flag.value) for flag in abi.PortFlag),
        *((f"CONFIG_{flag.name}", flag.value) for flag in abi.ConfigFlag),
    ],
)
def test_constants_are_the_same(name: str, ours: int) -> None:
    assert defined(name) == ours


def enumerated(name: str) -> list[str]:
    for path in sorted((ROOT / "bpf").rglob("*.h")):
        if found := re.search(rf"enum {name} {{(.*?)\n}}", path.read_text(), re.DOTALL):
            return re.findall(r"^\s*([A-Z_0-9]+)(?: = \d+)?,", found[1], re.MULTILINE)
    raise AssertionError(f"there is no enum {name}")


def test_tail_called_programs_are_numbered_alike() -> None:
    assert enumerated("tail") == [*(f"TAIL_{each.name}" for each in abi.Tail), "TAILS"]
    assert [each.value for each in abi.Tail] == list(range(len(abi.Tail)))
    assert abi.TAIL_PROGRAMS.keys() == set(abi.Tail)


def test_protocols_are_numbered_alike() -> None:
    assert enumerated("protocol") == [f"PROTOCOL_{each.name}" for each in abi.Kind]
    assert abi.KINDS.keys() == set(Protocol)


@pytest.mark.parametrize("name", ["config", "listener", "reply", "port", "filter_rule"])
def test_what_is_packed_unpacks(name: str) -> None:
    kind = STRUCTS[name]
    numbers = kind.FORMAT.unpack(bytes(index % 251 for index in range(kind.FORMAT.size)))
    assert kind.unpack(kind(*numbers).pack()) == kind(*numbers)
