"""The node id inside a connection ID: a run of bits at a place that the site has agreed on.

Bits are counted from the first byte's most significant one, as nft's raw payload expressions count them
(``@th,OFFSET,BITS``), so a range that splits bytes reads the same here and in the kernel.
"""

from __future__ import annotations

from pointsman.wire import dtls


def read_bits(data: bytes, offset: int, bits: int) -> int | None:
    """Read ``bits`` bits from bit ``offset`` on as a number; None where ``data`` ends before them.

    Raises ``ValueError`` for a negative offset or less than one bit.
    """
    first, last = _byte_range(offset, bits)
    if last > len(data):
        return None
    return int.from_bytes(data[first:last], "big") >> 8 * last - offset - bits & (1 << bits) - 1


def write_bits(data: bytes, offset: int, bits: int, value: int) -> bytes:
    """Copy ``data`` with ``value`` written into ``bits`` bits from bit ``offset`` on.

    Raises ``ValueError`` where ``data`` ends before them, ``value`` needs more bits, or ``read_bits``
    would raise.
    """
    first, last = _byte_range(offset, bits)
    if last > len(data):
        raise ValueError(f"{len(data)} bytes have no bits {offset}..{offset + bits - 1}")
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{value} is out of range 0..{(1 << bits) - 1} ({bits} bits)")
    shift = 8 * last - offset - bits
    kept = int.from_bytes(data[first:last], "big") & ~((1 << bits) - 1 << shift)
    return data[:first] + (kept | value << shift).to_bytes(last - first, "big") + data[last:]


def node_id(payload: bytes, offset: int, bits: int) -> int | None:
    """Read the node id that a datagram names; None where it names none.

    ``payload`` is the UDP payload; ``offset`` and ``bits`` count from the connection ID's start. A
    datagram names a node if it starts with a ``TLS12_CID`` record and is long enough. Nothing on the wire
    says where the connection ID ends: of one that is shorter than ``offset + bits`` this reads on into
    the length, as the data plane does.
    """
    if not dtls.is_cid_record(payload):
        return None
    return read_bits(dtls.cid_field(payload), offset, bits)


def _byte_range(offset: int, bits: int) -> tuple[int, int]:
    if offset < 0 or bits < 1:
        raise ValueError(f"{bits} bits at bit {offset}: there is no such range")
    return offset // 8, (offset + bits + 7) // 8
