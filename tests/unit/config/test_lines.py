"""The scanner finds the line of whatever tomllib reads."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.config.lines import DEEPEST, Lines, Path


def paths_of(value: Any, path: Path = ()) -> set[Path]:
    found = {path}
    if isinstance(value, dict):
        children: Any = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    else:
        children = ()
    for key, child in children:
        found |= paths_of(child, (*path, key))
    return found


SAMPLE = '''\
# a comment with [brackets] and "quotes
top = 1
"quoted key" = "a # that is none"
dotted . "inner.key" = 3

[gateway]   # a table
name = """
[not.a.table]
x = 1 \\""" y"""
text = \'\'\'
[[nor.this]]
\'\'\'
when = 1979-05-27 07:32:00

[[service]]
name = "a"
listen = [
  "one",   # ] not the end
  { address = "two", deep = { er = [1,
    2] } },
  [[], [3, 4]],
]
connection_id.offset = 0
connection_id.bits = 8

  [[service.node]]
  name = 'n1'
  "\\u0069d" = 1
  [[service.node]]
  name = "n2"

[[service]]
name = "b"
[service.extra]
key = ""
[[service.node]]
name = """"q""""
after = """"""
'''


def test_every_value_of_the_sample_is_found_and_nothing_else() -> None:
    assert set(Lines(SAMPLE).known) == paths_of(tomllib.loads(SAMPLE))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("top",), 2),
        (("quoted key",), 3),
        (("dotted",), 4),
        (("dotted", "inner.key"), 4),
        (("gateway",), 6),
        (("gateway", "name"), 7),
        (("gateway", "text"), 10),
        (("gateway", "when"), 13),
        (("service",), 15),
        (("service", 0), 15),
        (("service", 0, "listen", 0), 18),
        (("service", 0, "listen", 1, "address"), 19),
        (("service", 0, "listen", 1, "deep", "er", 1), 20),
        (("service", 0, "listen", 2, 1, 1), 21),
        (("service", 0, "connection_id"), 23),
        (("service", 0, "connection_id", "bits"), 24),
        (("service", 0, "node", 0), 26),
        (("service", 0, "node", 0, "id"), 28),
        (("service", 0, "node", 1, "name"), 30),
        (("service", 1), 32),
        (("service", 1, "extra", "key"), 35),
        (("service", 1, "node", 0), 36),
        (("service", 1, "node", 0, "after"), 38),
    ],
)
def test_line_of_a_path(path: Path, line: int) -> None:
    assert Lines(SAMPLE).of(path) == line


def test_a_path_that_is_missing_has_the_line_of_its_nearest_parent() -> None:
    lines = Lines(SAMPLE)
    assert lines.of(("service", 0, "node", 1, "weight")) == 29
    assert lines.of(("service", 0, "node", 7, "weight")) == 26
    assert lines.of(("nowhere", "at", "all")) == 1


def test_windows_line_ends_count_once() -> None:
    lines = Lines("a = 1\r\nb = '''\r\n'''\r\nc = 2\r\n")
    assert [lines.of((key,)) for key in "abc"] == [1, 2, 4]


def test_a_table_declared_after_its_child_has_its_own_line() -> None:
    assert Lines("[a.b]\n[a]\n").of(("a",)) == 2


def test_deep_paths_cost_no_more_than_shallow_ones() -> None:
    text = "[" + ".".join(["a"] * 2000) + "]\n" + ".".join(["b"] * 2000) + " = " + "[" * 200 + "]" * 200
    assert tomllib.loads(text)
    assert max(len(path) for path in Lines(text).known) <= DEEPEST
    assert Lines(text).of(("a",) * 1999) == 1


def test_text_that_is_not_toml_ends_the_scan_quietly() -> None:
    for text in (
        "[",
        "]",
        "=",
        "a = [",
        "a = {b",
        "a = [}]",
        '"',
        "'",
        "a = [1 \x00",
        "[[a",
        "{{{",
        "\x00",
        '"\\1"',
    ):
        assert Lines(text).of(("a", 0)) >= 1


BARE = st.text("abcXYZ019_-", min_size=1, max_size=4)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=6)
KEYS = st.one_of(BARE, TEXT.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'))
BLANK = st.sampled_from(["", " ", "\t"])
BREAK = st.sampled_from(["", " ", "\n", "# , ] } ' \"\n", "\r\n\n"])
SCALARS = st.one_of(
    st.sampled_from(
        [
            "1", "-0.5e3", "true", "inf", "0xdead_beef", "1979-05-27 07:32:00", "07:32:00", '""', "''",
            '""""""', "''''''", '"""a""b"""', '"""\n]"\\""""', "'''''x''\n'''''", '"\\\\"', '"# ]"', "'}\\'",
        ]
    ),
    TEXT.filter(lambda text: "'" not in text).map(lambda text: f"'{text}'"),
)  # fmt: skip
DOTTED = st.lists(KEYS, min_size=1, max_size=3).flatmap(
    lambda keys: BLANK.map(lambda blank: f"{blank}.{blank}".join(keys))
)


def _array(items: list[str], gap: str) -> str:
    return f"[{gap}{f'{gap},{gap}'.join(items)}{gap}]"


def _inline(pairs: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key} = {value}" for key, value in pairs) + "}"


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(_array, st.lists(inner, max_size=3), BREAK),
        st.lists(st.tuples(KEYS, inner), max_size=3).map(_inline),
    ),
    max_leaves=8,
)
STATEMENTS = st.one_of(
    st.tuples(DOTTED, BLANK, VALUES).map(lambda parts: f"{parts[0]} ={parts[1]}{parts[2]}"),
    DOTTED.map(lambda keys: f"[{keys}]"),
    DOTTED.map(lambda keys: f"[[{keys}]]"),
    st.just("[[service]]"),
    st.just("[[service.node]]"),
    st.just("# a comment"),
    st.just(""),
)
DOCUMENTS = st.lists(STATEMENTS, max_size=8)


@settings(
    deadline=None, max_examples=400, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
@given(DOCUMENTS)
def test_the_scanner_finds_exactly_what_tomllib_reads(statements: list[str]) -> None:
    text = "\n".join(statements)
    try:
        value = tomllib.loads(text)
    except ValueError:
        # Not TOML, and so not the scanner's affair; yet it must end, and not raise.
        assert Lines(text).of(("a",)) >= 1
        return
    lines = Lines(text)
    assert set(lines.known) == {path for path in paths_of(value) if len(path) <= DEEPEST}
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.known.values())


@settings(deadline=None)
@given(st.text(st.sampled_from("ab[]{}=.,#\"'\\\n 1"), max_size=60))
def test_the_scanner_ends_on_any_text(text: str) -> None:
    assert Lines(text).of(("a", 0, "b")) >= 1
