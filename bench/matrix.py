"""The cells to measure, and the loop that measures them: contenders in turn, round by round."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from itertools import groupby
from typing import TYPE_CHECKING

from bench.rig import Rig, Sample, Site
from bench.traffic import BALANCED, Kind, Pattern, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.contenders import Contender

FAMILIES = (4, 6)


@dataclass(frozen=True, slots=True)
class Series:
    """What to measure and for how long."""

    scenarios: tuple[Scenario, ...]
    rounds: int
    window: float  # seconds of each round

    def only(self, pattern: str) -> Series:
        """Return the scenarios whose names match a shell pattern."""
        return replace(self, scenarios=tuple(one for one in self.scenarios if fnmatch(one.name, pattern)))


@dataclass(frozen=True, slots=True)
class Plan:
    """The contenders' rates, and what each feature costs: the latter are small differences and want rounds."""

    rates: Series
    features: Series


@dataclass(slots=True)
class Cell:
    """One scenario's samples, by contender."""

    scenario: Scenario
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    unable: dict[str, str] = field(default_factory=dict)  # who did not take part, and why

    def mpps(self, name: str) -> float:
        return statistics.median(sample.mpps for sample in self.samples[name])

    def ratio(self, name: str, reference: str) -> float:
        """Return the median of the rounds' ratios: what a round met, both contenders of it met."""
        pairs = zip(self.samples[name], self.samples[reference], strict=True)
        return statistics.median(mine.mpps / theirs.mpps for mine, theirs in pairs)

    def nanoseconds_saved(self, name: str, reference: str) -> float:
        pairs = zip(self.samples[name], self.samples[reference], strict=True)
        return statistics.median(1e3 / theirs.mpps - 1e3 / mine.mpps for mine, theirs in pairs)

    def total(self, name: str, what: str) -> int:
        return sum(getattr(sample, what) for sample in self.samples[name])


def full() -> Plan:
    """Return the whole matrix: under a quarter of an hour.

    "Every packet a new address" stands once for each number of nodes: how many devices take turns changes
    nothing but CID bytes that nobody looks at.
    """
    scenarios = [
        Scenario(family, nodes, flows, pattern, reply)
        for family in FAMILIES
        for nodes in (2, 64, 250)
        for flows, pattern, reply in (
            (1_000, Pattern.ESTABLISHED, False),
            (60_000, Pattern.ESTABLISHED, False),
            (1_000_000, Pattern.ESTABLISHED, False),
            (1_000_000, Pattern.NEW, False),
            (60_000, Pattern.REUSED, False),
            (1_000, Pattern.ESTABLISHED, True),
            (60_000, Pattern.ESTABLISHED, True),
            (1_000_000, Pattern.ESTABLISHED, True),
        )
    ]
    features = [Scenario(family, 64, 60_000, reply=reply) for family in FAMILIES for reply in (False, True)]
    return Plan(Series(tuple(scenarios), 3, 0.6), Series(tuple(features), 5, 0.4))


def quick() -> Plan:
    """Return a cross-section of the matrix: about a minute."""
    scenarios = [
        Scenario(4, 2, 60_000),
        Scenario(4, 2, 60_000, reply=True),
        Scenario(4, 250, 60_000),
        Scenario(4, 250, 1_000_000, Pattern.NEW),
        Scenario(4, 250, 60_000, Pattern.REUSED),
        Scenario(6, 64, 60_000),
        Scenario(6, 64, 1_000_000, Pattern.NEW),
        Scenario(6, 64, 60_000, reply=True),
    ]
    return Plan(Series(tuple(scenarios), 3, 0.4), Series((Scenario(4, 64, 60_000),), 3, 0.3))


def xdp(*, quick: bool) -> Series:
    """Return what tells the XDP plane from the others: connection IDs, flows, segments; few and many of each."""
    main = [
        Scenario(family, 2, 60_000, reply=reply, kind=kind)
        for kind in BALANCED
        for family in FAMILIES
        for reply in (False, True)
    ]
    if quick:
        chosen = [one for one in main if one.family == 4 or one.kind is Kind.CID]
        sizes = [Scenario(4, 250, 4_000_000, kind=Kind.UDP), Scenario(4, 2, 60_000, services=1_000)]
        return Series((*chosen, *sizes), 3, 0.3)
    sizes = [
        scenario
        for kind in BALANCED
        for scenario in (
            Scenario(4, 250, 60_000, kind=kind),
            Scenario(4, 250, 4_000_000, kind=kind),
            Scenario(4, 2, 60_000, kind=kind, services=1_000),
        )
    ]
    new = [Scenario(4, 250, 1_000_000, Pattern.NEW), Scenario(4, 250, 60_000, Pattern.REUSED)]
    return Series((*main, *sizes, *new), 5, 0.5)


def measure(
    contenders: Sequence[Contender],
    series: Series,
    done: Callable[[Cell], None],
) -> Iterator[Cell]:
    """Measure each scenario with every contender; those of one site share the rigs."""
    for site, group in groupby(series.scenarios, Site.of):
        reasons = {contender.name: contender.unable(site) for contender in contenders}
        unable = {name: why for name, why in reasons.items() if why}
        able = [contender for contender in contenders if contender.name not in unable]
        if not able:
            continue
        with ExitStack() as stack:
            rigs = [stack.enter_context(_ready(contender, site)) for contender in able]
            for scenario in group:
                cell = Cell(scenario, {contender.name: [] for contender in able}, unable)
                for number in range(series.rounds):
                    turn = number % len(rigs)
                    # Nobody always comes first, or always after the same one.
                    for ready in rigs[turn:] + rigs[:turn]:
                        cell.samples[ready.contender.name].append(ready.measure(scenario, series.window))
                done(cell)
                yield cell


class _ready:  # noqa: N801 - reads as the function it stands for
    """A contender set up on a rig of its own; a context manager."""

    def __init__(self, contender: Contender, site: Site) -> None:
        self.contender = contender
        self._site = site
        self._rig = Rig(site)
        self._met: set[Scenario] = set()
        self._stack = ExitStack()

    def __enter__(self) -> _ready:
        with ExitStack() as stack:
            stack.enter_context(self._rig)
            self.contender.setup(self._rig.gateway, self._site)
            stack.callback(self.contender.teardown, self._rig.gateway)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, scenario: Scenario, window: float) -> Sample:
        remembers = self.contender.remembers and scenario not in self._met
        self._met.add(scenario)
        sample = self._rig.measure(scenario, window, direct=self.contender.direct, prime_all=remembers)
        # The kernel has one conntrack table for all namespaces: what one rig leaves slows the next one down.
        self._rig.gateway.flush_conntrack()
        return sample
