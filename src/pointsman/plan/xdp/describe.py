"""Say what a change of the maps is, for people and for the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pointsman.plan.xdp.abi import NodeFlag
from pointsman.plan.xdp.compile import Compiled, ListenerEntry, NodeEntry
from pointsman.plan.xdp.filter_compile import GuardEntry


def describe_change(before: Compiled, after: Compiled) -> str:
    """A line for each listener that is added, changed or removed; "" where nothing is."""
    return "".join(f"{line}\n" for line in _lines(before, after))


def _lines(before: Compiled, after: Compiled) -> Iterator[str]:
    for key, entry in after.items():
        old = before.get(key)
        if old == entry:
            continue
        verb = "add" if old is None else "replace"
        yield f"{verb} listener {entry.endpoint} of {entry.service}: {_content(entry)}"
    for key, entry in before.items():
        if key not in after:
            yield f"remove listener {entry.endpoint} of {entry.service}"


def describe_guards(before: Sequence[GuardEntry], after: Sequence[GuardEntry]) -> str:
    """The same for guards."""
    old, new = ({guard.name: guard for guard in guards} for guards in (before, after))
    lines = [
        f"{'replace' if name in old else 'add'} guard {name} on {', '.join(guard.interfaces)}: ports {_ports(guard)}"
        for name, guard in new.items()
        if old.get(name) != guard
    ]
    lines += [f"remove guard {name}" for name in old if name not in new]
    return "".join(f"{line}\n" for line in lines)


def _ports(guard: GuardEntry) -> str:
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in guard.ports)


def _flags(node: NodeEntry) -> str:
    return " ".join(str(flag.name).lower() for flag in NodeFlag if flag in node.flags) or "down"


def _content(entry: ListenerEntry) -> str:
    slots = f"{entry.slots.count} slots" if entry.slots else "no node takes new flows"
    nodes = ", ".join(f"{node.endpoint} (label {node.label}, {_flags(node)})" for node in entry.nodes)
    return f"{slots}; {nodes}"
