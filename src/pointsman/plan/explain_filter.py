"""What a service's filter has against a datagram, as far as that can be told without the kernel: not its budgets."""

from __future__ import annotations

from pointsman.model import Endpoint, FilterLevel, Service
from pointsman.plan.prefixes import sources
from pointsman.plan.verdicts import MEANINGS, Verdict
from pointsman.wire.records import Fault, Form, judge

_FAULTS = {
    Fault.NOT_DTLS: Verdict.NOT_DTLS,
    Fault.BAD_LENGTH: Verdict.BAD_LENGTH,
    Fault.BAD_EPOCH: Verdict.BAD_EPOCH,
}


def held_against(service: Service, client: Endpoint, payload: bytes) -> tuple[Verdict, str] | None:
    """The filter's first reason and what it says; None without a filter, or a reason."""
    own = service.filter
    if own is None:
        return None
    where = service.connection_id
    length = where.length if where is not None else None
    fault, _ = judge(payload, Form(own.level is FilterLevel.RECORD, own.dtls13, length or 0))
    if fault is not None:
        return _reason(_FAULTS[fault])
    found, address = sources(own, client.family), int(client.address)
    if any(first <= address <= last for first, last in found.allowed):
        return None
    if client.port in own.source_ports:
        return _reason(Verdict.SOURCE_PORT)
    if any(first <= address <= last for first, last in found.denied):
        return _reason(Verdict.DENIED)
    return None


def _reason(verdict: Verdict) -> tuple[Verdict, str]:
    return verdict, MEANINGS[verdict].says
