"""Structured logs on stderr: key=value lines, or JSON; without time stamps where journald adds them."""

from __future__ import annotations

import logging
import os
import sys
from enum import StrEnum
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

SECRET = frozenset({"authorization", "token", "tokens", "key", "password", "hash_seed"})
"""Values under these names are not for logs, whoever passes them."""
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


def configure(
    format_: LogFormat = LogFormat.TEXT, *, stream: TextIO | None = None, debug: bool = False
) -> None:
    """Send what structlog and logging are told to the stream (stderr), one line each."""
    out = stream or sys.stderr
    journald = stream is None and under_journald()
    before: list[Processor] = [structlog.stdlib.add_log_level, _without_secrets]
    if not journald:
        before.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    before.append(structlog.processors.format_exc_info)
    render: list[Processor] = (
        [structlog.processors.JSONRenderer()] if format_ is LogFormat.JSON else _text(journald=journald)
    )
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    for noisy in ("uvicorn", "uvicorn.error", "httpx", "httpcore", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def under_journald() -> bool:
    """Whether stderr is the journal's stream: systemd tells its device and inode (systemd.exec(5))."""
    told = os.environ.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return told == f"{found.st_dev}:{found.st_ino}"


def _text(*, journald: bool) -> list[Processor]:
    render = structlog.processors.LogfmtRenderer(
        key_order=("timestamp", "level", "event"), drop_missing=True, bool_as_flag=False
    )
    return [_one_line, _with_priority(render) if journald else render]


def _without_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {name: "(not shown)" if name.lower() in SECRET else value for name, value in event.items()}


def _one_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Write out what ends lines, which logfmt has no way to say, and what terminals would act on."""
    return {name: _printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _with_priority(render: structlog.processors.LogfmtRenderer) -> Processor:
    """``<4>`` before the line is its priority to journald (sd-daemon(3)), in place of a level in its text."""

    def rendered(logger: WrappedLogger, name: str, event: EventDict) -> str:
        priority = _PRIORITIES.get(str(event.pop("level", "info")), 6)
        return f"<{priority}>{render(logger, name, event)}"

    return rendered
