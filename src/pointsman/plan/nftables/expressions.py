"""The few nft expressions that everything is built of, per family.

The UDP destination port serves as a scratch register: ``@th,16,16 set`` writes a node's label into it without
touching the checksum, the label picks the node, and the port is put back before the packet goes on.
nft has no register that a packet could carry a choice in but the packet mark, and that is the user's
(docs/adr/0003-node-label-in-the-port.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pointsman.model import ConnectionIdRange, Family
from pointsman.plan.nftables.names import TRANSPORTS, UDP, wire_tag

# Bit offsets from the start of the UDP header, which is 8 bytes long. RFC 6347 section 4.1 (record), 4.2.2
# (handshake), RFC 9146 section 4 (the connection ID follows the sequence number).
CONTENT_TYPE = "@th,64,8"
EPOCH = "@th,88,16"
CID_START = 64 + 11 * 8

CID_RECORD = "@th,64,24 0x19fefd"
EPOCH_0 = f"{EPOCH} 0"
HANDSHAKE_TYPE = "@th,168,8"
HELLO_VERSION = "@th,264,16"
MESSAGE_SEQ = "@th,200,16"
CLIENT_HELLO = f"{CONTENT_TYPE} 22 {EPOCH_0} {HANDSHAKE_TYPE} 1"
FIRST_CLIENT_HELLO = f"{CLIENT_HELLO} {MESSAGE_SEQ} 0"
COOKIE_CLIENT_HELLO = f"{CLIENT_HELLO} {MESSAGE_SEQ} != 0"

NO_CHECKSUM = "udp checksum 0"

LABEL = "udp dport"
"""The label's type in sets and maps, and the label, read, where packets are UDP's."""

SLOT_KEY = "typeof numgen inc mod 4294967295"
"""A 32-bit key. ``typeof jhash`` loads and then crashes ``nft list`` (1.0.6)."""


def set_label(source: str) -> str:
    return f"@th,16,16 set {source}"


def raw_dport(port: int) -> str:
    """Write the destination port and leave the checksum alone."""
    return f"@th,16,16 set {port}"


def raw_sport(port: int) -> str:
    return f"@th,0,16 set {port}"


@dataclass(frozen=True, slots=True)
class FamilyWords:
    """How one family says things, over one transport protocol.

    The key of a remembered flow is the client's address and port; for IPv6 it is their hash, since updating a
    map with a 20-byte key aborts libnftables 1.0.6 (a collision only shares a node).
    """

    family: Family
    ip: str
    address_type: str
    icmp: str
    transport: str = UDP
    label_at: str = ""
    """Where a node's label is, if not in the port."""

    @property
    def tag(self) -> str:
        """What the names of sets and chains end in that are kept for each family and transport."""
        return wire_tag(self.family, self.transport)

    @property
    def client(self) -> str:
        return f"{self.ip} saddr . {self.transport} sport"

    @property
    def listener(self) -> str:
        return f"{self.ip} daddr . {self.transport} dport"

    @property
    def label(self) -> str:
        """The label, read."""
        return self.label_at or f"{self.transport} dport"

    @property
    def label_type(self) -> str:
        """The label's type in sets and maps, behind ``typeof``."""
        return self.label_at or LABEL

    @property
    def address_and_port(self) -> str:
        return f"type {self.address_type} . inet_service"

    def slot(self, size: int, seed: int) -> str:
        return f"jhash {self.client} mod {size} seed {seed:#x}"

    def flow_key(self, seed: int) -> str:
        if self.family is Family.V4:
            return self.client
        return f"jhash {self.client} mod 4294967295 seed {seed:#x}"

    @property
    def flow_key_type(self) -> str:
        return f"typeof {self.client}" if self.family is Family.V4 else SLOT_KEY


WORDS = {
    Family.V4: FamilyWords(Family.V4, "ip", "ipv4_addr", "icmp"),
    Family.V6: FamilyWords(Family.V6, "ip6", "ipv6_addr", "icmpv6"),
}

_WIRES = {
    (family, transport): replace(words, transport=transport)
    for family, words in WORDS.items()
    for transport in TRANSPORTS
}


def words_of(family: Family, transport: str) -> FamilyWords:
    return _WIRES[family, transport]


@dataclass(frozen=True, slots=True)
class CidBits:
    """The bytes that hold the node id, and the mask that leaves just its bits.

    Ids are shifted to where they stand in those bytes, not the packet's bits to the right: nft's shift works on
    words in the machine's byte order.
    """

    where: ConnectionIdRange

    @property
    def field(self) -> str:
        first, end = self.where.span
        return f"@th,{CID_START + 8 * first},{8 * (end - first)}"

    @property
    def expression(self) -> str:
        first, end = self.where.span
        if self.where.bits == 8 * (end - first):
            return self.field
        return f"{self.field} & {((1 << self.where.bits) - 1) << self.where.shift:#x}"

    def element(self, node_id: int) -> str:
        return f"{node_id << self.where.shift:#x}"
