"""What the XDP program of the gateway takes for one packet: BPF_PROG_TEST_RUN, with nothing around it.

A wrapper puts the packet in place for each repeat and calls the program that it found at the interface. Its own
time is measured with a program that does nothing, in turn with the other, and taken off.
"""

from __future__ import annotations

import ctypes
import socket
import statistics
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench.libbpf import BPF_F_XDP_HAS_FRAGS, BpfError, Program, attached, program, set_program
from bench.programs import compile_program
from bench.rig import Rig, Site
from bench.traffic import BALANCED, BEYOND, CLIENTS, LAN, MAC, VIP, WAN, Kind, node_address, payload, word_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from bench.contenders import Contender
    from bench.traffic import Address

NODES = 10
REPEATS = 1_000_000
NEW_REPEATS = 50_000  # each adds a flow to the table
_REMEMBERED = (1, 60_000, 1_000_000)
_ROOM = 2_000_000  # flows of each listener: the remembered, and the new of all rounds
_NOBODY = 9  # a port of the gateway that no service has
_STRANGER = 200  # an id that no node has
_TEMPLATE = 256
_VERDICTS = ("aborted", "drop", "pass", "tx", "redirect")


class _Template(ctypes.Structure):
    """Mirrors struct template."""

    _fields_ = (
        ("next", ctypes.c_uint64),
        ("flows", ctypes.c_uint64),
        *(
            (name, ctypes.c_uint32)
            for name in ("len", "client", "port", "ip_check", "l4_check", "client_base", "ip_sum", "l4_sum")
        ),
        ("bytes", ctypes.c_uint8 * _TEMPLATE),
    )
    next: int


@dataclass(slots=True)
class Packet:
    """A packet of some client; its address and port, and the checksums with them, are the wrapper's to fill in."""

    family: int
    kind: Kind
    server: Address  # the VIP, or the node that answers
    body: bytes
    port: int = 0  # the server's; 0: the service's
    reply: bool = False
    syn: bool = False

    def template(self, flows: int) -> _Template:
        """Return what the wrapper works from."""
        client, server = CLIENTS[self.family].packed, self.server.packed
        source, destination = (server, client) if self.reply else (client, server)
        transport = self._transport()
        protocol = 6 if self.kind is Kind.TCP else 17
        if self.family == 4:
            network = (
                bytes((0x45, 0)) + (20 + len(transport)).to_bytes(2) + bytes((0, 0, 0x40, 0, 64, protocol))
            )
            network += bytes(2) + source + destination
            at, size = 14 + 12, 4
        else:
            network = bytes((0x60, 0, 0, 0)) + len(transport).to_bytes(2) + bytes((protocol, 64))
            network += source + destination
            at, size = 14 + 8, 16
        near = LAN if self.reply else WAN
        frame = MAC[near] + MAC[BEYOND[near]] + (b"\x08\0" if self.family == 4 else b"\x86\xdd")
        behind = len(frame) + len(network)
        frame += network + transport
        base = CLIENTS[self.family].packed[-4:]
        # The client's last word counts once it is there: its complement takes it off what is summed now.
        less = 0xFFFF - word_sum(base)
        pseudo = source + destination + len(transport).to_bytes(4) + protocol.to_bytes(4)
        result = _Template(
            flows=flows,
            len=len(frame),
            client=at + size * (2 if self.reply else 1) - 4,
            port=behind + (2 if self.reply else 0),
            ip_check=24 if self.family == 4 else 0,
            l4_check=behind + (16 if self.kind is Kind.TCP else 6),
            client_base=int.from_bytes(base),
            ip_sum=word_sum(network) + less,
            l4_sum=word_sum(pseudo) + word_sum(transport) + less,
        )
        result.bytes[: len(frame)] = frame
        return result

    def _transport(self) -> bytes:
        """Return the header, with neither the client's port nor a checksum, and the body."""
        port = (self.port or self.kind.port).to_bytes(2)
        ports = port + bytes(2) if self.reply else bytes(2) + port
        if self.kind is not Kind.TCP:
            return ports + (8 + len(self.body)).to_bytes(2) + bytes(2) + self.body
        flags = 0x02 if self.syn else 0x18
        return ports + bytes((0, 0, 1, 0, 0, 0, 1, 0, 0x50, flags, 0xFF, 0xFF, 0, 0, 0, 0)) + self.body


@dataclass(slots=True)
class Case:
    """One line of the table."""

    name: str
    packet: Packet
    flows: int = 1  # clients that take turns; 0: one that never comes again
    first: Packet | None = None  # what makes a flow known, where it is not the packet itself
    nanoseconds: list[float] = field(default_factory=list)
    wrapper: list[float] = field(default_factory=list)
    verdict: str = ""
    checksums: str = ""
    next: int = 0

    @property
    def repeats(self) -> int:
        return REPEATS if self.flows else NEW_REPEATS


def main(contender: Contender, output: Console, *, rounds: int) -> dict[str, Any]:
    """Measure both families, print a table and return the figures."""
    results: dict[int, list[Case]] = {}
    for family in (4, 6):
        kinds = tuple(kind for kind in BALANCED if not _unable(contender, family, kind, output))
        if Kind.CID not in kinds:
            raise BpfError(f"{contender.name}: {contender.unable(Site(family, NODES))}")
        site = Site(family, NODES, kinds=kinds, flows=_ROOM)
        with Rig(site) as rig:
            contender.setup(rig.gateway, site)
            try:
                with rig.gateway.entered():
                    results[family] = _measure(family, kinds, rounds)
            finally:
                contender.teardown(rig.gateway)
    output.print(_table(results, contender.name, rounds))
    return {
        "cost": [
            {
                "family": family,
                "packet": case.name,
                "verdict": case.verdict,
                "median": statistics.median(case.nanoseconds),
                "rounds": case.nanoseconds,
                "wrapper": case.wrapper,
                "checksums": case.checksums,
                "size": case.packet.template(1).len,
            }
            for family, cases in results.items()
            for case in cases
        ]
    }


def _unable(contender: Contender, family: int, kind: Kind, output: Console) -> str:
    why = contender.unable(Site(family, NODES, kinds=(kind,)))
    if why:
        output.print(f"IPv{family}: no {kind.name} packets: {why}", highlight=False, markup=False)
    return why


class Bench:
    """The wrapper, with the programs at the gateway's interfaces to call."""

    def __init__(self) -> None:
        self.ifindex = {name: socket.if_nametoindex(name) for name in (WAN, LAN)}
        for flags in (0, BPF_F_XDP_HAS_FRAGS):
            self._wrapper = Program(compile_program("wrapper"), "wrapper", flags=flags)
            try:
                self._aim(WAN)  # refused where the two are not alike
                break
            except BpfError:
                self._wrapper.close()
                if flags:
                    raise
        self.close = self._wrapper.close

    def _aim(self, interface: str) -> None:
        number = attached(self.ifindex[interface])
        if not number:
            raise BpfError(f"there is no XDP program at {interface}")
        with program(number) as fd:
            set_program(self._wrapper.map_fd("target"), fd)

    def run(
        self, case: Case, packet: Packet, repeats: int, *, nothing: bool = False
    ) -> tuple[int, int, bytes]:
        """Return the last verdict, the nanoseconds of one run, and the last packet."""
        interface = LAN if packet.reply else WAN
        template = packet.template(case.flows)
        template.next = case.next
        self._wrapper.write("packet", bytes(template))
        if nothing:
            set_program(self._wrapper.map_fd("target"), self._wrapper.program_fd("nothing"))
        else:
            self._aim(interface)
        return self._wrapper.test_run(bytes(template.bytes[: template.len]), self.ifindex[interface], repeats)


def _measure(family: int, kinds: Sequence[Kind], rounds: int) -> list[Case]:
    bench = Bench()
    try:
        cases = _cases(family, kinds, lambda case, packet: bench.run(case, packet, 1)[2])
        for number, case in enumerate(cases):
            if not case.flows:
                case.next = number << 32  # no two of these meet the same clients
            else:  # everything known before anything is timed
                for packet in filter(None, (case.first, case.packet)):
                    bench.run(case, packet, case.flows)
        for _ in range(rounds):
            for case in cases:
                _, idle, _ = bench.run(case, case.packet, case.repeats, nothing=True)
                verdict, busy, out = bench.run(case, case.packet, case.repeats)
                case.next += case.repeats
                case.wrapper.append(idle)
                case.nanoseconds.append(busy - idle)
                case.verdict = _VERDICTS[verdict] if verdict < len(_VERDICTS) else str(verdict)
                case.checksums = "" if _sound(out) else "wrong"
        return cases
    finally:
        bench.close()


def _cases(family: int, kinds: Sequence[Kind], forward: Callable[[Case, Packet], bytes]) -> list[Case]:
    def record(node: int) -> Packet:
        body = bytearray(payload(Kind.CID))
        body[11] = node
        return Packet(family, Kind.CID, VIP[family], bytes(body))

    hello = Packet(family, Kind.CID, VIP[family], _client_hello())
    stray = Packet(family, Kind.UDP, VIP[family], payload(Kind.UDP), port=_NOBODY)
    cases = [
        Case("CID record", record(1)),
        Case("CID record, 60,000 clients", record(1), 60_000),
        Case("reply to a CID record", _answer(record(1), node_address(family, 1))),
        Case("new handshake", hello, 0),
        Case("unknown CID", record(_STRANGER)),
        Case("to nobody", stray),
    ]
    for kind in kinds:
        if kind is Kind.CID:
            continue
        packet = Packet(family, kind, VIP[family], payload(kind))
        first = Packet(family, kind, VIP[family], b"", syn=True) if kind is Kind.TCP else packet
        cases += [
            Case(f"{kind.name}, remembered, one of {flows:,}", packet, flows, first) for flows in _REMEMBERED
        ]
        cases.append(Case(f"{kind.name}, new flow", first, 0))
        # Its node is the program's choice: the packet that it makes of the first tells.
        one = Case("", packet)
        node = _destination(forward(one, first), family)
        cases.append(Case(f"{kind.name}, reply", _answer(packet, node)))
    return cases


def _answer(packet: Packet, node: Address) -> Packet:
    return Packet(packet.family, packet.kind, node, packet.body, reply=True)


def _client_hello() -> bytes:
    """Return a DTLS handshake record that says ClientHello, of the length of a usual one; nobody reads further."""
    body = bytes((1, 0, 0, 108, 0, 0, 0, 0, 0, 0, 0, 108, 0xFE, 0xFD)) + bytes(106)
    return bytes((22, 0xFE, 0xFD)) + bytes(8) + len(body).to_bytes(2) + body


def _destination(frame: bytes, family: int) -> Address:
    return ip_address(frame[30:34] if family == 4 else frame[38:54])


def _sound(frame: bytes) -> bool:
    """Tell whether the checksums of a packet are right."""
    if frame[12:14] == b"\x08\0":
        network, transport, protocol = frame[14:34], frame[34:], frame[23]
        addresses = network[12:20]
        if word_sum(network) != 0xFFFF:
            return False
    else:
        addresses, transport, protocol = frame[22:54], frame[54:], frame[20]
    pseudo = addresses + len(transport).to_bytes(4) + protocol.to_bytes(4)
    return word_sum(pseudo + transport) == 0xFFFF


def _table(results: dict[int, list[Case]], name: str, rounds: int) -> Table:
    table = Table(
        title=f"{name}: nanoseconds of the XDP program for a packet, median of {rounds} (least, most)",
        title_justify="left",
    )
    table.add_column("packet")
    for family in results:
        table.add_column(f"IPv{family}", justify="right")
        table.add_column("verdict")
    table.add_column("the wrapper's own", justify="right")
    families = list(results)
    for row in range(len(results[families[0]])):
        cells: list[str] = []
        for family in families:
            case = results[family][row]
            low, middle, high = (
                min(case.nanoseconds),
                statistics.median(case.nanoseconds),
                max(case.nanoseconds),
            )
            cells += [f"{middle:.0f} ({low:.0f}, {high:.0f})"]
            cells += [f"{case.verdict}, checksums {case.checksums}" if case.checksums else case.verdict]
        own = " / ".join(f"{statistics.median(results[family][row].wrapper):.0f}" for family in families)
        table.add_row(results[families[0]][row].name, *cells, own)
    return table
