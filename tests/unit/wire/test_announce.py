from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from pointsman.wire.announce import gratuitous_arp, unsolicited_neighbour_advertisement
from pointsman.wire.checksum import transport_checksum

MAC = bytes.fromhex("020000000a01")
MAC_TEXT = "02:00:00:00:0a:01"
VIP4 = IPv4Address("192.0.2.1")
VIP6 = IPv6Address("2001:db8:1::1")


def test_gratuitous_arp_is_a_request_for_the_address_by_its_owner() -> None:
    frame = Ether(gratuitous_arp(MAC, VIP4))

    assert (frame.dst, frame.src, frame.type) == ("ff:ff:ff:ff:ff:ff", MAC_TEXT, 0x0806)
    arp = frame[ARP]
    assert (arp.hwtype, arp.ptype, arp.hwlen, arp.plen) == (1, 0x0800, 6, 4)
    assert arp.op == 1
    assert (arp.hwsrc, arp.psrc) == (MAC_TEXT, "192.0.2.1")
    assert (arp.hwdst, arp.pdst) == ("00:00:00:00:00:00", "192.0.2.1")
    assert bytes(arp.payload) == b""


def test_gratuitous_arp_is_what_scapy_builds() -> None:
    frame = Ether(src=MAC_TEXT, dst="ff:ff:ff:ff:ff:ff") / ARP(
        op=1, hwsrc=MAC_TEXT, psrc="192.0.2.1", hwdst="00:00:00:00:00:00", pdst="192.0.2.1"
    )
    assert gratuitous_arp(MAC, VIP4) == bytes(frame)


@pytest.mark.parametrize("router", [True, False])
def test_advertisement_tells_all_nodes_and_overrides(router: bool) -> None:
    frame = Ether(unsolicited_neighbour_advertisement(MAC, VIP6, router=router))

    assert (frame.dst, frame.src, frame.type) == ("33:33:00:00:00:01", MAC_TEXT, 0x86DD)
    ip = frame[IPv6]
    assert (ip.src, ip.dst, ip.nh) == ("2001:db8:1::1", "ff02::1", 58)
    assert ip.hlim == 255
    assert ip.plen == len(bytes(ip.payload))
    advertisement = frame[ICMPv6ND_NA]
    assert (advertisement.type, advertisement.code, advertisement.tgt) == (136, 0, "2001:db8:1::1")
    assert [advertisement.getfieldval(flag) for flag in "RSO"] == [int(router), 0, 1]
    option = frame[ICMPv6NDOptDstLLAddr]
    assert (option.type, option.len, option.lladdr) == (2, 1, MAC_TEXT)
    assert bytes(option.payload) == b""


@pytest.mark.parametrize("router", [True, False])
def test_advertisement_has_the_checksum_that_scapy_computes(router: bool) -> None:
    raw = unsolicited_neighbour_advertisement(MAC, VIP6, router=router)
    frame = Ether(raw)
    written = frame[ICMPv6ND_NA].cksum
    del frame[ICMPv6ND_NA].cksum
    assert Ether(bytes(frame))[ICMPv6ND_NA].cksum == written
    assert transport_checksum(VIP6, IPv6Address("ff02::1"), 58, raw[14 + 40 :]) == 0


def test_advertisement_is_what_scapy_builds() -> None:
    frame = (
        Ether(src=MAC_TEXT, dst="33:33:00:00:00:01")
        / IPv6(src="2001:db8:1::1", dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(R=1, S=0, O=1, tgt="2001:db8:1::1")
        / ICMPv6NDOptDstLLAddr(lladdr=MAC_TEXT)
    )
    assert unsolicited_neighbour_advertisement(MAC, VIP6, router=True) == bytes(frame)


@pytest.mark.parametrize("mac", [b"", bytes(5), bytes(8)])
def test_mac_has_six_bytes(mac: bytes) -> None:
    with pytest.raises(ValueError, match="MAC"):
        gratuitous_arp(mac, VIP4)
    with pytest.raises(ValueError, match="MAC"):
        unsolicited_neighbour_advertisement(mac, VIP6, router=True)


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.18"])  # noqa: S104
def test_ipv4_address_is_one_that_a_machine_can_have(address: str) -> None:
    with pytest.raises(ValueError, match=address):
        gratuitous_arp(MAC, IPv4Address(address))


@pytest.mark.parametrize("address", ["::", "ff02::12"])
def test_ipv6_address_is_one_that_a_machine_can_have(address: str) -> None:
    with pytest.raises(ValueError, match=address):
        unsolicited_neighbour_advertisement(MAC, IPv6Address(address), router=False)
