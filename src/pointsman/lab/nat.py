"""A NAT whose mappings change while its clients' sockets stay as they are."""

from __future__ import annotations

from ipaddress import ip_address

from pointsman.lab import conntrack
from pointsman.lab.commands import nat_table
from pointsman.lab.errors import LabError
from pointsman.lab.inside import inside
from pointsman.lab.run import feed
from pointsman.lab.topology import Topology, namespace


class Nat:
    """NAT ``number`` of a running lab."""

    def __init__(self, topology: Topology, number: int) -> None:
        self.name = topology.machine(f"nat{number}").name
        self.namespace = namespace(topology.name, self.name)
        self._external = {family: topology.external(number, family) for family in (4, 6)}

    def external(self, family: int) -> tuple[str, ...]:
        """The addresses there are to choose from."""
        return self._external[family]

    def remap(self, address: str, ports: tuple[int, int] | int | None = None) -> None:
        """Let everything of the address's family leave with ``address`` and a port in ``ports`` from now on.

        One port, ``40000`` or ``(40000, 40000)``, is forced: two devices can have it in turn, with a remap
        between them. While one of them holds it toward a listener, the kernel drops what the other sends
        there. None keeps the device's own port where it is free. Flows under way are forgotten, so the next
        packet of an unchanged socket shows the new mapping, and late replies to the old one are dropped.
        """
        family = ip_address(address).version
        if address not in self._external[family]:
            raise LabError(
                f"{self.name} has no address {address}; it has {', '.join(self._external[family])}"
            )
        span = (ports, ports) if isinstance(ports, int) else ports
        if span is not None and not 1 <= span[0] <= span[1] <= 65535:
            raise LabError(f"{self.name}: ports {span[0]}-{span[1]} are no range within 1..65535")
        with inside(self.namespace):
            feed(["nft", "-f", "-"], nat_table(address, span))
            conntrack.flush(family)

    def forget(self, family: int) -> None:
        """Drop every mapping of one family, as after a power cut; the rules stay."""
        with inside(self.namespace):
            conntrack.flush(family)
