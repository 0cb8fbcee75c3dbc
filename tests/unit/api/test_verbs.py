"""The commands that ask or order a running daemon, against the fake at a unix socket."""

from __future__ import annotations

import gc
import json
import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.api.conftest import Daemon

from pointsman.api.client import Client
from pointsman.api.documents import Order, Verb
from pointsman.api.place import ENVIRONMENT
from pointsman.cli import draining, events, node
from pointsman.cli.main import main


@dataclass
class Done:
    status: int
    out: str
    err: str


Pointsman = Callable[..., Done]


@pytest.fixture
def pointsman(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pointsman:
    """Run a command in this process, as its main program does."""
    monkeypatch.setattr(gc, "disable", lambda: None)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["pointsman", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, said.out, said.err)

    return run


def when(true: Callable[[], bool]) -> None:
    """Wait for it, however busy the machine is."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "none"))


def test_drain_tells_the_states_and_what_still_names_the_node(daemon: Daemon, pointsman: Pointsman) -> None:
    done = pointsman("node", "drain", "coaps/n1", "--reason", "disk", "--for", "2h")
    assert done.status == 0, done.err
    first, second = done.out.splitlines()
    assert first == "coaps/n1: up -> draining"
    assert second.startswith("coaps/n1 is named by: connection IDs 3.0/s, flows' packets 1.0/s, flows 2,")
    order = daemon.operator.given["coaps", "n1"]
    assert (order.verb, order.reason, order.until) == (Verb.DRAIN, "disk", daemon.operator.at + 7200)
    assert order.who.startswith(f"uid {os.geteuid()}")


def test_sudo_is_told_as_whom_it_is_for(
    daemon: Daemon, pointsman: Pointsman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    assert pointsman("node", "disable", "coaps/n1").status == 0
    assert daemon.operator.given["coaps", "n1"].who.endswith(" for alice")


def test_enable_takes_the_order_back(daemon: Daemon, pointsman: Pointsman) -> None:
    pointsman("node", "disable", "coaps/n1")
    assert pointsman("node", "enable", "coaps/n1").out == "coaps/n1: disabled -> up\n"
    assert daemon.operator.given == {}


def test_wait_ends_when_nothing_named_the_node_for_so_long(
    daemon: Daemon, pointsman: Pointsman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "INTERVAL", 0.01)
    monkeypatch.setattr(draining, "LINES_APART", 0.0)
    done = pointsman("node", "drain", "coaps/n1", "--wait", "--quiet", "15m", "--timeout", "24h")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "coaps/n1: up -> draining"
    assert "connection IDs 3.0/s" in lines[1]
    assert "connection IDs 1.5/s (3.0/s at first)" in lines[2]
    assert lines[-1] == "coaps/n1: nothing named it for 1 h"
    assert daemon.operator.asked_drained == 3


def test_wait_goes_on_over_a_restart_of_the_daemon(
    daemon: Daemon, pointsman: Pointsman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "INTERVAL", 0.1)
    daemon.operator.quiet_after = 1_000_000
    again = Daemon(daemon.api)

    def restart() -> None:
        when(lambda: daemon.operator.asked_drained > 2)
        daemon.stop()
        again.operator.given.update(daemon.operator.given)  # as the file of orders does
        again.start()

    restarting = threading.Thread(target=restart)
    restarting.start()
    try:
        done = pointsman("node", "drain", "coaps/n1", "--wait")
        assert (done.status, again.operator.asked_drained) == (0, 3), done.err
    finally:
        restarting.join()
        again.stop()


def test_wait_ends_where_the_daemon_stays_away(
    daemon: Daemon, pointsman: Pointsman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "INTERVAL", 0.1)
    monkeypatch.setattr(draining, "RESTART", 0.5)
    daemon.operator.quiet_after = 1_000_000

    def end() -> None:
        when(lambda: daemon.operator.asked_drained > 2)
        daemon.stop()

    ending = threading.Thread(target=end)
    ending.start()
    done = pointsman("node", "drain", "coaps/n1", "--wait")
    assert (done.status, "cannot be asked" in done.err) == (1, True)
    ending.join()


def test_wait_goes_on_over_troubles_of_the_daemon(
    daemon: Daemon, pointsman: Pointsman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "INTERVAL", 0.01)
    asked = Client.order

    def order(client: Client, *arguments: Any) -> Order:
        found = asked(client, *arguments)
        daemon.does(lambda: setattr(daemon.operator, "troubles", 2))
        return found

    monkeypatch.setattr(Client, "order", order)
    monkeypatch.setattr(node, "_state", lambda *_: "draining")
    done = pointsman("node", "drain", "coaps/n1", "--wait")
    assert (done.status, daemon.operator.troubles) == (0, 0), done.err


@pytest.mark.parametrize(
    ("verb", "said"), [("enable", "its order was taken back"), ("disable", "disable was ordered by uid ")]
)
def test_wait_ends_where_the_node_is_to_drain_no_more(
    daemon: Daemon, pointsman: Pointsman, monkeypatch: pytest.MonkeyPatch, verb: str, said: str
) -> None:
    monkeypatch.setattr(draining, "INTERVAL", 0.05)
    daemon.operator.quiet_after = 1_000_000

    def change() -> None:
        when(lambda: daemon.operator.asked_drained > 1)
        command = [sys.executable, "-m", "pointsman.cli.main", "node", verb, "coaps/n1"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    changing = threading.Thread(target=change)
    changing.start()
    done = pointsman("node", "drain", "coaps/n1", "--wait")
    changing.join()
    assert done.status == 1
    (line,) = done.err.splitlines()
    assert line.startswith(f"pointsman: coaps/n1 is not draining any more: {said}")


def test_wait_gives_up_with_exit_status_1(
    daemon: Daemon, pointsman: Pointsman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "INTERVAL", 0.01)
    daemon.operator.quiet_after = 1_000_000
    done = pointsman("node", "drain", "coaps/n1", "--wait", "--timeout", "1s")
    assert done.status == 1
    assert "pointsman: coaps/n1 is still named after 1 s: connection IDs" in done.err
    assert daemon.operator.given["coaps", "n1"].verb is Verb.DRAIN


@pytest.mark.usefixtures("daemon")
def test_replace_says_what_changed(pointsman: Pointsman) -> None:
    done = pointsman("node", "replace", "coaps/n1", "10.0.0.99", "fd00::99", "--reason", "new disk")
    assert done.status == 0
    assert done.out.splitlines() == [
        "coaps/n1: now 10.0.0.99, fd00::99",
        "applied; number 2 in the history",
    ]


@pytest.mark.usefixtures("daemon")
def test_mistakes_that_the_daemon_finds_are_exit_status_2(pointsman: Pointsman) -> None:
    done = pointsman("node", "replace", "coaps/n1", "192.0.2.10")
    assert done.status == 2
    assert done.err.splitlines() == [
        "pointsman: the daemon refused: not a node's",
        "address 192.0.2.10 is a listener's",
    ]
    done = pointsman("node", "drain", "coaps/n7")
    assert (done.status, "has no node 'n7'; one of n1, n2" in done.err) == (2, True)


@pytest.mark.usefixtures("daemon")
def test_a_refusal_for_now_is_exit_status_1(pointsman: Pointsman) -> None:
    done = pointsman("confirm")
    assert (done.status, done.err) == (
        1,
        "pointsman: the daemon refused: nothing waits to be confirmed\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["node", "drain", "coaps"],
        ["node", "drain", "coaps/"],
        ["node", "drain", "a/b/c"],
        ["node", "drain", "coaps/n1", "--for", "soon"],
        ["node", "drain", "coaps/n1", "--for", "0s"],
        ["node", "drain", "coaps/n1", "--for", "2h", "--wait"],
        ["node", "drain", "coaps/n1", "--reason", "x" * 501],
        ["node", "drain", "coaps/n1", "--reason", "\udcff"],
        ["node", "drain", "coaps/\udcff"],
        ["node", "replace", "coaps/n1", "\udcff"],
        ["service", "disable", "coaps", "--reason", "\udcff"],
        ["service", "disable", "\udcff"],
        ["apply", "--confirm", "2d", "/nonexistent"],
        ["node", "drain", "coaps/n1?x=/../"],
        ["node", "replace", "coaps/n1"],
        ["node", "replace", "coaps/n1", "a", "b", "c"],
        ["restore", "0"],
        ["completion", "tcsh"],
        ["events", "--after", "-1"],
    ],
)
def test_bad_input_is_exit_status_2_and_orders_nothing(
    daemon: Daemon, pointsman: Pointsman, arguments: list[str]
) -> None:
    done = pointsman(*arguments)
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert daemon.operator.given == {}


@pytest.mark.usefixtures("no_daemon")
@pytest.mark.parametrize(
    "arguments",
    [
        ["node", "drain", "coaps/n1", "--for", "2h"],
        ["node", "drain", "coaps/n1", "--wait"],
        ["node", "replace", "coaps/n1", "10.0.0.1"],
        ["service", "disable", "coaps"],
        ["events"],
        ["events", "--follow"],
        ["reload"],
        ["confirm"],
        ["history"],
        ["restore", "1"],
    ],
)
def test_without_a_daemon_one_line_says_what_needs_it(pointsman: Pointsman, arguments: list[str]) -> None:
    done = pointsman(*arguments)
    assert (done.status, done.out) == (1, "")
    (line,) = done.err.splitlines()
    assert "needs a running daemon, and none answers at " in line


def test_a_service_is_disabled_and_enabled(daemon: Daemon, pointsman: Pointsman) -> None:
    assert pointsman("service", "disable", "coaps", "--reason", "flood").out == "coaps: disabled\n"
    assert daemon.operator.given["coaps", None].reason == "flood"
    assert pointsman("service", "enable", "coaps").out == "coaps: enabled\n"


def test_events_are_lines_or_json(daemon: Daemon, pointsman: Pointsman) -> None:
    pointsman("node", "drain", "coaps/n1", "--reason", "disk")
    (line,) = pointsman("events").out.splitlines()
    assert "order coaps/n1 drain: disk (by uid " in line
    (line,) = pointsman("events", "--json").out.splitlines()
    assert (json.loads(line)["node"], json.loads(line)["number"]) == ("n1", 1)
    assert pointsman("events", "--after", "1").out == ""
    assert len(daemon.operator.kept) == 1


def test_events_are_followed_until_the_daemon_stays_away(
    daemon: Daemon, pointsman: Pointsman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "RESTART", 0.1)
    monkeypatch.setattr(events, "PAUSE", 0.05)
    daemon.does(lambda: daemon.operator.happen("order", "first"))

    def go_on() -> None:
        when(lambda: daemon.operator.told == 1)
        daemon.does(lambda: daemon.operator.happen("repair", "second"))
        when(lambda: daemon.operator.told == 2)
        daemon.stop()

    ending = threading.Thread(target=go_on)
    ending.start()
    done = pointsman("events", "--follow", "--json")
    assert [json.loads(line)["text"] for line in done.out.splitlines()] == ["first", "second"]
    assert done.status == 1
    assert "cannot be asked" in done.err
    ending.join()


@pytest.mark.usefixtures("daemon")
def test_counters_have_their_owner(pointsman: Pointsman) -> None:
    out = pointsman("counters").out
    assert "coaps/n2" in out
    assert "coaps on 192.0.2.10:5684" in out
    rows = json.loads(pointsman("counters", "--json").out)
    assert {"packets": 20, "verdict": "cid", "node": "n2"}.items() <= rows[4].items()


@pytest.mark.usefixtures("daemon")
def test_status_has_the_keys_that_it_has_without_a_daemon_and_more(pointsman: Pointsman) -> None:
    found = json.loads(pointsman("status", "--json").out)
    assert found["applied"] is True
    assert found["dataplane_reason"] == "xdp (as configured)"
    without = {
        "applied",
        "gateway",
        "dataplane",
        "dataplane_reason",
        "leaving",
        "counters",
        "services",
        "guards",
    }
    assert without | {"interfaces", "beside", "findings"} <= found.keys()
    node = found["services"][0]["nodes"][0]
    assert {"name", "id", "state", "weight", "addresses", "counters"} <= node.keys()
    assert found["services"][0]["listeners"][0].keys() == {"address", "counters"}
    assert {"daemon", "version", "repairs", "pending", "orders"} <= found.keys()
    assert node["rates"]["cid"] == 12.5


def test_status_shows_reasons_rates_checks_and_orders(daemon: Daemon, pointsman: Pointsman) -> None:
    pointsman("node", "drain", "coaps/n1", "--reason", "disk")
    done = pointsman("status")
    assert done.status == 0
    assert done.err == "warning: wan0 is down\n"
    lines = done.out.splitlines()
    row = next(line for line in lines if line.startswith("coaps/n1"))
    assert "draining" in row
    assert "13.5" in row
    assert "dtls good, tcp ?, icmp good (not tried: no" in row
    assert "coaps/n1: icmp 10.0.0.11: not tried: no files" in lines
    assert "order of uid" in row
    assert any(line.startswith("order: drain coaps/n1, by uid ") and ": disk" in line for line in lines)
    assert "coap: degraded" in lines
    assert "wan0: native" in lines
    assert any("1 (50%)" in line and "dtls failed" in line for line in lines)
    assert daemon.operator.pending is None


def test_what_others_wrote_does_not_reach_the_terminal_as_it_is(daemon: Daemon, pointsman: Pointsman) -> None:
    pointsman("node", "drain", "coaps/n1", "--reason", "\x1b]0;title\x07 [red]x [fd00::1]:5684\nforged")
    for verb in ("status", "events"):
        out = pointsman(verb).out
        assert "\x1b" not in out
        assert r"\x1b]0;title\x07 [red]x [fd00::1]:5684\nforged" in out
    assert daemon.operator.given["coaps", "n1"].reason.startswith("\x1b")


def test_configurations_are_read_again_kept_listed_and_restored(daemon: Daemon, pointsman: Pointsman) -> None:
    done = pointsman("reload")
    assert done.err == "warning: g.toml:1: weight 0 takes no new flow\n"
    assert done.out.splitlines() == ["nothing to change", "applied; number 1 in the history"]
    assert "g.toml" in pointsman("history").out
    assert json.loads(pointsman("history", "--json").out)[0]["number"] == 1
    assert pointsman("restore", "1").status == 0
    assert pointsman("restore", "4").status == 2
    assert [event.text for event in daemon.operator.kept] == ["reload", "restored 1"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_the_shells_script(pointsman: Pointsman, shell: str) -> None:
    done = pointsman("completion", shell)
    assert done.status == 0
    assert "_POINTSMAN_COMPLETE" in done.out


def completed(words: str, socket: str) -> list[str]:
    environment = {
        **os.environ,
        "_POINTSMAN_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        ENVIRONMENT: socket,
    }
    program = "import sys; sys.argv[0] = 'pointsman'; from pointsman.cli.main import main; main()"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    return [line.split(",")[-1] for line in done.stdout.split()]


def test_nodes_and_services_are_completed_as_the_daemon_has_them(daemon: Daemon, tmp_path: Path) -> None:
    assert completed("pointsman node drain coaps/", daemon.api.socket) == ["coaps/n1", "coaps/n2"]
    assert completed("pointsman service disable co", daemon.api.socket) == ["coaps", "coap"]
    assert completed("pointsman node drain c", str(tmp_path / "none")) == []


@pytest.mark.usefixtures("daemon")
def test_top_without_a_terminal_is_one_line(pointsman: Pointsman) -> None:
    done = pointsman("top")
    assert (done.status, done.out) == (1, "")
    assert done.err == "pointsman: top needs a terminal; `pointsman top --json` is for programs\n"


def test_top_as_json_is_a_line_every_second(daemon: Daemon) -> None:
    daemon.operator.troubles = 1
    command = [sys.executable, "-m", "pointsman.cli.main", "top", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(2):
            found = json.loads(process.stdout.readline())
            assert found["services"][0]["nodes"][0]["rates"]["cid"] == 12.5
            assert found["orders"] == []
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == ""


def until(descriptor: int, text: bytes) -> bytes:
    read = b""
    deadline = time.monotonic() + 30
    while text not in read:
        assert time.monotonic() < deadline, read
        if select.select([descriptor], [], [], 0.2)[0]:
            read += os.read(descriptor, 65536)
    return read


def test_top_drains_the_selected_node_when_that_is_confirmed(daemon: Daemon) -> None:
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "LINES": "30"}
    child, terminal = pty.fork()
    if child == 0:
        os.execve(  # noqa: S606 - this very interpreter
            sys.executable, [sys.executable, "-m", "pointsman.cli.main", "top"], environment
        )
    until(terminal, b"coaps/n2")
    os.write(terminal, b"c")
    until(terminal, b"by cid/s")
    os.write(terminal, b"d")
    until(terminal, b"drain coaps/n2? y, any other key: no")
    os.write(terminal, b"n")
    until(terminal, b"not done")
    assert daemon.operator.given == {}
    os.write(terminal, b"d")
    until(terminal, b"drain coaps/n2?")
    os.write(terminal, b"y")
    until(terminal, b"draining")
    daemon.does(lambda: setattr(daemon.operator, "troubles", 1))
    until(terminal, b"the kernel is being put right")
    until(terminal, b"j k select")
    os.write(terminal, b"q")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert daemon.operator.given["coaps", "n2"].reason == "by a key in pointsman top"
