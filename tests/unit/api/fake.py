"""An operator without a daemon behind it: two services, what is ordered is remembered, and mistakes are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pointsman.api.documents import (
    Applied,
    ApplyRequest,
    CheckResult,
    Count,
    Drained,
    Event,
    FlowRow,
    Guard,
    Interface,
    Kept,
    Leaving,
    Listener,
    Node,
    Order,
    OrderRequest,
    Pending,
    ReplaceRequest,
    Service,
    Status,
    Verb,
)
from pointsman.api.operator import RefusedError

TEXT = '[gateway]\nname = "edge-1"\nhash_seed = "1234abcd"\n'
STATES = {Verb.DRAIN: "draining", Verb.DISABLE: "disabled", Verb.ENABLE: "up"}


class FakeOperator:
    """``at`` is its clock; ``quiet_after``: how many times ``drained`` is asked until nothing names the node.

    So many ``troubles`` are the answers to what is asked next.
    """

    def __init__(self) -> None:
        self.at = 1_000_000.0
        self.given: dict[tuple[str, str | None], Order] = {}
        self.kept: list[Event] = []
        self.history_of = [Kept(number=1, at=self.at, filename="g.toml", who="uid 0", size=9, digest="ab")]
        self.pending: Pending | None = None
        self.text = TEXT
        self.asked_drained = 0
        self.told = 0
        self.quiet_after = 3
        self.troubles = 0
        self.addresses = {"n1": ["10.0.0.11", "fd00::11"], "n2": ["10.0.0.12", "fd00::12"]}
        self.stopped = asyncio.Event()
        self._more = asyncio.Event()

    def happen(self, kind: str, text: str, service: str = "", node: str = "", who: str = "") -> None:
        number = len(self.kept) + 1
        self.kept.append(
            Event(number=number, at=self.at, kind=kind, service=service, node=node, who=who, text=text)
        )
        self._more.set()
        self._more = asyncio.Event()

    def _node(self, service: str, name: str, number: int | None) -> Node:
        order = self.given.get((service, name))
        healthy = name != "n2"
        return Node(
            name=name,
            id=number,
            state=STATES[order.verb] if order else "up",
            why=f"order of {order.who}" if order else "",
            weight=1,
            share=100 if healthy else 50,
            addresses=self.addresses[name],
            flows=7,
            counters={
                "cid": Count(packets=10 * (number or 1), bytes=1000),
                "flow": Count(packets=5, bytes=500),
            },
            rates={"cid": 12.5 * (number or 1), "flow": 1.0},
            checks=[
                CheckResult(kind="dtls", target="10.0.0.11:5684", healthy=healthy, since=1.0, latency=0.004),
                CheckResult(kind="tcp", target="10.0.0.11:22", healthy=None),
                CheckResult(
                    kind="icmp", target="10.0.0.11", healthy=True, said="not tried: no files", tried=False
                ),
            ],
            order=order,
        )

    def _has_trouble(self) -> None:
        if self.troubles:
            self.troubles -= 1
            raise RefusedError("the kernel is being put right", status=503)

    async def status(self) -> Status:
        self._has_trouble()
        services = [
            Service(
                name="coaps",
                protocol="dtls",
                forward="nat",
                scheduler="maglev",
                disabled=("coaps", None) in self.given,
                listeners=[
                    Listener(
                        address="192.0.2.10:5684", counters={"cid_unknown": Count(packets=3, bytes=300)}
                    ),
                    Listener(address="[2001:db8::10]:5684"),
                ],
                nodes=[self._node("coaps", "n1", 1), self._node("coaps", "n2", 2)],
            ),
            Service(
                name="coap",
                protocol="udp",
                forward="nat",
                scheduler="maglev",
                state="degraded",
                listeners=[Listener(address="192.0.2.10:5683")],
                nodes=[self._node("coap", "n1", None)],
            ),
        ]
        return Status(
            gateway="edge-1",
            filename="g.toml",
            dataplane="xdp",
            dataplane_reason="as configured",
            version="0",
            started=self.at - 60,
            applied=self.at - 30,
            repairs=2,
            pending=self.pending,
            counters={"hairpin": Count(packets=1, bytes=100)},
            services=services,
            interfaces=[Interface(name="wan0", mode="native")],
            findings=["wan0 is down"],
            guards=[Guard(name="dns", interfaces=["lo"], ports=["53"], mode="enforce")],
            leaving=[Leaving(service="coaps", node="n9")],
        )

    async def _exists(self, service: str, node: str | None) -> None:
        found = next((one for one in (await self.status()).services if one.name == service), None)
        if found is None:
            raise RefusedError(f"no service {service!r}; one of coaps, coap", status=404)
        if node is not None and node not in [one.name for one in found.nodes]:
            raise RefusedError(f"service {service} has no node {node!r}; one of n1, n2", status=404)

    async def order(self, who: str, service: str, node: str | None, order: OrderRequest) -> Order:
        await self._exists(service, node)
        until = None if order.seconds is None else self.at + order.seconds
        given = Order(
            service=service,
            node=node,
            verb=order.verb,
            who=who,
            since=self.at,
            reason=order.reason,
            until=until,
        )
        if order.verb is Verb.ENABLE:
            self.given.pop((service, node), None)
        else:
            self.given[service, node] = given
        self.happen("order", f"{order.verb}: {order.reason}", service, node or "", who)
        return given

    async def replace(self, who: str, service: str, node: str, by: ReplaceRequest) -> Applied:
        await self._exists(service, node)
        if by.address[0] == "192.0.2.10":
            raise RefusedError("not a node's", status=422, errors=("address 192.0.2.10 is a listener's",))
        self.addresses[node] = list(by.address)
        self.happen("order", "replaced", service, node, who)
        return Applied(changes=[f"{service}/{node}: now {', '.join(by.address)}"], number=2)

    async def drained(self, service: str, node: str) -> Drained:
        await self._exists(service, node)
        self._has_trouble()
        self.asked_drained += 1
        left = max(0, self.quiet_after - self.asked_drained)
        return Drained(
            service=service,
            node=node,
            state="draining",
            cid_per_second=1.5 * left,
            flow_per_second=0.5 * left,
            flows=left,
            devices=left or None,
            quiet=0.0 if left else 3600.0,
            order=self.given.get((service, node)),
        )

    async def flows(self) -> list[FlowRow]:
        return [FlowRow(services=["coaps"], node="n1", kind="answered", flows=12)]

    async def orders(self) -> list[Order]:
        return list(self.given.values())

    async def apply(self, who: str, asked: ApplyRequest) -> Applied:
        if not asked.text.startswith("["):
            raise RefusedError(
                "the configuration has mistakes", status=422, errors=(f"{asked.filename}:1: no table",)
            )
        self.text = asked.text
        self.happen("apply", asked.filename, who=who)
        if asked.confirm is not None:
            self.pending = Pending(until=self.at + asked.confirm, back_to=1)
        return Applied(changes=["service coaps: new"], number=2)

    async def reload(self, who: str) -> Applied:
        self.happen("apply", "reload", who=who)
        return Applied(changes=[], warnings=["g.toml:1: weight 0 takes no new flow"], number=1)

    async def confirm(self, who: str) -> None:
        if self.pending is None:
            raise RefusedError("nothing waits to be confirmed")
        self.pending = None
        self.happen("confirm", "kept", who=who)

    async def history(self) -> list[Kept]:
        return self.history_of

    async def restore(self, who: str, number: int) -> Applied:
        if number != 1:
            raise RefusedError(f"no configuration {number}; 1", status=404)
        self.happen("apply", f"restored {number}", who=who)
        return Applied(changes=["service coaps: as it was"], number=3)

    async def configuration(self) -> str:
        return self.text

    async def events(self, after: int) -> list[Event]:
        return [event for event in self.kept if event.number > after]

    async def follow(self, after: int) -> AsyncIterator[Event]:
        while True:
            more = self._more
            for event in await self.events(after):
                after = event.number
                self.told += 1
                yield event
            if self.stopped.is_set():
                return
            waits = [asyncio.create_task(event.wait()) for event in (more, self.stopped)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for one in waits:
                one.cancel()
