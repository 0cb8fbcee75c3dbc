"""The data planes of this machine, and what decides between them."""

from __future__ import annotations

import os
import platform
import re
from types import TracebackType
from typing import Self

from pointsman.dataplane.forwarding import ForwardingSide
from pointsman.dataplane.multihome import MultihomeSide
from pointsman.dataplane.nftables import NftablesPlane
from pointsman.dataplane.protocol import DataPlane
from pointsman.dataplane.sides import Side
from pointsman.dataplane.xdp import XdpPlane
from pointsman.dataplane.xdp_maps import object_path
from pointsman.kernel import iproute, netns, offload
from pointsman.kernel.bpf_attach import xdp_on
from pointsman.kernel.bpf_library import library
from pointsman.kernel.errors import KernelError
from pointsman.kernel.nft import Nft
from pointsman.model.abilities import NFTABLES, XDP
from pointsman.plan.choice import PortFacts, XdpFacts

CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF = 12, 21, 39


class Planes:
    """Both planes and what is beside them; as a context manager it ends what they hold open."""

    def __init__(self) -> None:
        self.nft = Nft()
        folder = f"netns-{netns.cookie() or 'first'}"
        self._planes: dict[str, DataPlane] = {
            NFTABLES: NftablesPlane(self.nft),
            XDP: XdpPlane(folder),
        }
        self.sides: tuple[Side, ...] = (
            ForwardingSide(self.nft),
            MultihomeSide(self.nft, f"multihome-{folder}"),
        )

    def __enter__(self) -> Self:
        self.nft.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.nft.__exit__(kind, error, at)
        self.xdp.close()

    def of(self, name: str) -> DataPlane:
        return self._planes[name]

    @property
    def xdp(self) -> XdpPlane:
        plane = self._planes[XDP]
        if not isinstance(plane, XdpPlane):
            raise TypeError(plane)
        return plane

    @property
    def every(self) -> tuple[DataPlane, ...]:
        return tuple(self._planes.values())


def xdp_facts(interfaces: tuple[str, ...], ours: frozenset[str], *, acting: bool) -> XdpFacts:
    """Look at what the XDP plane would find; ``ours`` are the interfaces that have our program.

    ``acting``: the privileges of this process count.
    """
    links = iproute.links()
    ports = [
        PortFacts(
            name,
            offload.driver(name),
            links[name].mtu,
            None if name in ours else _program(links[name].index),
        )
        for name in interfaces
        if name in links
    ]
    return XdpFacts(_kernel(), _missing(acting=acting), tuple(ports))


def _program(index: int) -> str | None:
    there = xdp_on(index)
    return None if there.program is None else f"{there.name or 'without a name'}, id {there.program}"


def _kernel() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _missing(*, acting: bool) -> str | None:
    try:
        library()
        object_path()
    except KernelError as problem:
        return str(problem)
    capabilities = _capabilities()
    admin = capabilities >> CAP_SYS_ADMIN & 1
    if acting and not (capabilities >> CAP_NET_ADMIN & 1 and (admin or capabilities >> CAP_BPF & 1)):
        return "loading programs takes CAP_BPF and CAP_NET_ADMIN; run as root"
    return None


def _capabilities() -> int:
    with open(f"/proc/{os.getpid()}/status") as status:  # noqa: PTH123 - one line of a pseudo-file
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0
