"""Every check of a gateway one time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pointsman.health.at_node import PROBE
from pointsman.health.probes.step import Outcome
from pointsman.health.targets import Target, watched, words_of
from pointsman.health.tries import Tries, Try
from pointsman.model import Gateway


@dataclass(frozen=True, slots=True)
class Tried:
    """How one check of a node went at one address, ``words``; ``seconds`` is what it took."""

    service: str
    node: str
    target: Target
    words: str
    outcome: Outcome
    seconds: float


async def once(gateway: Gateway) -> tuple[Tried, ...]:
    """Try every check now, what services share one time, and return when all have ended."""
    loop = asyncio.get_running_loop()
    nodes = tuple(watched(gateway))
    tries = Tries(loop, PROBE)
    outcomes: dict[Target, tuple[Outcome, float]] = {}
    targets = {target for one in nodes for target in one.targets}
    under_way: list[Try] = []
    finished = loop.create_future()

    def begin(target: Target) -> Try:
        def ended(outcome: Outcome, seconds: float) -> None:
            outcomes[target] = outcome, seconds
            if len(outcomes) == len(targets) and not finished.done():
                finished.set_result(None)

        return tries.begin(target, ended)

    try:
        tries.want(targets)
        under_way += [begin(target) for target in targets]
        if targets:
            await finished
    finally:
        for one in under_way:
            one.cancel()
        tries.close()
    return tuple(
        Tried(one.service, one.node, target, words, *outcomes[target])
        for one in nodes
        for target, words in zip(one.targets, words_of(one), strict=True)
    )
