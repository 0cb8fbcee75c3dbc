"""A filter's chains and sets: what is no DTLS, whose source is not served, or what comes too often.

The chains belong to a service, or to a guard, and hold for both families. A packet is sent into the first by a jump
and comes back from it if nothing is held against it; each reason has a chain of its own, which counts, and drops or
goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from pointsman.model import Budgets, Family, Filter, FilterMode
from pointsman.plan.identity import ByIdentity, remembered
from pointsman.plan.nftables import expressions as nft
from pointsman.plan.nftables.ruleset import Chain, Set
from pointsman.plan.prefixes import Range, sources
from pointsman.plan.verdicts import Verdict
from pointsman.wire import records
from pointsman.wire.dtls import CID_OFFSET, MAX_BODY_SIZE, RECORD_HEADER_SIZE

UDP_HEADER = 8
METER_SIZE = 65536
"""Prefixes of one family that are metered at once; beyond, others are not, until some have been silent."""
COOKIE_SHARE = 4
"""A ClientHello with a cookie counts a quarter: its source answered a HelloVerifyRequest."""
FASTEST = 1_000_000_000
"""The kernel's limits count nanoseconds."""
LARGEST_BURST = (1 << 32) - 1
EXACT = 16
"""Room for a record up to which its length is held against it exactly; above, to a sixteenth."""

Count = Callable[[Verdict], Iterable[str]]
"""The matches that count a verdict, one of which a packet meets."""


def limit_over(rate: int, seconds: int) -> str:
    """Match what is over the rate; up to ``seconds`` worth may come at once."""
    rate = min(rate, FASTEST)
    return f"limit rate over {rate}/second burst {min(rate * seconds, LARGEST_BURST)} packets"


def cid_records(own: Filter) -> Iterator[str]:
    """The matches of records with connection IDs."""
    yield nft.CID_RECORD
    if own.dtls13:
        yield "@th,64,4 3"


def allowed_sources(own: Filter, families: Iterable[Family]) -> list[str]:
    """The matches of sources that are exempt."""
    return [
        f"{nft.WORDS[family].ip} saddr @{found.name}"
        for family in families
        if (found := _prefix_sets(ByIdentity(own), family)[0]) is not None
    ]


@remembered(1024)
def _prefix_sets(own: ByIdentity[Filter], family: Family) -> tuple[Set | None, Set | None]:
    """The allowed sources and the denied ones, None where there are none."""
    found = sources(own.value, family)
    return _prefix_set(family, found.allowed), _prefix_set(family, found.denied)


def _prefix_set(family: Family, ranges: Sequence[Range]) -> Set | None:
    """Named by its content, so that it is compared, and sent to the kernel, only where that changes."""
    if not ranges:
        return None
    address = IPv4Address if family is Family.V4 else IPv6Address
    text = ", ".join(
        f"{address(first)}" if first == last else f"{address(first)}-{address(last)}"
        for first, last in ranges
    )
    words = nft.WORDS[family]
    return Set(f"prefixes/{_digest(text)}", f"type {words.address_type}", flags="interval", content=text)


def _port_set(ports: Iterable[int]) -> Set:
    ranges: list[Range] = []
    for port in sorted(ports):
        first = ranges.pop()[0] if ranges and ranges[-1][1] == port - 1 else port
        ranges.append((first, port))
    text = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)
    return Set(f"ports/{_digest(text)}", "type inet_service", flags="interval", content=text)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class LengthField:
    """A record's length, at byte ``place`` of the payload, and the least that it may say."""

    place: int
    least: int = 1

    @property
    def set_name(self) -> str:
        return f"fits/{self.place}" if self.least == 1 else f"sealed/{self.place}"

    @property
    def key(self) -> str:
        return f"udp length . @th,{8 * (UDP_HEADER + self.place)},16"

    @property
    def header(self) -> int:
        """Bytes of the datagram before the body, with the UDP header."""
        return UDP_HEADER + self.place + 2


RECORD = LengthField(RECORD_HEADER_SIZE - 2)


@cache
def _fitting(field: LengthField) -> Set:
    """UDP lengths with the record lengths that fit.

    nft cannot compare two fields of a packet, so this is a stair: a length that is too large by a sixteenth is found.
    """
    before, steps, room = field.header, [], field.least
    while room < MAX_BODY_SIZE:
        last = room if room < EXACT else room + room // EXACT
        shown = before + room if last == room else f"{before + room}-{before + last}"
        steps.append(f"{shown} . {_span(field.least, min(last, MAX_BODY_SIZE))}")
        room = last + 1
    steps.append(f"{before + room}-65535 . {field.least}-{MAX_BODY_SIZE}")
    return Set(field.set_name, f"typeof {field.key}", flags="interval", content=", ".join(steps))


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


@dataclass(frozen=True)
class FilterChains:
    """``name`` begins the names of its chains and sets; ``cid_length`` is None where it is unknown."""

    name: str
    own: Filter
    cid_length: int | None
    families: tuple[Family, ...]
    count: Count

    def sets(self) -> Iterator[Set]:
        for field in self._length_fields():
            yield _fitting(field)
        for family in self.families:
            yield from filter(None, _prefix_sets(ByIdentity(self.own), family))
        if self.own.source_ports:
            yield _port_set(self.own.source_ports)
        for kind, budgets, share in self._prefix_budgets():
            for family in self.families:
                yield Set(
                    self._meter(kind, family, budgets, share),
                    f"type {nft.WORDS[family].address_type}",
                    size=METER_SIZE,
                    flags="dynamic,timeout",
                    owned_by_packets=True,
                )

    def chains(self) -> Iterator[Chain]:
        for verdict in self._reasons():
            yield self._chain(verdict, self._reason(verdict))
        if self.own.hello.per_prefix or self.own.hello.total:
            yield self._chain("cookie", self._hello(COOKIE_SHARE))
            yield self._chain("hello", self._hello(1))
        if self.own.cid.per_prefix:
            yield self._chain("cids", self._metered("cid", self.own.cid, 1, Verdict.CID_OVER_PREFIX))
        yield self._chain("source", self._source())
        yield self._chain("record", [*self._too_long(RECORD), f"goto {self.name}/source"])
        yield self._chain("handshake", self._handshake())
        yield self._chain("old", self._old())
        yield self._chain("cid", self._cid())
        if self.own.dtls13:
            yield self._chain("unified", self._unified())
        yield Chain(self.name, tuple(self._form()))

    def _chain(self, part: str, rules: Iterable[str]) -> Chain:
        return Chain(f"{self.name}/{part}", tuple(rules))

    def _reasons(self) -> Iterator[Verdict]:
        yield from (Verdict.NOT_DTLS, Verdict.BAD_LENGTH, Verdict.BAD_EPOCH)
        if self.own.source_ports:
            yield Verdict.SOURCE_PORT
        if self.own.deny:
            yield Verdict.DENIED
        if self.own.hello.per_prefix:
            yield Verdict.HELLO_OVER_PREFIX
        if self.own.hello.total:
            yield Verdict.HELLO_OVER_TOTAL
        if self.own.cid.per_prefix:
            yield Verdict.CID_OVER_PREFIX

    def _reason(self, verdict: Verdict) -> Iterator[str]:
        end = "drop" if self.own.mode is FilterMode.ENFORCE else "return"
        for counted in self.count(verdict):
            yield f"{counted} {end}"

    # the form of DTLS; pointsman.wire.records says the same

    def _form(self) -> Iterator[str]:
        types = [20, 21, 23, 24, *([records.ACK] if self.own.dtls13 else [])]
        known = [f"{kind:#x}fefd : goto {self.name}/record" for kind in types]
        known += [f"0x16fefd : goto {self.name}/handshake", f"0x16feff : goto {self.name}/old"]
        known.append(f"0x19fefd : goto {self.name}/cid")
        yield f"@th,64,24 vmap {{ {', '.join(known)} }}"
        if self.own.dtls13:
            yield f"@th,64,3 1 goto {self.name}/unified"
        yield f"goto {self.name}/{Verdict.NOT_DTLS}"

    def _old(self) -> Iterator[str]:
        """A ClientHello may say DTLS 1.0: its sender does not know yet what will be spoken."""
        yield f"{nft.EPOCH_0} {nft.HANDSHAKE_TYPE} 1 goto {self.name}/record"
        yield f"goto {self.name}/{Verdict.NOT_DTLS}"

    def _handshake(self) -> Iterator[str]:
        """Behind epoch 0 all is encrypted: a ClientHello's type and version do not stand there in the clear."""
        yield from self._too_long(RECORD)
        shown = f"{nft.HANDSHAKE_TYPE} 1 {nft.HELLO_VERSION} {{ 0xfefd, 0xfeff }}"
        yield f"{nft.EPOCH} != 0 {shown} goto {self.name}/{Verdict.BAD_EPOCH}"
        yield f"goto {self.name}/source"

    def _too_long(self, field: LengthField, match: str = "") -> Iterator[str]:
        # Without a length at its place no rule about it matches.
        bad = f"goto {self.name}/{Verdict.BAD_LENGTH}"
        yield f"{match}udp length < {field.header + field.least} {bad}"
        yield f"{match}{field.key} != @{field.set_name} {bad}"

    def _cid(self) -> Iterator[str]:
        field = self._behind_cid()
        if field is None:
            yield f"udp length < {UDP_HEADER + RECORD_HEADER_SIZE + 1} goto {self.name}/{Verdict.BAD_LENGTH}"
        else:
            yield from self._too_long(field)
        yield f"{nft.EPOCH_0} goto {self.name}/{Verdict.BAD_EPOCH}"
        yield f"goto {self.name}/source"

    def _behind_cid(self) -> LengthField | None:
        return None if self.cid_length is None else LengthField(CID_OFFSET + self.cid_length)

    def _unified(self) -> Iterator[str]:
        """Eight kinds of headers: with a connection ID, with a long sequence number, with a length."""
        for bits, header, field in self._unified_headers():
            match = f"{nft.CONTENT_TYPE} & 0x1c == {bits:#x} "
            if field is not None:
                yield from self._too_long(field, match)
            else:
                shortest = UDP_HEADER + header + records.SEALED_LEAST
                yield f"{match}udp length < {shortest} goto {self.name}/{Verdict.BAD_LENGTH}"
        yield f"goto {self.name}/source"

    def _unified_headers(self) -> Iterator[tuple[int, int, LengthField | None]]:
        """The bits that tell, the header's size, and where its length stands.

        A connection ID of unknown length has at least one byte.
        """
        for bits in range(0, 0x20, 4):
            with_cid, with_length = bool(bits & 0x10), bool(bits & 4)
            header = 1 + (2 if bits & 8 else 1) + (2 if with_length else 0)
            header += (self.cid_length or 1) if with_cid else 0
            told = with_length and not (with_cid and self.cid_length is None)
            yield bits, header, LengthField(header - 2, records.SEALED_LEAST) if told else None

    def _length_fields(self) -> list[LengthField]:
        fields = [RECORD, self._behind_cid()]
        if self.own.dtls13:
            fields += [field for _, _, field in self._unified_headers()]
        return list(dict.fromkeys(field for field in fields if field is not None))

    # who may come, and how often

    def _source(self) -> Iterator[str]:
        for allowed in allowed_sources(self.own, self.families):
            yield f"{allowed} return"
        if self.own.source_ports:
            yield f"udp sport @{_port_set(self.own.source_ports).name} goto {self.name}/{Verdict.SOURCE_PORT}"
        for family in self.families:
            if denied := _prefix_sets(ByIdentity(self.own), family)[1]:
                yield f"{nft.WORDS[family].ip} saddr @{denied.name} goto {self.name}/{Verdict.DENIED}"
        if self.own.hello.per_prefix or self.own.hello.total:
            yield f"{nft.CLIENT_HELLO} goto {self.name}/hello"
        if self.own.cid.per_prefix:
            for record in cid_records(self.own):
                yield f"{record} goto {self.name}/cids"

    def _hello(self, share: int) -> Iterator[str]:
        if share == 1:
            yield f"{nft.MESSAGE_SEQ} != 0 goto {self.name}/cookie"
        budgets = self.own.hello
        if budgets.per_prefix:
            kind = "hello" if share == 1 else "cookie"
            yield from self._metered(kind, budgets, share, Verdict.HELLO_OVER_PREFIX)
        if budgets.total:
            over = limit_over(budgets.total * share, budgets.burst)
            yield f"{over} goto {self.name}/{Verdict.HELLO_OVER_TOTAL}"

    def _prefix_budgets(self) -> Iterator[tuple[str, Budgets, int]]:
        if self.own.hello.per_prefix:
            yield "hello", self.own.hello, 1
            yield "cookie", self.own.hello, COOKIE_SHARE
        if self.own.cid.per_prefix:
            yield "cid", self.own.cid, 1

    def _metered(self, kind: str, budgets: Budgets, share: int, verdict: Verdict) -> Iterator[str]:
        """An element lives until its bucket is full again, which is as if it were not there."""
        over = limit_over(budgets.per_prefix * share, budgets.burst)
        for family in self.families:
            meter = self._meter(kind, family, budgets, share)
            timeout = f"timeout {budgets.burst + 1}s"
            yield (
                f"update @{meter} {{ {self._prefix(family)} {timeout} {over} }} goto {self.name}/{verdict}"
            )

    def _meter(self, kind: str, family: Family, budgets: Budgets, share: int) -> str:
        """An element keeps the limit that it was made with, so another limit is another set."""
        return f"{self.name}/{kind}{family.value}-{budgets.per_prefix * share}x{budgets.burst}"

    def _prefix(self, family: Family) -> str:
        address = f"{nft.WORDS[family].ip} saddr"
        own = self.own
        prefix = IPv4Network((0, own.prefix4)) if family is Family.V4 else IPv6Network((0, own.prefix6))
        return address if prefix.num_addresses == 1 else f"{address} & {prefix.netmask}"
