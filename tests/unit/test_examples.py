"""The examples are good, and the documents agree with the code and with each other."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pointsman.config import json_schema, load, parse
from pointsman.plan.verdicts import EVERY, MEANINGS, Scope, Verdict

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "peers/README.md", ROOT / "bench/README.md"]
)
ADRS = sorted((ROOT / "docs/adr").glob("0*.md"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(text: str) -> str:
    """The text without fenced code, in which brackets are no links."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The fragments that a document's headings make, as GitHub does."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(path.read_text()), flags=re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def links(path: Path) -> Iterator[tuple[str, str]]:
    """Targets of the links that stay in the repository: (file or "", fragment or "")."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text())):
        if not re.match(r"[a-z]+:", target):
            file, _, fragment = target.partition("#")
            yield file, fragment


def rows(path: Path) -> dict[str, list[str]]:
    """The rows of a document's tables by their first cell, where that is code."""
    found = {}
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and cells[0].count("`") == 2:
            found[cells[0].strip("`")] = cells[1:]
    return found


def defaults_of(path: Path) -> dict[str, set[str]]:
    """What the third column says of a key, in all the tables that have one of that name."""
    found: dict[str, set[str]] = {}
    for line in path.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and cells[0].count("`") == 2 and len(cells) > 2:
            found.setdefault(cells[0].strip("`"), set()).add(cells[2].strip("`\"'"))
    return found


def keys(schema: dict[str, Any]) -> set[str]:
    """Every key that a file can have, by the JSON Schema."""
    found: set[str] = set()
    for table in [schema, *schema.get("$defs", {}).values()]:
        for part in [table, *table.get("anyOf", [])]:
            found |= part.get("properties", {}).keys()
    return found


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_example_is_good_and_without_warnings(path: Path) -> None:
    assert load(path).warnings == ()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_files_in_documents_are_good_where_they_are_whole(path: Path) -> None:
    for block in re.findall(r"^```toml\n(.*?)^```$", path.read_text(), flags=re.DOTALL | re.MULTILINE):
        raw = tomllib.loads(block)
        if {"gateway", "service"} <= raw.keys():
            assert parse(block, name(path)).warnings == ()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    for file, fragment in links(path):
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{name(path)} links to {file}"
        if fragment and target.suffix == ".md":
            assert fragment in anchors(target), f"{name(path)} links to {file}#{fragment}"


@pytest.mark.parametrize("verdict", Verdict)
def test_verdict_has_its_row(verdict: Verdict) -> None:
    scope, kind, plane, *_ = rows(ROOT / "docs/reference/verdicts.md")[verdict]
    meaning = MEANINGS[verdict]
    assert Scope(scope) is meaning.scope
    assert kind == ("normal" if meaning.normal else "look into it")
    assert plane == ("both" if meaning.planes == EVERY else " ".join(meaning.planes))


def test_no_row_is_about_an_unknown_verdict() -> None:
    assert set(rows(ROOT / "docs/reference/verdicts.md")) == set(Verdict)


def planes_table() -> list[list[str]]:
    text = (ROOT / "docs/reference/data-planes.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_row_of_the_planes_says_what_either_does() -> None:
    head, *body = planes_table()
    assert head == ["", "nftables", "xdp"]
    assert len(body) > 20
    for row in body:
        assert len(row) == 3, row
        assert all(row), row


def test_verdicts_that_one_plane_alone_counts_are_in_the_row_that_says_why() -> None:
    column = {"nftables": 1, "xdp": 2}
    for verdict, meaning in MEANINGS.items():
        if meaning.planes != EVERY:
            (plane,) = meaning.planes
            assert [row for row in planes_table() if f"`{verdict}`" in row[column[plane]]], verdict


def test_every_key_of_the_file_has_its_row() -> None:
    text = (ROOT / "docs/reference/configuration.md").read_text()
    described = set(rows(ROOT / "docs/reference/configuration.md"))
    tables = set(re.findall(r"^#+ `\[*(?:\w+\.)?(\w+)\]*`$", text, flags=re.MULTILINE))
    wanted = keys(json_schema())
    assert len(wanted) > 20
    assert wanted - described - tables == set()
    assert described - wanted == set()


def test_defaults_in_the_reference_are_those_of_the_file() -> None:
    described = defaults_of(ROOT / "docs/reference/configuration.md")
    schema = json_schema()["$defs"]
    defaults = {
        key: field["default"]
        for table in schema.values()
        for part in [table, *table.get("anyOf", [])]
        for key, field in part.get("properties", {}).items()
        if "default" in field
    }
    assert len(defaults) >= 8
    for key, default in defaults.items():
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        assert shown in described[key], key


@pytest.mark.parametrize("path", ADRS, ids=name)
def test_decision_has_its_parts_its_row_and_at_most_a_page(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {path.name[:4]}: ")
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == ["Context", "Choice", "What lost"]
    assert f"]({path.name})" in (ROOT / "docs/adr/README.md").read_text()
    assert len(text.split()) <= 500
