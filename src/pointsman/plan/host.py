"""What the machine around the table needs: addresses that it carries, settings that let it forward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pointsman.model import Address, Family, Gateway


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What was found: addresses with their interfaces, and settings by path below /proc/sys."""

    addresses: Mapping[Address, str]
    sysctls: Mapping[str, str]
    interfaces: Mapping[Family, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class CarriedAddress:
    address: Address
    interface: str


@dataclass(frozen=True, slots=True)
class HostPlan:
    """``settings`` are to be written in this order."""

    addresses: tuple[CarriedAddress, ...]
    settings: tuple[tuple[str, str], ...]


def settings_read(interfaces: Mapping[Family, Iterable[str]]) -> list[str]:
    """The settings that forwarding touches, directly or because the kernel sets them along.

    Writing ip_forward sets every interface's forwarding and flips accept_redirects
    (Documentation/networking/ip-sysctl.rst), so all of these are remembered for ``down``.
    """
    keys = ["net/ipv4/ip_forward", "net/ipv4/conf/all/accept_redirects", "net/ipv4/conf/default/forwarding"]
    keys += [f"net/ipv4/conf/{name}/forwarding" for name in interfaces.get(Family.V4, ())]
    keys += ["net/ipv6/conf/all/forwarding", "net/ipv6/conf/default/forwarding"]
    for name in interfaces.get(Family.V6, ()):
        keys += [f"net/ipv6/conf/{name}/forwarding", f"net/ipv6/conf/{name}/accept_ra"]
    return keys


def compile_host(gateway: Gateway, facts: HostFacts, carried: Iterable[CarriedAddress] = ()) -> HostPlan:
    """Say what the machine must become; ``carried`` are the addresses that Pointsman itself put there before."""
    own = set(carried)
    addresses = tuple(
        dict.fromkeys(
            wanted
            for service in gateway.services
            for listener in service.listeners
            if listener.interface is not None
            and (wanted := CarriedAddress(listener.endpoint.address, listener.interface))
            and (listener.endpoint.address not in facts.addresses or wanted in own)
        )
    )
    settings: list[tuple[str, str]] = []
    families = {listener.family for service in gateway.services for listener in service.listeners}
    if Family.V4 in families:
        settings.append(("net/ipv4/ip_forward", "1"))
    if Family.V6 in families:
        # First: forwarding deletes the default routes of router advertisements where accept_ra is 1.
        for name in facts.interfaces.get(Family.V6, ()):
            key = f"net/ipv6/conf/{name}/accept_ra"
            if (
                name != "lo"
                and facts.sysctls.get(key) == "1"
                and facts.sysctls.get(forwarding_of(name)) == "0"
            ):
                settings.append((key, "2"))
        settings.append(("net/ipv6/conf/all/forwarding", "1"))
    needed = tuple((key, value) for key, value in settings if facts.sysctls.get(key, value) != value)
    return HostPlan(addresses, needed)


def forwarding_of(interface: str) -> str:
    return f"net/ipv6/conf/{interface}/forwarding"


def restoring(saved: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str]]:
    """The writes that put ``saved`` settings back, in order: those that set others along come first."""
    first = [key for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding") if key in saved]
    rest = [key for key in saved if key not in first]
    writes = [(key, saved[key]) for key in first if now.get(key) != saved[key]]
    # After a write that sets others along, what they are now is not known: write them all.
    writes += [(key, saved[key]) for key in rest if writes or now.get(key) != saved[key]]
    return [(key, value) for key, value in writes if key in now]
