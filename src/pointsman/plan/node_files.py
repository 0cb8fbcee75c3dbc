"""A node's addresses and settings in files of the system, so that they are there after a reboot."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Literal

from pointsman.plan.node_setup import LOOPBACK, LOOSE, QUIET, NodeFacts, Wanted, add_address, dotted

Format = Literal["networkd", "ifupdown", "sysctl"]
FORMATS: tuple[Format, ...] = ("networkd", "ifupdown", "sysctl")


def render(wanted: Wanted, facts: NodeFacts, form: Format, command: Sequence[str]) -> str:
    """The files' content; ``command`` is what takes tunnels off, where there are any.

    It begins with an absolute path; raise ValueError for control characters, which no such file can have.
    """
    if not all(character.isprintable() for word in command for character in word):
        raise ValueError(f"{shlex.join(command)!r} has control characters, which do not go into such a file")
    lines: list[str] = []
    if form == "networkd":
        lines += _networkd(wanted, command)
    elif form == "ifupdown":
        lines += _ifupdown(wanted, command)
    return "\n".join([*lines, *_sysctl(wanted, facts)]) + "\n"


def _sysctl(wanted: Wanted, facts: NodeFacts) -> Iterator[str]:
    if not any(vip.version == 4 for vip in wanted.vips):
        return
    yield "# /etc/sysctl.d/60-pointsman-node.conf"
    for path, value in QUIET:
        yield f"{dotted(path)} = {value}"
    for link in sorted({link for own in wanted.own if own.version == 4 and (link := facts.link_of(own))}):
        yield f"{dotted(f'net/ipv4/conf/{link}/rp_filter')} = {LOOSE}"


def _networkd(wanted: Wanted, command: Sequence[str]) -> Iterator[str]:
    yield "# /etc/systemd/network/10-pointsman-node.network"
    yield from ("[Match]", f"Name={LOOPBACK}", "")
    for vip in wanted.vips:
        yield from ("[Address]", f"Address={vip}/{vip.max_prefixlen}")
        if vip.version == 6:
            yield from ("PreferredLifetime=0", "DuplicateAddressDetection=none")
        yield ""
    if wanted.tunnels:
        yield "# /etc/systemd/system/pointsman-node.service"
        yield from ("[Unit]", "After=network-online.target", "Wants=network-online.target", "")
        yield from (
            "[Service]",
            "Type=oneshot",
            "RemainAfterExit=yes",
            f"ExecStart={exec_start(command)}",
            "",
        )
        yield from ("[Install]", "WantedBy=multi-user.target", "")


def exec_start(command: Sequence[str]) -> str:
    """A command as systemd.service(5) reads it: the program is not searched for variables, the rest is."""
    program, *rest = (word.replace("\\", r"\\").replace('"', r"\"").replace("%", "%%") for word in command)
    return " ".join(f'"{word}"' for word in (program, *(word.replace("$", "$$") for word in rest)))


def _ifupdown(wanted: Wanted, command: Sequence[str]) -> Iterator[str]:
    yield "# /etc/network/interfaces.d/pointsman-node"
    yield from (f"auto {LOOPBACK}", f"iface {LOOPBACK} inet loopback")
    for vip in wanted.vips:
        yield f"    up {add_address(vip)} || true"
    if wanted.tunnels:
        yield "# below the iface of the node's own address"
        yield f"#   up {shlex.join(command)}"
    yield ""
