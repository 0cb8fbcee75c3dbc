"""The interfaces that the XDP programs are attached to, and how they are attached there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from struct import Struct

from pointsman.dataplane.xdp_maps import MAIN, NEIGHBOUR, MapSet
from pointsman.kernel import iproute, offload
from pointsman.kernel.bpf import BpfError, Program, unpin
from pointsman.kernel.bpf_attach import Link, attach_tc, attach_xdp, detach_tc, tc_attached, xdp_on
from pointsman.kernel.errors import KernelError
from pointsman.plan.xdp import abi
from pointsman.plan.xdp.ports import MOST, port_table

TC_HANDLE, TC_PRIORITY = 0x706D, 0x706D
NATIVE, GENERIC = "native", "generic"
VLAN_KEY = Struct("<II")
"""struct vlan_key"""
NEVER_NATIVE = frozenset(
    {
        *("bond", "team", "bridge", "vlan", "vrf", "dummy", "ipvlan", "macvlan"),
        *("bareudp", "vxlan", "gre"),
    }
)
"""Kinds of devices whose frames native XDP would meet on another one, or not at all; generic XDP works on them."""
NEVER_NATIVE_DRIVERS = frozenset({"hv_netvsc"})
"""Its frames come by another device, the virtual function."""


@dataclass(frozen=True, slots=True)
class Attached:
    """One interface with the programs on it; ``why`` says why it is not native."""

    name: str
    index: int
    mode: str
    why: str = ""


def real_interfaces(names: Iterable[str]) -> list[iproute.Link]:
    """The links of these names; a VRF stands for its members. Raise KernelError for one that is not there."""
    links = iproute.links()
    found: dict[str, iproute.Link] = {}
    for name in names:
        if name not in links:
            raise KernelError(f"there is no interface {name} to attach to")
        own = links[name]
        members = [each for each in links.values() if each.master == name] if own.kind == "vrf" else [own]
        found |= {each.name: each for each in members if each.mac}
    return list(found.values())


class PinnedLinks:
    """The pinned links of a kind below a folder; each holds a program on one interface."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder
        self._kind = kind

    def pins(self) -> dict[int, Path]:
        """By the interface's index."""
        return {int(path.name.split("-")[1]): path for path in self._folder.glob(f"{self._kind}-*")}

    def programs(self) -> set[int]:
        """Ids of the programs that are attached."""
        return set(self.holding().values())

    def holding(self) -> dict[int, int]:
        """The program of each interface that still has one by a link of ours, by index."""
        found = {}
        for pin in self.pins().values():
            with Link.from_pin(pin) as link:
                info = link.info()
                if info.ifindex:
                    found[info.ifindex] = info.program
        return found

    def attached(self) -> list[Attached]:
        names = {link.index: link.name for link in iproute.links().values()}
        return [
            Attached(names[index], index, mode, explained(why))
            for index, pin in sorted(self.pins().items())
            if index in names
            for _, _, mode, why in [pin.name.split("-")]
        ]

    def attach(self, program: Program, link: iproute.Link) -> Path:
        return attach_program(program, link, self._folder, self._kind)


class Ports:
    """The interfaces of services; each has a pinned link, and the programs for neighbours beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._links = PinnedLinks(folder, "link")
        self.programs = self._links.programs
        self.attached = self._links.attached

    def loose(self, maps: MapSet, names: Iterable[str]) -> list[str]:
        """Interfaces that lack the set's program, or the filter that goes with it."""
        holding, program = self._links.holding(), maps.programs[MAIN].id
        return [
            link.name
            for link in real_interfaces(names)
            if holding.get(link.index) != program
            or not tc_attached(link.index, handle=TC_HANDLE, priority=TC_PRIORITY)
        ]

    def _touched(self) -> set[int]:
        """Interfaces that have anything of ours."""
        return {
            int(path.name.split("-")[1])
            for kind in ("link", "clsact")
            for path in self._folder.glob(f"{kind}-*")
        }

    def attach(self, maps: MapSet, names: Iterable[str], clients_only: Sequence[str] = ()) -> None:
        """Have the set's program on just these interfaces, each in one step; raise KernelError, all as before."""
        wanted = {link.index: link for link in real_interfaces(names)}
        if len(wanted) > MOST:
            raise KernelError(f"{len(wanted)} interfaces, and the XDP programs are made for {MOST} at most")
        pins = self._links.pins()
        done: list[Callable[[], None]] = []
        before = maps.config, bytes(maps.views["ports"])
        # First, as a program that does not know its interfaces leaves every packet to the kernel.
        self._write_ports(maps, wanted, clients_only)
        always = abi.ConfigFlag.ASK_ALWAYS if iproute.routes_by_more_than_destination() else abi.ConfigFlag(0)
        maps.write_word(abi.Config.FLAGS, always | maps.config.flags & abi.ConfigFlag.COUNT_FLOWS)
        try:
            for index, link in wanted.items():
                if index not in pins or not self._renew(maps, index, pins[index], done):
                    done.append(partial(self._detach, index))
                    self._attach(maps, link)
            self._write_ports(maps, wanted, clients_only)
        except KernelError:
            for undo in reversed(done):
                undo()
            maps.write("ports", 0, before[1])
            maps.write_word(abi.Config.MULTIPLIER, before[0].port_multiplier)
            maps.write_word(abi.Config.FLAGS, before[0].flags)
            raise
        for index in self._touched() - wanted.keys():
            self._detach(index)

    def _renew(self, maps: MapSet, index: int, pin: Path, done: list[Callable[[], None]]) -> bool:
        """Switch a standing link to the set's program; False where its interface is gone."""
        if not renew(pin, maps.programs[MAIN], done):
            return False
        attach_tc(maps.programs[NEIGHBOUR], index, handle=TC_HANDLE, priority=TC_PRIORITY)
        return True

    def _attach(self, maps: MapSet, link: iproute.Link) -> None:
        self._links.attach(maps.programs[MAIN], link)
        # A pin, since nothing else can be kept in a bpffs: it says that the qdisc is ours to remove.
        mark = self._folder / f"clsact-{link.index}"
        if not mark.exists():
            maps.maps["settings"].pin(mark)
            if not attach_tc(maps.programs[NEIGHBOUR], link.index, handle=TC_HANDLE, priority=TC_PRIORITY):
                unpin(mark)
        else:
            attach_tc(maps.programs[NEIGHBOUR], link.index, handle=TC_HANDLE, priority=TC_PRIORITY)

    def _write_ports(
        self, maps: MapSet, links: Mapping[int, iproute.Link], clients_only: Sequence[str]
    ) -> None:
        modes = {index: pin.name.split("-")[2] for index, pin in self._links.pins().items()}
        by_name = {link.name: link for link in links.values()}
        rows: list[abi.Port] = []
        vlans: dict[bytes, bytes] = {}
        for index, link in links.items():
            lower = by_name.get(link.lower) if link.vlan else None
            # A VLAN whose carrier has the program too: its frames are met there, with their tag.
            leaves_by = index if lower is None else lower.index
            if lower is not None:
                vlans[VLAN_KEY.pack(lower.index, link.vlan)] = index.to_bytes(4, "little")
            flags = abi.PortFlag.NATIVE if modes.get(leaves_by) == NATIVE else abi.PortFlag.GENERIC
            if (lower or link).kind == "veth":
                flags |= abi.PortFlag.SLOW_TX
            if link.name in clients_only:
                flags |= abi.PortFlag.CLIENTS
            rows.append(abi.Port(index, leaves_by, link.vlan if lower is not None else 0, link.mac, flags))
        for key in [key for key, _ in maps.maps["vlans"].items_batch() if key not in vlans]:
            maps.maps["vlans"].delete(key)
        for key, value in vlans.items():
            maps.maps["vlans"].update(key, value)
        multiplier, table = port_table(rows, maps.config.port_multiplier)
        if maps.config.port_multiplier != multiplier:
            # Between the two writes frames go to the kernel: only where an interface is added that collides.
            maps.write_word(abi.Config.MULTIPLIER, multiplier)
        maps.write("ports", 0, table)

    def _detach(self, index: int) -> None:
        # The link last but for the mark: what a killed process leaves is found by either.
        made = self._folder / f"clsact-{index}"
        if index in {link.index for link in iproute.links().values()}:
            detach_tc(index, handle=TC_HANDLE, priority=TC_PRIORITY, remove_qdisc=made.exists())
        for pin in self._folder.glob(f"link-{index}-*"):
            unpin(pin)
        unpin(made)

    def detach_all(self) -> None:
        for index in self._touched():
            self._detach(index)


def attach_program(program: Program, link: iproute.Link, folder: Path, kind: str) -> Path:
    """Attach it in native mode where that works, else in generic, and pin the link; raise KernelError."""
    there = xdp_on(link.index)
    if there.program is not None:
        raise KernelError(
            f"{link.name} has somebody else's XDP program already ({there.name or 'without a name'}, id "
            f"{there.program}); take it off (`ip link set {link.name} xdp off`, or end what holds it there), "
            'or say dataplane = "nftables"'
        )
    mode, why = NATIVE, "ok"
    if link.kind in NEVER_NATIVE or offload.driver(link.name) in NEVER_NATIVE_DRIVERS:
        mode, why = GENERIC, "kind"
    else:
        try:
            handle = attach_xdp(program, link.index, native=True)
        except BpfError as problem:
            mode, why = GENERIC, str(problem.number)
    if mode == GENERIC:
        handle = attach_xdp(program, link.index, native=False)
    pin = folder / f"{kind}-{link.index}-{mode}-{why}"
    with handle:
        handle.pin(pin)
    return pin


def renew(pin: Path, program: Program, done: list[Callable[[], None]]) -> bool:
    """Switch a standing link to a program, with how to undo it in ``done``; False where its interface is gone."""
    with Link.from_pin(pin) as link:
        info = link.info()
        if not info.ifindex:
            unpin(pin)
            return False
        if info.program != program.id:
            before = Program.from_id(info.program)
            link.update(program)
            done.append(partial(_switch, pin, before))
    return True


def _switch(pin: Path, program: Program) -> None:
    with Link.from_pin(pin) as link, program:
        link.update(program)


def explained(code: str) -> str:
    """Why an interface is not native, by the code in the name of its pin."""
    if code == "ok":
        return ""
    if code == "kind":
        return "the device has no XDP of its own"
    return f"the driver refused native mode: {os.strerror(int(code))}"
