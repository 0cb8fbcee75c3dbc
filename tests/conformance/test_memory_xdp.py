"""What the XDP plane remembers of flows, and whom it forgets first."""

from __future__ import annotations

import socket
import struct
import time
from ipaddress import ip_address

import pytest
from tests.conformance.evidence import carried, only_on, wait_for
from tests.conformance.site import COAP, COAPS, QUIET, Site, hello

from pointsman.wire import dtls
from pointsman.wire.checksum import internet_checksum, udp_checksum

DATA = dtls.application_data(epoch=1, seq=1, body=bytes(20))

xdp_only = only_on("xdp", because="nftables' flow tables keep whom they have, see test_handshake.py")


def drained_by_all(site: Site, kept: str) -> None:
    """Have new flows go to one node only, and remembered ones stay where they are."""
    for name in ("n1", "n2", "n3"):
        if name != kept:
            site.order("drain", name)


@xdp_only
@pytest.mark.parametrize("size", [4, 64])
def test_unanswered_flows_make_room_for_new_ones(site: Site, size: int) -> None:
    """A flood of first flights stops nobody's handshake."""
    site.serve(connection_id=None, settings=f"flow_table_size = {size}")
    site.nodes(["n1", "n2"])
    for _ in range(4 * size):
        site.send(site.client(), hello())
    client = site.client()
    node = site.ask(client, hello()).node
    site.order("drain", node)
    assert site.ask(client, hello(message_seq=1)).node == node
    assert site.counted("flow_table_full") == 0


@xdp_only
def test_answered_flows_are_never_evicted_and_new_ones_are_balanced_without_memory(site: Site) -> None:
    site.serve(nodes=3, connection_id=None, settings="flow_table_size = 4")
    site.nodes(["n1", "n2", "n3"])
    answered = [site.client() for _ in range(4)]
    nodes = [site.ask(client, DATA).node for client in answered]
    others = [site.client() for _ in range(12)]
    first = [site.ask(client, DATA).node for client in others]
    assert site.counted("flow_table_full") == 12
    assert [site.ask(client, DATA).node for client in others] == first  # the hash alone sees to it
    assert site.counted("flow_table_full") == 24
    assert [site.ask(client, DATA).node for client in answered] == nodes
    assert site.counted("flow") == 4
    drained_by_all(site, "n3")
    assert [site.ask(client, DATA).node for client in answered] == nodes
    assert {site.ask(client, DATA).node for client in others} == {"n3"}


@xdp_only
def test_table_that_is_full_has_room_again_when_flows_are_over(site: Site) -> None:
    site.serve(protocol="udp", settings='flow_table_size = 4\nflow_timeout = "2s"')
    site.nodes(["n1", "n2"], COAP)
    for _ in range(8):
        site.ask(site.client(), b"x", port=COAP)
    assert site.counted("flow_table_full") >= 4
    client = site.client()

    def is_remembered() -> bool:
        """By the second of two datagrams in a row."""
        before = site.counted("flow")
        for _ in range(2):
            site.ask(client, b"x", port=COAP)
        return site.counted("flow") > before

    wait_for(is_remembered)


def node_speaks_first(site: Site, protocol: str) -> tuple[str, str]:
    """The node that spoke to a client which the scheduler has for another, and the one that had the answer."""
    port = COAPS if protocol == "dtls" else COAP
    site.serve(nodes=2, protocol=protocol, connection_id=None)
    site.nodes(["n1", "n2"], port)
    client = site.client()
    address = client.getsockname()[:2]
    chosen = site.ask(client, DATA, port=port).node
    site.forget_flows()
    other = {"n1": "n2", "n2": "n1"}[chosen]
    site.node(other, port).sendto(DATA, address)
    assert client.recvfrom(100)[1][:2] == (site.vip, port)
    return other, site.ask(client, DATA, port=port).node


@only_on("xdp", because="nftables learns nothing from what nodes send: the next case")
@pytest.mark.parametrize("protocol", ["udp", "dtls"])
def test_answer_to_a_node_that_spoke_first_goes_to_that_node(site: Site, protocol: str) -> None:
    spoke, heard = node_speaks_first(site, protocol)
    assert heard == spoke
    assert site.counted("balanced") == 1


@only_on("nftables", because="xdp learns flows from what nodes send: the case before")
@pytest.mark.parametrize("protocol", ["udp", "dtls"])
def test_answer_to_a_node_that_spoke_first_goes_where_the_scheduler_says(site: Site, protocol: str) -> None:
    spoke, heard = node_speaks_first(site, protocol)
    assert heard != spoke
    assert site.counted("balanced") == 2


@xdp_only
def test_hello_verify_request_does_not_make_a_stranger_worth_keeping(site: Site) -> None:
    """It answers anybody, so what it answers is still forgotten for others."""
    site.serve(connection_id=None, settings="flow_table_size = 4")
    site.nodes(["n1", "n2"])
    verify = dtls.handshake_record(3, b"\xfe\xfd\x04abcd", message_seq=0, record_seq=0)
    for _ in range(16):
        client = site.client()
        site.answer(site.send(client, hello()), verify)
        assert client.recv(100) == verify
    assert site.counted("flow_table_full") == 0


def as_from_a_node(site: Site, target: str) -> bytes:
    """A datagram of n1's server, to be sent by somebody else."""
    source, destination = ip_address(site.node_address("n1")), ip_address(target)
    ends = source.packed + destination.packed
    udp = struct.pack("!HHHH", COAPS, 40000, 12, 0) + b"fake"
    udp = udp[:6] + struct.pack("!H", udp_checksum(source, destination, udp)) + udp[8:]
    if site.family == 6:
        return struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + ends + udp
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 7, 0, 64, 17, 0) + ends
    return head[:10] + struct.pack("!H", internet_checksum(head)) + head[12:] + udp


@xdp_only
@pytest.mark.parametrize("interface", ["wan0", None])
def test_nobody_poses_as_a_node_where_only_clients_are(site: Site, interface: str | None) -> None:
    """The control does not say where clients are, and then they cannot be told from nodes."""
    site.apply(carried(site, families=[site.family], interface=interface))
    stranger = {4: "198.19.7.7", 6: "2001:db8:19::7"}[site.family]
    raw = site.lab.socket("client", site.inet, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        raw.sendto(as_from_a_node(site, stranger), (site.vip, 0))
    if interface is None:
        wait_for(lambda: site.counted("reply") == 1)
    else:
        time.sleep(QUIET)
        assert site.counted("reply") == 0
