"""Whatever frame comes in, both planes make the same of it: the same bytes, to the same node, counted alike."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from tests.differential.bench import LATE, Gateway, both, pair
from tests.differential.differences import DIFFERENCES, difference
from tests.prog import sums
from tests.prog.frames import Frames, Sent
from tests.prog.rig import COAPS, inputs_of

from pointsman.dataplane.protocol import Count
from pointsman.model import NodeState
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.verdicts import EVERY, MEANINGS, Verdict

pytestmark = [pytest.mark.netns, pytest.mark.timeout(0)]

FRAMES = int(os.environ.get("POINTSMAN_FRAMES", "20000"))
"""How many of each family, over all configurations."""

SEED = int(os.environ.get("POINTSMAN_SEED", "1"))
DRAIN = {(service, "n2"): NodeState.DRAINING for service in ("coaps", "plain", "web")}
DOWN = {
    ("coaps", "n3"): NodeState.DOWN,
    ("plain", "n1"): NodeState.DISABLED,
    ("web", "n1"): NodeState.DISABLED,
}
PLAIN = COAPS[COAPS.rindex("[[service]]") :]
WEB = PLAIN.replace("plain", "web").replace("udp", "tcp")
"""TCP where there is UDP as well."""

ROOMY = COAPS.replace("flow_memory = 4096", "flow_memory = 500000") + WEB
"""Room for all flows: where it is full, XDP forgets the oldest unanswered ones, nftables takes no more."""

ODD_BITS = ROOMY.replace(
    "{ offset = 0, bits = 8, length = 6 }", '{ offset = 3, bits = 11, length = 6 }\ncid_unknown = "balance"'
)
BALANCING = ROOMY.replace("length = 6 }", 'length = 6 }\ncid_node_down = "balance"')
WITHOUT_N3 = ROOMY.replace('[[service.node]]\nname = "n3"\nid = 3\naddress = ["10.0.0.13", "fd00::13"]\n', "")


def phases() -> Iterator[PlaneInputs]:
    """Configurations, one after the other on the same gateways, so that flows live through their changes."""
    first = inputs_of(ROOMY)
    for wanted in (
        first,
        inputs_of(ROOMY, {**DRAIN, **DOWN}, before=first),
        inputs_of(BALANCING, {**DRAIN, **DOWN}, before=first),
        inputs_of(ODD_BITS, before=first),
        inputs_of(WITHOUT_N3, leaving=[("coaps", "n3", 600)], before=first),
        inputs_of(ROOMY, before=first),
    ):
        yield replace(wanted, interfaces=("wan", "lan"))


def test_both_planes_make_the_same_of_every_frame(family: int) -> None:
    steps = list(phases())
    frames, skipped = Frames(SEED, family), Counter[str]()
    with pair(steps[0]) as gateways:
        for step, inputs in enumerate(steps):
            if step:
                for gateway in gateways:
                    gateway.change(inputs)
            before = [shared(gateway.counts()) for gateway in gateways]
            late = Late()
            for _ in range(FRAMES // len(steps)):
                sent = frames.next()
                if (why := difference(sent.frame)) is not None:
                    skipped[why] += 1
                    continue
                compare(gateways, sent, step, late)
            end = time.monotonic() + LATE
            while True:
                nft, xdp = (
                    shared(gateway.counts()) - own for gateway, own in zip(gateways, before, strict=True)
                )
                if xdp == nft or time.monotonic() > end:
                    break
            assert xdp == nft
    print(f"IPv{family}: {FRAMES} frames; not sent, as they are treated differently: {dict(skipped)}")
    assert sum(skipped.values()) < FRAMES / 3
    assert skipped.keys() <= {each.name for each in DIFFERENCES}


@dataclass(slots=True)
class Late:
    """Whether a frame with a wrong checksum is not out yet, or was dropped: on a busy machine both may be late."""

    wrong: bool = False


def compare(gateways: tuple[Gateway, Gateway], sent: Sent, step: int, late: Late) -> None:
    nft, xdp = both(gateways, sent.on, sent.frame)
    expected, got = ([(side, canonical(frame)) for side, frame in made] for made in (nft, xdp))
    assert got == expected, (
        f"step {step}, by {sent.on}: {sent.frame.hex()}\n"
        f"nftables: {[(side, frame.hex()) for side, frame in nft]}\n"
        f"xdp: {[(side, frame.hex()) for side, frame in xdp]}"
    )
    if sums.wrong(sent.frame):
        late.wrong = not xdp
    elif xdp:  # nothing that came before this can still be on its way
        assert late.wrong or not any(sums.wrong(frame) for _, frame in xdp), sent.frame.hex()
        late.wrong = False


def canonical(frame: bytes) -> bytes:
    """Without an Ethernet trailer, which XDP keeps, and without the identification of the kernel's own errors."""
    kind, packet = sums.behind_link(frame)
    found = sums.datagram(packet) if kind in (0x0800, 0x86DD) else None
    if found is None:
        return frame
    head, own = frame[: len(frame) - len(packet)], bytearray(found.header + found.rest)
    if (found.version, found.protocol) == (4, sums.ICMP):
        own[4:6] = own[10:12] = b"\0\0"
    return head + bytes(own)


def shared(counts: list[Count]) -> Counter[tuple[str, str, str]]:
    """Packets and bytes of the counters that both planes have, but for those of ICMP errors."""
    found: Counter[tuple[str, str, str]] = Counter()
    for each in counts:
        if MEANINGS[each.verdict].planes == EVERY and each.verdict is not Verdict.ICMP_SUPPRESSED:
            found[each.service, each.subject, f"{each.verdict} packets"] = each.packets
            found[each.service, each.subject, f"{each.verdict} bytes"] = each.bytes
    return found


@pytest.fixture(params=[4, 6], ids=["ip4", "ip6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)
