"""The parts at the edge that need no root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman.lab import build, processes, run, state
from pointsman.lab.counters import parse_snmp, parse_snmp6, total
from pointsman.lab.errors import LabError
from pointsman.lab.processes import Process
from pointsman.lab.topology import Topology

SNMP = """Ip: Forwarding DefaultTTL
Ip: 2 64
Udp: InDatagrams NoPorts InErrors InCsumErrors
Udp: 12 1 3 2
"""
SNMP6 = "Ip6InReceives                   \t7\nUdp6InCsumErrors                \t5\n"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


def test_counters_of_both_families_are_read_under_one_kind_of_name() -> None:
    found = parse_snmp(SNMP) | parse_snmp6(SNMP6)
    assert found["UdpInDatagrams"] == 12
    assert found["Ip6InReceives"] == 7
    assert total(found) == 7


def test_start_time_is_found_behind_a_name_with_brackets_and_blanks() -> None:
    stat = "4242 (a) b (c) S 17 4242 4242 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0"
    assert processes.parse_stat(stat) == (17, 987654)


def test_a_process_is_ended_by_pid_and_start_time(sleeper: subprocess.Popen[bytes]) -> None:
    known = processes.identify(sleeper.pid)
    assert known is not None
    processes.end([known], grace=1)
    assert sleeper.wait(1) == -15


def test_a_process_that_was_given_a_recorded_pid_later_is_left_alone(
    sleeper: subprocess.Popen[bytes],
) -> None:
    known = processes.identify(sleeper.pid)
    assert known is not None
    processes.end([Process(known.pid, known.start - 1)], grace=0.1)
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(0.2)


def test_a_process_that_ignores_term_is_killed() -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen(["python3", "-c", stubborn], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        known = processes.identify(child.pid)
        assert known is not None
        processes.end([known], grace=0.2)
        assert child.wait(1) == -9


def test_state_survives_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "DIRECTORY", tmp_path / "labs")
    want = state.State(Topology("t", nodes=5, offload=False), (Process(12, 34),), complete=True)
    state.claim(want)
    state.save(want)
    assert state.load("t") == want
    assert state.names() == ["t"]
    with pytest.raises(LabError, match="lab t is up already"):
        state.claim(want)
    assert state.remove("t")
    assert not (tmp_path / "labs").exists()
    assert not state.remove("t")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"topology": {"name": "t", "wheels": 4}, "processes": []}']
)
def test_a_state_file_without_sense_is_none(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "DIRECTORY", tmp_path)
    (tmp_path / "t.json").write_text(content)
    assert state.load("t") is None


@pytest.mark.parametrize(
    "stderr",
    [
        "RTNETLINK answers: File exists\nCommand failed -:2\n",
        "/dev/stdin:2:1-5: Error: syntax error\nsecond\n^^^^^",
    ],
    ids=["ip", "nft"],
)
def test_a_complaint_names_the_line_it_is_about(stderr: str) -> None:
    said = run.complaint(stderr, "first\nsecond\n")
    assert "\n" not in said
    assert said.endswith("(at: second)")


def test_without_root_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="a lab needs root"):
        build.Lab.up(Topology("t"))
    with pytest.raises(LabError, match="a lab needs root"):
        build.take_down("t")


@pytest.mark.parametrize(("tool", "package"), [("ip", "iproute2"), ("nft", "nftables")])
def test_a_missing_tool_is_named_with_its_package(
    tool: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        "pointsman.lab.run.shutil.which", lambda name: None if name == tool else f"/usr/sbin/{name}"
    )
    with pytest.raises(LabError, match=f"{tool} is not in PATH; on Debian: apt install {package}"):
        build.Lab.up(Topology("t"))
