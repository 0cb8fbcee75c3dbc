"""udp: one datagram, and what comes back."""

from __future__ import annotations

from pointsman.health.probes.step import Step, failed, passed
from pointsman.model.health import UdpTerms


class DatagramProbe:
    def __init__(self, terms: UdpTerms) -> None:
        self._terms = terms

    def start(self) -> Step:
        return Step(self._terms.send)

    def received(self, data: bytes) -> Step:
        if self._terms.expect is not None and not self._terms.expect.matches(data):
            return failed(
                f"an answer of {len(data)} bytes that is not what is expected: {data[:24].hex(' ')}"
            )
        return passed(f"an answer of {len(data)} bytes")
