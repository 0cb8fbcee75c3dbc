from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from pointsman.daemon.only_one import only_one, refuse_beside_daemon
from pointsman.kernel.errors import KernelError


def test_a_second_daemon_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    with (
        only_one(tmp_path),
        pytest.raises(KernelError, match=f"already \\(process {os.getpid()}\\)"),
        only_one(tmp_path),
    ):
        raise AssertionError("two of them")
    with only_one(tmp_path):
        pass


def test_a_command_that_would_act_behind_a_daemons_back_is_refused(tmp_path: Path) -> None:
    refuse_beside_daemon(tmp_path)
    with only_one(tmp_path), pytest.raises(KernelError, match="does not answer"):
        refuse_beside_daemon(tmp_path)
    refuse_beside_daemon(tmp_path)


def test_a_lock_that_a_killed_daemon_left_refuses_nobody(tmp_path: Path) -> None:
    (tmp_path / "serve.lock").write_text("1\n")
    refuse_beside_daemon(tmp_path)
    with only_one(tmp_path):
        pass


def test_a_lock_on_a_file_that_the_one_before_removed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, lock, ends = tmp_path / "serve.lock", fcntl.flock, [True]

    def late(handle: int, operation: int) -> None:
        if ends:  # between the opening and the lock the one before ends
            ends.clear()
            place.unlink()
        lock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with only_one(tmp_path):
        assert place.read_text() == f"{os.getpid()}\n"
        with pytest.raises(KernelError, match="already"), only_one(tmp_path):
            raise AssertionError("two of them")


def test_the_file_of_another_one_survives_our_end(tmp_path: Path) -> None:
    place = tmp_path / "serve.lock"
    with only_one(tmp_path):
        place.unlink()
        place.write_text("7\n")
    assert place.read_text() == "7\n"


def test_two_commands_that_ask_at_once_see_no_daemon_in_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "serve.lock").write_text("1\n")
    lock, asked = fcntl.flock, [0]

    def then_the_other(handle: int, operation: int) -> None:
        lock(handle, operation)
        asked[0] += 1
        if asked[0] == 1:
            refuse_beside_daemon(tmp_path)

    monkeypatch.setattr(fcntl, "flock", then_the_other)
    refuse_beside_daemon(tmp_path)
    assert asked == [2]
