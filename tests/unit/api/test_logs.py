"""Log lines."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from pointsman.api.logs import LogFormat, configure

SECRET = {"token": "secret"}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    structlog.reset_defaults()


def lines(format_: LogFormat) -> list[str]:
    out = io.StringIO()
    configure(format_, stream=out)
    structlog.get_logger("x").warning("refused", who="uid 1000 (alice)", reason="a\nb\x1b[31m", **SECRET)
    structlog.get_logger("x").debug("not shown")
    logging.getLogger("other").error("from %s", "elsewhere")
    logging.getLogger("uvicorn.error").info("noise")
    return out.getvalue().splitlines()


def test_lines_are_keys_and_values_with_the_time() -> None:
    first, second = lines(LogFormat.TEXT)
    assert first.startswith("timestamp=20")
    rest = r'level=warning event=refused who="uid 1000 (alice)" reason=a\nb\x1b[31m token="(not shown)"'
    assert first.endswith(rest), first
    assert 'event="from elsewhere"' in second


def test_json_has_the_same() -> None:
    first, second = (json.loads(line) for line in lines(LogFormat.JSON))
    assert (first["event"], first["level"], first["reason"]) == ("refused", "warning", "a\nb\x1b[31m")
    assert first["token"] == "(not shown)"  # noqa: S105 - which is the point
    assert second["event"] == "from elsewhere"
    assert "timestamp" in first


@pytest.mark.parametrize("format_", LogFormat)
def test_no_secret_is_written(format_: LogFormat) -> None:
    assert "secret" not in "".join(lines(format_))


PROGRAM = """
import structlog
from pointsman.api.logs import configure
configure()
structlog.get_logger("x").warning("refused", who="token ci")
structlog.get_logger("x").info("order")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger("x").exception("broken")
"""


def test_under_the_journal_there_is_a_priority_and_no_time(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    with path.open("w") as out:
        found = os.fstat(out.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        command = [sys.executable, "-c", PROGRAM]
        subprocess.run(command, env=environment, stderr=out, check=True, timeout=60)
    first, second, third = path.read_text().splitlines()
    assert (first, second) == ('<4>event=refused who="token ci"', "<6>event=order")
    assert third.startswith("<3>event=broken exception=")


def test_elsewhere_there_is_no_priority(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    with path.open("w") as out:
        environment = {**os.environ, "JOURNAL_STREAM": "1:1"}
        command = [sys.executable, "-c", PROGRAM]
        subprocess.run(command, env=environment, stderr=out, check=True, timeout=60)
    assert path.read_text().startswith("timestamp=20")
