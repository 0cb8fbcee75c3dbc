"""What `make demo` shows, and that it says so when something is not true."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.e2e.conftest import PEER

from pointsman.lab import demo_claims as claims
from pointsman.lab.demo_claims import Claim, Figures
from pointsman.lab.demo_scenes import TITLES
from pointsman.lab.demo_view import conclusion, picture

DEMO = [sys.executable, "-m", "pointsman.lab.demo"]
END: dict[str, int] = {
    "answered": 900,
    "requests": 900,
    "retries": 3,
    "wrong": 0,
    "lost": 0,
    "closed": 0,
    "handshakes_ok": 9,
}


def left_of(demo: subprocess.Popen[str]) -> list[str]:
    """Namespaces and files of the demo's lab."""
    there = [
        *Path("/run/netns").glob(f"pm-demo{demo.pid}-*"),
        *Path("/run/pointsman-lab").glob(f"demo{demo.pid}*"),
    ]
    return [path.name for path in there]


@pytest.mark.peers
@pytest.mark.netns
def test_demo_holds_what_it_claims_and_leaves_nothing_behind(plane: str) -> None:
    with subprocess.Popen(
        [*DEMO, "--peer", PEER, "--seconds", "4", "--dataplane", plane],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        said = demo.communicate(timeout=100)[0]
    assert demo.returncode == 0, said
    table = said[said.index("120 DTLS sessions") :].splitlines()
    assert len(table) <= 23
    assert max(map(len, table)) <= 80
    assert table[-1].startswith(f"All 7 claims hold, and both controls fail as they must ({plane} plane, ")
    assert left_of(demo) == []


@pytest.mark.peers
@pytest.mark.netns
@pytest.mark.parametrize(
    ("plane", "number"), [("nftables", signal.SIGINT), ("nftables", signal.SIGTERM), ("xdp", signal.SIGTERM)]
)
def test_interrupted_demo_leaves_nothing_behind(plane: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*DEMO, "--peer", PEER, "--dataplane", plane],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        while "3/6" not in demo.stdout.readline():
            assert demo.poll() is None
        assert left_of(demo) != []
        demo.send_signal(number)
        said = demo.communicate(timeout=30)[1]
    assert (demo.returncode, said) == (130, "demo: interrupted; its lab is gone\n")
    assert left_of(demo) == []


def test_demo_says_what_is_missing() -> None:
    done = subprocess.run([*DEMO, "--peer", "/nowhere/cidpeer"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "demo: /nowhere/cidpeer is not there; `make peers` builds it\n"


def survival(**other: Any) -> Claim:
    end = END | {key: other.pop(key) for key in list(other) if key in END}
    known = {"sessions": 9, "broken": 0, "moved": 90, "new": 0, "turns": 10}
    return claims.survival(Figures(), end, **(known | other))


def control(broken: int = 21, broken_before: int = 0, end: Mapping[str, int] = END) -> Claim:
    return claims.control("x", sessions=40, broken_before=broken_before, broken=broken, end=end)


@pytest.mark.parametrize(
    ("say", "true", "untrue"),
    [
        (claims.spread, [({"n1": 40, "n2": 20, "n3": 60}, 120)], [({"n1": 42, "n2": 17, "n3": 61}, 120)]),
        (claims.unknown, [(1000, 1000, 0)], [(1000, 999, 0), (1000, 1001, 0), (1000, 1000, 1), (0, 0, 0)]),
        (claims.untracked, [([], ["a", "b"], 2)], [(["d"], ["a", "b"], 2), ([], [], 2)]),
        (claims.checksums, [({},)], [({"n1": 1},)]),
        (
            claims.elsewhere,
            [({"n1": 30, "n2": 0, "n3": 30}, 0, {"n1": 20, "n2": 20, "n3": 20})],
            [
                ({"n1": 30, "n2": 1, "n3": 29}, 1, {"n1": 20, "n2": 20, "n3": 20}),
                ({"n1": 30, "n2": 0, "n3": 30}, 1, {"n1": 20, "n2": 20, "n3": 20}),
                ({"n1": 30, "n2": 0, "n3": 30}, 0, {"n1": 30, "n2": 0, "n3": 30}),
                ({"n1": 0, "n2": 0, "n3": 0}, 0, {"n1": 20, "n2": 20, "n3": 20}),
            ],
        ),
    ],
)
def test_claim_holds_only_with_figures_that_bear_it(
    say: Callable[..., Claim], true: list[tuple[Any, ...]], untrue: list[tuple[Any, ...]]
) -> None:
    assert all(say(*each).as_expected for each in true)
    assert not any(say(*each).as_expected for each in untrue)


def test_survival_is_claimed_only_if_nothing_was_lost_and_everything_moved() -> None:
    assert survival().as_expected
    for broken in (
        {"answered": 899},
        {"requests": 901},
        {"lost": 1},
        {"wrong": 1},
        {"closed": 1},
        {"handshakes_ok": 8},
        {"broken": 1},
        {"new": 1},
        {"moved": 89},
    ):
        assert not survival(**broken).as_expected, broken


def test_living_sessions_of_a_draining_node_must_have_answered_and_moved() -> None:
    good = {"answered": 80, "harmed": 0, "moved": 40}
    assert claims.living(40, **good).as_expected
    for other in ({"answered": 39}, {"harmed": 1}, {"moved": 39}):
        assert not claims.living(40, **(good | other)).as_expected


def test_control_that_works_is_not_as_expected() -> None:
    assert control().as_expected
    assert not control(broken=20).as_expected
    assert not control(broken_before=1).as_expected  # then it was not the change of address


def test_screens_fit_a_small_terminal() -> None:
    figures = Figures(
        {"n1": 61, "n2": 20, "n3": 39},
        "n2",
        23_456,
        23_400,
        56,
        0,
        48,
        5,
        {"by address alone": (40, 40), "no CID": (40, 40)},
    )
    told = [
        claims.spread({"n1": 40, "n2": 20, "n3": 60}, 120),
        claims.survival(
            figures,
            END | {"answered": 23_456, "requests": 23_456},
            sessions=9,
            broken=0,
            moved=2_040,
            new=0,
            turns=1,
        ),
        claims.living(40, answered=1_480, harmed=0, moved=122),
        claims.elsewhere({"n1": 30, "n2": 0, "n3": 30}, 0, {"n1": 20, "n2": 20, "n3": 20}),
        claims.unknown(1000, 1000, 0),
        claims.untracked([], ["a", "b"], 2),
        claims.checksums({}),
        control(end=END | {"lost": 1_410, "requests": 2_100}),
        control(),
    ]
    for screen in (
        *(picture(i, figures, 12.3) for i in range(len(TITLES))),
        conclusion(told, "nftables plane", 34),
    ):
        console = Console(width=80, record=True, file=None, force_terminal=False, quiet=False)
        with console.capture() as captured:
            console.print(screen)
        lines = captured.get().splitlines()
        assert len(lines) <= 23
        assert max(len(line.rstrip()) for line in lines) <= 80
        assert "…" not in captured.get()
