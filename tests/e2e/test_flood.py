"""A flood of three times what the nftables plane forwards costs real devices no session on xdp.

The flood comes by an interface and on a core of its own, as a network card deals out its queues; devices, nodes and
their part of the gateway have the other core. It says what it reached. For a quiet machine: `make bench` runs it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from bench.flood import INTERFACE, Flood, nftables_forwards, on_core
from bench.libbpf import BpfError
from tests.e2e.crowd import COAPS, NODES, SERVED, STRICT, established, unharmed, wandering

from pointsman.lab.build import Lab
from pointsman.lab.demo_peers import end_all, total
from pointsman.lab.demo_site import Site

SECONDS = 4.0
FILTER = '[service.filter]\nlevel = "record"\nhello = { per_prefix = 200, total = 500 }'

pytestmark = [
    pytest.mark.peers,
    pytest.mark.netns,
    pytest.mark.skipif(
        "POINTSMAN_FLOOD" not in os.environ,
        reason="wants a quiet machine; `make bench` sets POINTSMAN_FLOOD=1",
    ),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="wants two cores"),
]


@pytest.fixture
def cores() -> Iterator[tuple[int, int]]:
    """The devices' core, where this thread and what it starts is kept, and the flood's."""
    before = os.sched_getaffinity(0)
    found = sorted(before)
    on_core(found[0])
    yield found[0], found[-1]
    os.sched_setaffinity(0, before)


@pytest.fixture(params=[4, 6], ids=["ip4", "ip6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def plane() -> str:
    return "xdp"


@pytest.fixture
def flood(lab: Lab, family: int, cores: tuple[int, int]) -> Iterator[Flood]:
    try:
        with Flood(lab.namespace("gw"), family, cores[1]) as found:
            yield found
    except BpfError as error:
        pytest.skip(f"no live frames here: {error}")


@pytest.mark.parametrize("filtered", [True, False], ids=["filter", "control"])
def test_a_flood_costs_no_session(
    cores: tuple[int, int], family: int, filtered: bool, flood: Flood, site: Site
) -> None:
    forwards = nftables_forwards(family, cores[1])
    file = site.configuration(replace(SERVED, settings=FILTER) if filtered else SERVED)
    attached = f'[gateway]\ninterfaces = ["wan0", "lan0", "{INTERFACE}"]\n'
    file.write_text(file.read_text().replace("[gateway]\n", attached))
    site.pointsman("apply", str(file))
    site.serve(NODES, COAPS)
    clients = wandering(site, 30, "--gap-ms", "50", *STRICT, every=3)
    established(clients)
    flood.start()
    time.sleep(SECONDS)
    if filtered:
        ends = unharmed(clients)
        flood.stop()
        dropped = {
            each: site.counted("s", each) for each in ("not_dtls", "hello_over_prefix", "hello_over_total")
        }
        assert sum(dropped.values()) > flood.sent * 0.9
        assert min(dropped["not_dtls"], dropped["hello_over_prefix"] + dropped["hello_over_total"]) > 0
    else:
        flood.stop()
        ends = total(end_all(clients))
        assert sum(len(client.broken) for client in clients) > 0 or ends["answered"] < ends["requests"]
    lost = sum(len(client.broken) for client in clients)
    print(
        f"\nIPv{family}, {'with' if filtered else 'without'} filter:"
        f" nftables forwards {forwards:,.0f} packets/s on one core;"
        f" flooded with {flood.rate:,.0f}, {flood.rate / forwards:.1f} times that, for {flood.seconds:.1f} s;"
        f" {ends['sessions']} sessions, {lost} lost;"
        f" {ends['requests']} requests, {ends['requests'] - ends['answered']} unanswered"
    )
