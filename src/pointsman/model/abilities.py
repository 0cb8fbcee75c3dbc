"""What each data plane cannot do in this version, so that `check` can say so and `auto` can take the other one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pointsman.model.gateway import Forward, Gateway, Scheduler, Service

NFTABLES, XDP = "nftables", "xdp"
PLANES = (NFTABLES, XDP)

Ability = tuple[str, str]
"""A key of a service, and the value that not every plane carries."""

_LACKS: dict[str, frozenset[Ability]] = {
    NFTABLES: frozenset(
        {
            ("forward", Forward.TUNNEL),
            # Nothing in nftables counts what a node has open, and picks the least of it.
            ("scheduler", Scheduler.LEAST_CONNECTIONS),
            ("filter.amplification", ""),
        }
    ),
    XDP: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Lack:
    """What a plane does not carry of a service: its place in the file, the key, and its value."""

    index: int
    name: str
    key: str
    value: str

    def __str__(self) -> str:
        return f"service {self.name} has {self.what}"

    @property
    def what(self) -> str:
        return f'{self.key} = "{self.value}"' if self.value else self.key


def carries(plane: str, key: str, value: str = "") -> bool:
    """Whether a plane carries a value of a service's key in this version; ``value`` is "" for any."""
    return (key, value) not in _LACKS[plane]


def lacks(gateway: Gateway, plane: str) -> Iterator[Lack]:
    """Everything in the gateway that the plane does not carry."""
    missing = _LACKS[plane]
    for index, service in enumerate(gateway.services):
        for key, value in _asked(service):
            if (key, value) in missing:
                yield Lack(index, service.name, key, value)


def _asked(service: Service) -> Iterator[Ability]:
    yield "protocol", service.protocol
    yield "forward", service.forward
    yield "scheduler", service.scheduler
    if service.affinity is not None:
        yield "affinity", ""
    if service.filter is not None:
        yield "filter", ""
        if service.filter.amplification:
            yield "filter.amplification", ""
