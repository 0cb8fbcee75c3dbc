"""The nftables data plane."""

from __future__ import annotations

from typing import Any

from pointsman.dataplane.nftables_direct import direct_counts
from pointsman.dataplane.nftables_flows import clients, flows
from pointsman.dataplane.protocol import Clients, Count, FlowCount, merged
from pointsman.dataplane.stamps import read_stamp
from pointsman.kernel.nft import Nft, NftError
from pointsman.model import ConnectionIdRange, Family, Service
from pointsman.plan.inputs import Capabilities, PlaneInputs
from pointsman.plan.nftables import (
    ALL_TABLES,
    TABLE,
    Change,
    add_applied,
    change,
    changes,
    compile_ruleset,
    direct_changes,
    removal,
    scaffold,
    stale_tables,
)
from pointsman.plan.nftables import stamp as stamp_lines
from pointsman.plan.nftables.compile import translated
from pointsman.plan.nftables.damage import damage
from pointsman.plan.nftables.direct import compile_direct
from pointsman.plan.nftables.expressions import CidBits
from pointsman.plan.nftables.guard import guard_verdict_set
from pointsman.plan.nftables.names import (
    UDP,
    family_name,
    listener_name,
    node_verdict_set,
    transport_of,
    verdict_set,
    wire_tag,
)
from pointsman.plan.nftables.ruleset import APPLIED, FAMILY, NAME
from pointsman.plan.verdicts import GUARDED, MEANINGS, Scope, Verdict

_UNCLEARED = " uncleared"
"""Ends the stamp of a table in which what stood before is not cleared away yet."""

_TPROXY_PROBE = """\
table inet pointsman-probe {
	chain probe {
		meta l4proto udp tproxy ip to 127.0.0.1:1
		meta l4proto udp tproxy ip6 to [::1]:1
	}
}
"""


class NftablesPlane:
    """One table, ``inet pointsman``; see docs/ARCHITECTURE.md, "The nftables plane"."""

    name = "nftables"

    def __init__(self, nft: Nft) -> None:
        self._nft = nft

    def capabilities(self) -> Capabilities:
        return Capabilities(defragment_by_tproxy=self._nft.accepts(_TPROXY_PROBE))

    def stamp(self) -> str | None:
        return (read_stamp(self._nft, TABLE, APPLIED) or "").removesuffix(_UNCLEARED) or None

    def left_halfway(self) -> bool:
        return (read_stamp(self._nft, TABLE, APPLIED) or "").endswith(_UNCLEARED)

    def transaction(self, have: PlaneInputs | None, want: PlaneInputs) -> str:
        return change(have, want).text

    def apply(self, have: PlaneInputs | None, want: PlaneInputs, stamp: str) -> None:
        if have is None and not self._table_stands():
            self._build(want, stamp)
        else:
            stale = Change(stale_tables(want) if have is None else "")
            self._carry_out(stale + change(have, want), stamp)

    def _carry_out(self, wanted: Change, stamp: str) -> None:
        if wanted.clear:
            make = wanted.make + stamp_lines(stamp + _UNCLEARED)
            try:
                self._nft.apply(make, wanted.clear + stamp_lines(stamp))
            except NftError:
                # What is in force is so; who comes next finds that it is left halfway.
                if self.stamp() != stamp:
                    raise
        else:
            self._nft.apply(wanted.make + stamp_lines(stamp))

    def finish(self, have: PlaneInputs, want: PlaneInputs, stamp: str) -> None:
        self._nft.apply(change(have, want).clear + stamp_lines(stamp))

    def _table_stands(self) -> bool:
        tables = (entry.get("table", {}) for entry in self._nft.listing("list tables"))
        return any((table.get("family"), table.get("name")) == (FAMILY, NAME) for table in tables)

    def _build(self, want: PlaneInputs, stamp: str) -> None:
        """Make the first table: what no packet sees yet in pieces, then everything that acts in one transaction."""
        ruleset = compile_ruleset(want)
        sets, pieces = scaffold(ruleset)
        try:
            for piece in pieces:
                self._nft.apply(piece)
            acting = changes(sets, ruleset) + Change(stale_tables(want)) + direct_changes(None, want)
            self._carry_out(acting + Change(add_applied()), stamp)
        except NftError:
            self.remove()
            raise

    def remove(self) -> None:
        self._nft.apply("".join(removal(table) for table in ALL_TABLES))

    def damage(self, inputs: PlaneInputs) -> list[str]:
        rulesets = [compile_ruleset(inputs), *(compile_direct(inputs, family) for family in Family)]
        found: list[str] = []
        for ruleset in rulesets:
            if ruleset is None:
                continue
            try:
                listing = self._nft.text(f"list table {ruleset.table}")
            except NftError as problem:
                if "No such file" not in str(problem):
                    raise
                found.append(f"table {ruleset.table} is gone")
            else:
                found += damage(ruleset, listing)
        return found

    def flows(self, inputs: PlaneInputs) -> list[FlowCount]:
        return flows(inputs)

    def clients(self, inputs: PlaneInputs, service: str, node: str) -> Clients:
        return clients(inputs, service, node)

    def counts(self, inputs: PlaneInputs) -> list[Count]:
        found = direct_counts(self._elements, inputs)
        services = translated(inputs.gateway)
        for service in services:
            for family in Family:
                if service.connection_id is not None and service.listeners_of(family):
                    found += self._cid_counts(service, service.connection_id, family)
            if service.filter is not None:
                found += self._node_budget_counts(service)
        for guard in inputs.gateway.guards:
            for verdict in GUARDED:
                counters = [
                    counter for _, counter in self._elements("set", guard_verdict_set(guard, verdict))
                ]
                found.append(_summed("", guard.name, verdict, counters))
        wires = {
            (listener.family, transport_of(service)) for service in services for listener in service.listeners
        }
        for family, transport in sorted(wires):
            found += self._endpoint_counts(inputs, family, transport)
            found += self._listener_counts(inputs, family, transport)
        for family in sorted({family for family, _ in wires}):
            hairpins = [counter for _, counter in self._elements("set", f"hairpin{family.value}")]
            found.append(_of_gateway(Verdict.HAIRPIN, hairpins))
        for verdict in (
            (Verdict.FLOW_TABLE_FULL, Verdict.ICMP_SUPPRESSED, Verdict.NOT_TRACKED) if wires else ()
        ):
            found.append(_of_gateway(verdict, [counter for _, counter in self._elements("set", verdict)]))
        return merged(found)

    def _elements(self, kind: str, name: str, table: str = TABLE) -> list[tuple[Any, dict[str, int]]]:
        """Keys and counters of a set or map."""
        listed = self._nft.listing(f"list {kind} {table} {name}")[0][kind].get("elem", [])
        keys = [row[0] if kind == "map" else row for row in listed]
        return [(key["elem"]["val"], key["elem"]["counter"]) for key in keys]

    def _cid_counts(self, service: Service, where: ConnectionIdRange, family: Family) -> list[Count]:
        bits = CidBits(where)
        names = {int(bits.element(node.id), 16): node.name for node in service.nodes if node.id is not None}
        return [
            Count(service.name, names[key], Verdict.CID, counter["packets"], counter["bytes"])
            for key, counter in self._elements("map", f"{family_name(service, family)}/cid")
            if key in names
        ]

    def _endpoint_counts(self, inputs: PlaneInputs, family: Family, transport: str) -> list[Count]:
        """The counters that are kept by a node's address and port, which belong to one listener."""
        owners = {
            (str(endpoint.address), endpoint.port): (service.name, node.name)
            for service in translated(inputs.gateway)
            if transport_of(service) == transport
            for listener in service.listeners_of(family)
            for node in service.nodes
            if (endpoint := node.endpoint(listener)) is not None
        }
        kinds = {Verdict.FLOW: "set", Verdict.BALANCED: "set", Verdict.REPLY: "map"}
        return [
            Count(*owners[owner], verdict, counter["packets"], counter["bytes"])
            for verdict, kind in kinds.items()
            for key, counter in self._elements(kind, f"{verdict}{wire_tag(family, transport)}")
            if (owner := tuple(key["concat"])) in owners
        ]

    def _node_budget_counts(self, service: Service) -> list[Count]:
        own = service.filter
        if own is None:
            return []
        kept = {Verdict.HELLO_OVER_NODE: own.hello.per_node, Verdict.CID_OVER_NODE: own.cid.per_node}
        return [
            _summed(service.name, str(listener.endpoint), verdict, [counter for _, counter in elements])
            for listener in service.listeners
            for verdict, budget in kept.items()
            if budget
            for elements in [
                self._elements("set", node_verdict_set(listener_name(service, listener.endpoint), verdict))
            ]
        ]

    def _listener_counts(self, inputs: PlaneInputs, family: Family, transport: str) -> list[Count]:
        owners = {
            (str(listener.endpoint.address), listener.endpoint.port): (service.name, str(listener.endpoint))
            for service in translated(inputs.gateway)
            if transport_of(service) == transport
            for listener in service.listeners_of(family)
        }
        filtered = transport == UDP and any(
            service.filter is not None and service.listeners_of(family)
            for service in translated(inputs.gateway)
        )
        verdicts = [
            verdict
            for verdict, meaning in MEANINGS.items()
            if meaning.scope is Scope.LISTENER and self.name in meaning.planes and not meaning.of_filter
        ]
        return [
            Count(*owners[owner], verdict, counter["packets"], counter["bytes"])
            for verdict in (*verdicts, *(GUARDED if filtered else ()))
            for key, counter in self._elements("set", verdict_set(verdict, family, transport))
            if (owner := tuple(key["concat"])) in owners
        ]


def _of_gateway(verdict: Verdict, counters: list[dict[str, int]]) -> Count:
    return _summed("", "", verdict, counters)


def _summed(service: str, subject: str, verdict: Verdict, counters: list[dict[str, int]]) -> Count:
    packets = sum(counter["packets"] for counter in counters)
    return Count(service, subject, verdict, packets, sum(counter["bytes"] for counter in counters))
