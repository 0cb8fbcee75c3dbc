"""Tell the neighbours at once that an address is here now."""

from __future__ import annotations

import socket
from contextlib import suppress

from pointsman.kernel import sysctl
from pointsman.kernel.iproute import Link
from pointsman.model import Address
from pointsman.wire import announce


def announce_address(address: Address, link: Link) -> None:
    """Send a gratuitous ARP or an unsolicited neighbour advertisement, where there are neighbours to tell.

    It is a courtesy: a link that is down just now must not keep the address from being carried.
    """
    if len(link.mac) != 6:
        return  # no Ethernet
    if address.version == 4:
        frame = announce.gratuitous_arp(link.mac, address)
    else:
        router = sysctl.read(f"net/ipv6/conf/{link.name}/forwarding") == "1"
        frame = announce.unsolicited_neighbour_advertisement(link.mac, address, router=router)
    with suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as packets:
        packets.bind((link.name, 0))
        packets.send(frame)
