"""The node's end of tunnels: the program of bpf/decap.bpf.c on an interface, and what it takes."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from socket import if_indextoname, if_nametoindex
from struct import Struct

from pointsman.kernel import bpffs, netns
from pointsman.kernel.bpf import BpfError, Map, Object, Program
from pointsman.kernel.bpf_attach import Link, attach_xdp

OBJECT = "decap.bpf.o"
MAIN, ACCEPTED = "pointsman_decap", "accepted"
KEY = Struct("<16s16s16s2sH")
"""Mirrors struct accepted: source, destination, VIP, GUE's port and nothing."""

NO_PACKETS = bytes(8)
MODES = (True, False)
"""Native first; generic where the driver has no XDP."""


def _name() -> str:
    return f"decap-{netns.cookie()}"


def _place() -> Path | None:
    """Nothing is there where nothing can be."""
    try:
        return bpffs.existing(_name())
    except BpfError:
        return None


def ends() -> dict[str, set[bytes]]:
    """What is taken off at each interface, as keys; raise BpfError."""
    place = _place()
    if place is None:
        return {}
    with Map.from_pin(place / ACCEPTED) as accepted:
        keys = set(accepted.keys())
    found = {}
    for path in place.glob("link-*"):
        with Link.from_pin(path) as link:
            index = link.info().ifindex
        if index:
            found[if_indextoname(index)] = keys
    return found


def accept(interface: str, keys: Iterable[bytes]) -> None:
    """Take these off at an interface, from now on; raise BpfError."""
    place = bpffs.folder(_name())
    index = if_nametoindex(interface)
    if not (place / ACCEPTED).exists():
        _load(place)
    with Map.from_pin(place / ACCEPTED) as accepted:
        known = set(accepted.keys())
        for key in keys:
            if key not in known:
                accepted.update(key, NO_PACKETS)
    pin = place / f"link-{index}"
    if pin.exists():
        with Link.from_pin(pin) as link:
            if link.info().ifindex == index:
                return
        pin.unlink()
    with Program.from_pin(place / MAIN) as program:
        for native in MODES:
            try:
                made = attach_xdp(program, index, native=native)
                break
            except BpfError:
                if native is MODES[-1]:
                    raise
        with made:
            made.pin(pin)


def _load(place: Path) -> None:
    path = Path(str(resources.files("pointsman") / "programs" / OBJECT))
    if not path.exists():
        raise BpfError(
            f"{path} is missing: this installation has no compiled programs; `make programs` builds them"
        )
    with Object.open(path) as built:
        built.load()
        with built.program(MAIN) as program, built.map(ACCEPTED) as accepted:
            program.pin(place / MAIN)
            accepted.pin(place / ACCEPTED)


def forget(keys: Iterable[bytes]) -> None:
    """Take these off no more, and the program with the last of them; raise BpfError."""
    place = _place()
    if place is None:
        return
    with Map.from_pin(place / ACCEPTED) as accepted:
        for key in set(keys) & set(accepted.keys()):
            accepted.delete(key)
        left = set(accepted.keys())
    if not left:
        bpffs.remove(place)
