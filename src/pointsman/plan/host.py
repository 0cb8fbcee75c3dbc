"""What the machine around the table needs: addresses that it carries, settings that let it forward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pointsman.model import Address, Family, Gateway

ALL_V4 = "net/ipv4/ip_forward"
ALL_V6 = "net/ipv6/conf/all/forwarding"


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


def settings_read(interfaces: Mapping[Family, Iterable[str]], uplinks: Iterable[str] = ()) -> list[str]:
    """The settings that forwarding touches, directly or because the kernel sets them along.

    Writing ip_forward sets every interface's forwarding and flips accept_redirects
    (Documentation/networking/ip-sysctl.rst), so all of these are remembered for ``down``.
    Of ``uplinks``, the check of sources is read as well.
    """
    keys = [ALL_V4, "net/ipv4/conf/all/accept_redirects", "net/ipv4/conf/default/forwarding"]
    keys += [f"net/ipv4/conf/{name}/forwarding" for name in interfaces.get(Family.V4, ())]
    keys += [ALL_V6, "net/ipv6/conf/default/forwarding"]
    for name in interfaces.get(Family.V6, ()):
        keys += [f"net/ipv6/conf/{name}/forwarding", f"net/ipv6/conf/{name}/accept_ra"]
    return [*keys, *(rp_filter_of(name) for name in dict.fromkeys(("all", *uplinks)))] if uplinks else keys


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
            and (
                (where := facts.addresses.get(wanted.address)) is None
                or wanted in own
                or CarriedAddress(wanted.address, where) in own
            )
        )
    )
    settings: list[tuple[str, str]] = []
    families = {listener.family for service in gateway.services for listener in service.listeners}
    if Family.V4 in families:
        settings.append((ALL_V4, "1"))
    if Family.V6 in families:
        if facts.sysctls.get(ALL_V6) == "0":
            # First: forwarding deletes the default routes of router advertisements where accept_ra is 1.
            settings += [(accept_ra_of(name), "2") for name in _listening_to_routers(facts)]
        settings.append((ALL_V6, "1"))
    settings += [(rp_filter_of(name), "2") for name in _strict(gateway, facts)]
    needed = tuple((key, value) for key, value in settings if facts.sysctls.get(key, value) != value)
    return HostPlan(addresses, needed)


def _strict(gateway: Gateway, facts: HostFacts) -> Iterator[str]:
    """The uplinks that would drop clients whose way back leads, for all the kernel knows, by another one.

    Of the interface's own setting and that of all, the larger one holds (ip-sysctl.rst).
    """
    for name in dict.fromkeys(own.interface for server in gateway.multihomes for own in server.uplinks):
        found = [facts.sysctls.get(rp_filter_of(each)) for each in ("all", name)]
        if None not in found and max(found, key=str) == "1":
            yield name


def _listening_to_routers(facts: HostFacts) -> list[str]:
    """The interfaces that heed router advertisements, and would no more once they forward."""
    return [
        name
        for name in facts.interfaces.get(Family.V6, ())
        if name != "lo"
        and facts.sysctls.get(accept_ra_of(name)) == "1"
        and facts.sysctls.get(forwarding_of(name)) == "0"
    ]


def forwarding_of(interface: str) -> str:
    return f"net/ipv6/conf/{interface}/forwarding"


def rp_filter_of(interface: str) -> str:
    return f"net/ipv4/conf/{interface}/rp_filter"


def accept_ra_of(interface: str) -> str:
    return f"net/ipv6/conf/{interface}/accept_ra"


def touched(plan: HostPlan, facts: HostFacts) -> dict[str, str]:
    """The settings that carrying out the plan changes, directly or along with others, as they are now."""
    written = {key for key, _ in plan.settings}
    along = [prefix for prefix, master in (("net/ipv4/", ALL_V4), ("net/ipv6/", ALL_V6)) if master in written]
    return {
        key: value
        for key, value in facts.sysctls.items()
        if key in written or (key.startswith(tuple(along)) and not key.endswith(("/accept_ra", "/rp_filter")))
    }


def restoring(saved: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str]]:
    """The writes that put ``saved`` settings back, in order.

    Those that set others along come first. accept_ra comes last: until then it keeps the routes of router
    advertisements over every write of 1 to any interface's forwarding, which deletes them on all of them.
    """
    first = [key for key in (ALL_V4, ALL_V6) if key in saved]
    last = [key for key in saved if key.endswith("/accept_ra")]
    rest = [key for key in saved if key not in first and key not in last]
    writes = [(key, saved[key]) for key in first if now.get(key) != saved[key]]
    # After a write that sets others along, what they are now is not known: write them all.
    writes += [(key, saved[key]) for key in rest if writes or now.get(key) != saved[key]]
    writes += [(key, saved[key]) for key in last if now.get(key) != saved[key]]
    return [(key, value) for key, value in writes if key in now]
