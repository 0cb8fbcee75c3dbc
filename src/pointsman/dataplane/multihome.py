"""Multihomed servers: an nftables table, routes and rules, and programs on control groups."""

from __future__ import annotations

from pointsman.dataplane.multihome_programs import Programs
from pointsman.dataplane.protocol import Count
from pointsman.dataplane.sides import Wanted
from pointsman.dataplane.stamps import read_stamp
from pointsman.kernel import policy_routing
from pointsman.kernel.nft import Nft
from pointsman.model import Gateway
from pointsman.plan.multihome import APPLIED, TABLE, LinkFacts, MultihomePlan, Route, Rule, compile_multihome
from pointsman.plan.nftables import removal


class MultihomeSide:
    """What ``plan.multihome`` says, in the kernel; it is found again by names and numbers of its own."""

    name = "multihome"

    def __init__(self, nft: Nft, folder: str) -> None:
        self._nft = nft
        self._programs = Programs(folder)
        self._stands: MultihomePlan | None = None
        """What this process has found, or put, in place: to look again takes a dozen commands."""

    def changes(self, want: Wanted) -> list[str]:
        gateway = want.inputs.gateway
        plan = compile_multihome(gateway, _links(gateway))
        stands = self._stamp()
        lines = []
        if stands != (plan.stamp if plan.body else None):
            verb = "removed" if not plan.body else "new" if stands is None else "changed"
            lines.append(f"multihome: translation by mark {verb}")
        routes, rules = policy_routing.own_routes(), policy_routing.own_rules()
        lines += [f"multihome: route {_words(own)}" for own in plan.routes if own not in routes]
        lines += [f"multihome: route removed: {_words(own)}" for own in routes if own not in plan.routes]
        lines += [f"multihome: rule {_words(own)}" for own in plan.rules if own not in rules]
        lines += [f"multihome: rule removed: {_words(own)}" for own in rules if own not in plan.rules]
        lines += self._programs.changes(plan.attachments)
        self._stands = None if lines else plan
        return lines

    def apply(self, have: Wanted | None, want: Wanted) -> None:  # noqa: ARG002 - nothing of it depends on the plane
        self._become(_plan(want.inputs.gateway))

    def settle(self, want: Wanted) -> None:
        self._become(_plan(want.inputs.gateway))

    def remove(self) -> None:
        self._become(MultihomePlan())

    def _become(self, plan: MultihomePlan) -> None:
        if plan == self._stands:
            return
        self._stands = None
        # Rules come before the programs that send by them, and go behind them: an answer from an address is on its
        # way to that one's uplink.
        if plan.attachments:
            self._route(plan)
            self._programs.become(plan.attachments)
        else:
            self._programs.become(())
            self._route(plan)
        stands = self._stamp()
        if plan.body and stands != plan.stamp:
            self._nft.apply(plan.table)
        elif not plan.body and stands is not None:
            self._nft.apply(removal(TABLE))
        self._stands = plan

    def _route(self, plan: MultihomePlan) -> None:
        policy_routing.change(
            policy_routing.own_routes(), plan.routes, policy_routing.own_rules(), plan.rules
        )

    def counts(self, want: Wanted) -> list[Count]:  # noqa: ARG002 - it drops nothing
        return []

    def lines(self, want: Wanted) -> list[str]:
        gateway = want.inputs.gateway
        if not gateway.multihomes:
            return []
        lines = []
        for server in gateway.multihomes:
            uplinks = ", ".join(own.interface for own in server.uplinks)
            whose = f" {server.cgroup}" if server.cgroup else ""
            lines.append(f"multihome {server.name}: by {server.mode}{whose}, at {uplinks}")
        missing = self.changes(want)
        if missing:
            lines.append(
                f"multihome: {len(missing)} things are not as the file says; `pointsman apply` mends them"
            )
        return lines

    def _stamp(self) -> str | None:
        return read_stamp(self._nft, TABLE, APPLIED)


def _links(gateway: Gateway) -> dict[str, LinkFacts]:
    return policy_routing.links({own.interface for server in gateway.multihomes for own in server.uplinks})


def _plan(gateway: Gateway) -> MultihomePlan:
    return compile_multihome(gateway, _links(gateway))


def _words(own: Route | Rule) -> str:
    return f"-{own.family.value} {' '.join(own.words())}"
