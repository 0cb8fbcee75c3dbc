"""Read what the machine is, and carry out a host plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pointsman.kernel import announce, iproute, sysctl
from pointsman.kernel.errors import KernelError
from pointsman.model import Family
from pointsman.plan.host import CarriedAddress, HostFacts, restoring, settings_read


def read_facts(uplinks: Collection[str] = ()) -> HostFacts:
    """What is found of this machine, and of the uplinks of multihomed servers."""
    interfaces = {family: tuple(sysctl.interfaces(family.value)) for family in Family}
    return HostFacts(iproute.addresses(), read_settings(settings_read(interfaces, uplinks)), interfaces)


def present(interfaces: Iterable[str]) -> tuple[str, ...]:
    """Those that are there."""
    links = iproute.links()
    return tuple(name for name in interfaces if name in links)


def read_settings(keys: Iterable[str]) -> dict[str, str]:
    """Those of ``keys`` that the kernel has."""
    return {key: value for key in keys if (value := sysctl.read(key)) is not None}


def write_settings(settings: Iterable[tuple[str, str]]) -> None:
    for key, value in settings:
        sysctl.write(key, value)


def restore_settings(saved: Mapping[str, str]) -> None:
    """Put the settings back; those of vanished interfaces are let go."""
    write_settings(restoring(saved, read_settings(saved)))


def carry(addresses: Iterable[CarriedAddress]) -> None:
    """Add addresses and tell the neighbours; on failure take back those added; raise KernelError."""
    added: list[CarriedAddress] = []
    links = iproute.links()
    try:
        for own in addresses:
            if own.interface not in links:
                raise KernelError(f"there is no interface {own.interface} to carry {own.address}")
            iproute.add_address(own.address, own.interface)
            added.append(own)
    except KernelError:
        drop(added)
        raise
    for own in added:
        announce.announce_address(own.address, links[own.interface])


def missing(addresses: Iterable[CarriedAddress]) -> list[CarriedAddress]:
    """Those that their interface does not carry."""
    links = iproute.links()
    return [
        own
        for own in addresses
        if own.interface not in links or not iproute.carries(own.address, own.interface)
    ]


def drop(addresses: Iterable[CarriedAddress]) -> None:
    """Remove addresses; one that is already gone, or was put there by others since, is as it should be."""
    links = iproute.links()
    for own in addresses:
        if own.interface in links and iproute.carries(own.address, own.interface):
            iproute.remove_address(own.address, own.interface)
