"""The commands that need neither root nor a kernel, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pointsman.cli import node
from pointsman.model import NodeState
from pointsman.model.orders import OrderBook, Verb

GOOD = Path(__file__).parents[2] / "golden" / "rulesets" / "coaps.toml"


def pointsman(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pointsman.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_check_of_a_good_file() -> None:
    done = pointsman("check", "--no-machine", str(GOOD))
    assert (done.returncode, done.stdout) == (0, f"{GOOD}: good; services: 1, nodes: 3\n")


def test_all_mistakes_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = GOOD.read_text().replace("id = 2", "id = 300").replace("weight", "wieght")
    file = tmp_path / "bad.toml"
    file.write_text(text.replace('name = "n3"', 'name = "n3"\n  wieght = 3'))
    done = pointsman("check", str(file))
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{file}:19", f"{file}:24"]
    assert "id 300 is out of range; 0..255 (8 bits)" in lines[0]
    assert "wieght" in lines[1]
    assert "weight" in lines[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "/nonexistent"],
        ["check", "/"],
        ["frobnicate"],
        ["explain", str(GOOD)],
        ["explain", str(GOOD), "--from", "198.51.100.7", "--to", "192.0.2.10:5684"],
        ["explain", str(GOOD), "--from", "[2001:db8::7]:1", "--to", "192.0.2.10:5684"],
        ["explain", str(GOOD), "--from", "198.51.100.7:1", "--to", "192.0.2.10:5684", "--cid", "xyz"],
        ["explain", str(GOOD), "--from", "198.51.100.7:1", "--to", "192.0.2.10:5684", "--cid", ""],
        ["explain", str(GOOD), "--from", "198.51.100.7:1", "--to", "192.0.2.10:5684", "--state", "n9=down"],
        ["explain", str(GOOD), "--from", "198.51.100.7:1", "--to", "192.0.2.10:5684", "--state", "n1=asleep"],
        ["node", "drain"],
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(arguments: list[str]) -> None:
    done = pointsman(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_ruleset_is_printed_without_root() -> None:
    done = pointsman("plan", "--ruleset", str(GOOD))
    assert (done.returncode, done.stdout) == (0, GOOD.with_suffix(".nft").read_text())


def test_explain_names_the_node_and_the_reason() -> None:
    route = ["--from", "198.51.100.7:40000", "--to", "192.0.2.10:5684"]
    done = pointsman("explain", str(GOOD), *route, "--cid", "02ffffffffff", "--json")
    found = json.loads(done.stdout)
    assert (found["node"], found["target"], found["verdict"]) == ("n2", "10.0.0.12:5684", "cid")
    done = pointsman("explain", str(GOOD), *route, "--cid", "02ffffffffff", "--state", "n2=down")
    assert done.stdout.splitlines()[-1] == "-> dropped (cid_node_down)"


def test_schema_is_json_schema() -> None:
    schema = json.loads(pointsman("schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"gateway", "service"} <= schema["properties"].keys()


def test_output_that_cannot_be_written_is_one_line() -> None:
    command = [sys.executable, "-m", "pointsman.cli.main", "schema"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert (done.returncode, done.stderr) == (1, "pointsman: no space left on device\n")


def test_a_reason_that_is_kept_is_written_into_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[OrderBook] = []

    class Kept:
        def orders(self) -> OrderBook:
            return OrderBook()

        def write_orders(self, book: OrderBook) -> None:
            written.append(book)

    monkeypatch.setattr(node, "Store", Kept)
    node._note("s", "n1", NodeState.DRAINING, "disk")
    (order,) = written[0].orders
    assert (order.verb, order.reason) == (Verb.DRAIN, "disk")
