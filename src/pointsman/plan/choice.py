"""Which data plane a gateway gets, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pointsman.model import DataPlaneChoice, Gateway
from pointsman.model.abilities import NFTABLES, XDP, lacks
from pointsman.plan.findings import Surroundings

OLDEST_KERNEL = (5, 15)
LARGEST_MTU = 3498
"""What a driver's page holds of a frame beside the headroom that XDP needs; larger ones need fragments."""

WITH_NATIVE_XDP = frozenset(
    {
        "atlantic",
        "bnxt_en",
        "cxgb4",
        "dpaa2-eth",
        "dpaa_eth",
        "ena",
        "enetc",
        "fec",
        "fm10k",
        "fsl_dpaa2_eth",
        "fsl_enetc",
        "gve",
        "i40e",
        "iavf",
        "ice",
        "igb",
        "igc",
        "ixgbe",
        "ixgbevf",
        "lan966x-switch",
        "mana",
        "mlx4_en",
        "mlx5_core",
        "mtk_soc_eth",
        "mvneta",
        "mvpp2",
        "netsec",
        "nfp",
        "octeontx2-nicpf",
        "octeontx2-nicvf",
        "qede",
        "sfc",
        "sfc_siena",
        "stmmac",
        "st_gmac",
        "thunder-nicvf",
        "tsnep",
        "tun",
        "virtio_net",
        "vmxnet3",
        "xen_netfront",
    }
)
"""Drivers, by the name that ethtool gives, which can both run native XDP and be redirected to."""


@dataclass(frozen=True, slots=True)
class PortFacts:
    """An interface as the XDP plane would find it; ``foreign`` names somebody else's XDP program on it."""

    name: str
    driver: str
    mtu: int
    foreign: str | None = None


@dataclass(frozen=True, slots=True)
class XdpFacts:
    """``missing`` says why no program can be loaded here at all, None where one can."""

    kernel: tuple[int, int] = (0, 0)
    missing: str | None = None
    ports: tuple[PortFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """``refusal`` is set where the file asks for what this machine cannot."""

    plane: str
    reason: str
    refusal: str | None = None

    def __str__(self) -> str:
        return f"{self.plane} ({self.reason})"


def choose(gateway: Gateway, facts: XdpFacts) -> Choice:
    """Settle on a plane: what the file says, or for auto the fastest that does all the file asks for."""
    impossible = next(_impossible(facts), None)
    if gateway.dataplane is DataPlaneChoice.NFTABLES:
        return Choice(NFTABLES, "as configured")
    if gateway.dataplane is DataPlaneChoice.XDP:
        way_out = 'say dataplane = "nftables" or "auto"'
        return Choice(XDP, "as configured", f"{impossible}; {way_out}" if impossible else None)
    lack = next(lacks(gateway, NFTABLES), None)
    if lack is not None:
        reason = f"auto: {lack}, which only xdp carries in this version"
        return Choice(
            XDP, reason, f"{reason.removeprefix('auto: ')}, and {impossible}" if impossible else None
        )
    lack = next(lacks(gateway, XDP), None)
    if lack is not None:
        return Choice(NFTABLES, f"auto: {lack}, which only nftables carries in this version")
    obstacle = impossible or next(_slow(facts), None)
    if obstacle:
        return Choice(NFTABLES, f"auto: not xdp, as {obstacle}")
    return Choice(XDP, "auto: every interface has it in its driver")


def _impossible(facts: XdpFacts) -> Iterator[str]:
    if facts.missing is not None:
        yield facts.missing
    if facts.kernel < OLDEST_KERNEL:
        yield f"the kernel is {_version(facts.kernel)}, and xdp needs {_version(OLDEST_KERNEL)}"
    for port in facts.ports:
        if port.foreign is not None:
            yield (
                f"{port.name} has somebody else's XDP program ({port.foreign}), which "
                f"`ip link set {port.name} xdp off` takes off"
            )


def _slow(facts: XdpFacts) -> Iterator[str]:
    """What would work, but slowly, or only if others do their part."""
    if not facts.ports:
        yield "it is not known which interfaces clients and nodes are on; name them (gateway: interfaces = [...])"
    for port in facts.ports:
        if port.driver == "veth":
            yield (
                f"{port.name} is a veth, whose other end may leave checksums unfinished; where it does not "
                '(`ethtool -K DEV tx off`), say dataplane = "xdp"'
            )
        elif port.driver not in WITH_NATIVE_XDP:
            yield f"{port.name} (driver {port.driver or 'unknown'}) has no native XDP that is known of"
        if port.mtu > LARGEST_MTU:
            yield f"the MTU of {port.name} is {port.mtu}, and native XDP takes {LARGEST_MTU}"


def _version(number: tuple[int, int]) -> str:
    return ".".join(map(str, number))


@dataclass(frozen=True, slots=True)
class Interfaces:
    """Those that clients and nodes are on; ``clients`` are those that no node is on, as far as that is known."""

    names: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()


def interfaces_of(gateway: Gateway, around: Surroundings) -> Interfaces:
    """The interfaces of clients and nodes: those of the file, else as listeners and routes say.

    Where clients come in cannot always be told, as for a VIP that is routed here from nobody knows where: then it is
    every interface that frames can come by.
    """
    addresses = dict.fromkeys(
        own.address for service in gateway.services for node in service.nodes for own in node.addresses
    )
    clients = {
        around.clients_link(listener) for service in gateway.services for listener in service.listeners
    }
    nodes = {around.link_to(address) for address in addresses}
    found = clients | nodes
    if None in clients:
        found |= {name for name in around.mtu.keys() - around.vrfs if not _is_member(around, name)}
        found -= set(gateway.guarded)
    names = gateway.interfaces or _sorted(found)
    return Interfaces(names, _sorted(clients - nodes) if None not in nodes else ())


def _sorted(names: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name is not None and name != "lo"}))


def _is_member(around: Surroundings, name: str) -> bool:
    return around.masters.get(name, ("", ""))[1] in ("bridge", "bond", "team")
