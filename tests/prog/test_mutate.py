"""A second of what `make fuzz` does for longer."""

from __future__ import annotations

import pytest
from tests.prog.mutate import run
from tests.prog.rig import Rig
from tests.prog.roles import FULL_NAT, ROLE

pytestmark = pytest.mark.netns


def test_hostile_frames_break_no_promise(gateway: Rig) -> None:
    tried, _, broken = run(gateway, 2, seed=1)
    assert not [str(each) for each in broken]
    assert tried > 5000


def test_hostile_frames_break_no_promise_of_full_nat(gateway: Rig) -> None:
    gateway.configure(FULL_NAT)
    tried, _, broken = run(gateway, 2, 1, ROLE)
    assert not [str(each) for each in broken]
    assert tried > 5000
