"""Other people's iptables rules as text, by the tools that made them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_COMMANDS = {"ip": "iptables", "ip6": "ip6tables"}


def command(family: str, *, legacy: bool) -> str:
    """The command for one family ("ip", "ip6"), by the name that says its back end, where that is there."""
    exact = f"{_COMMANDS[family]}-{'legacy' if legacy else 'nft'}"
    return exact if legacy or shutil.which(exact) else _COMMANDS[family]


def rules(family: str, table: str, *, legacy: bool) -> str | None:
    """What ``iptables -S`` says of a table; None where the tool is missing or does not understand the table.

    Ask for legacy tables only where ``legacy_tables`` names them: the question alone would create them.
    """
    try:
        done = subprocess.run(
            [command(family, legacy=legacy), "-t", table, "-S"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def legacy_tables() -> list[tuple[str, str]]:
    """Family and name of the tables that the legacy back end holds here."""
    found = []
    for family in _COMMANDS:
        try:
            names = Path(f"/proc/net/{family}_tables_names").read_text().split()
        except OSError:
            continue
        found += [(family, name) for name in names]
    return found
