from __future__ import annotations

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
