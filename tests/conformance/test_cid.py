"""Records with a connection ID go to the node that it names."""

from __future__ import annotations

import pytest
from tests.conformance.site import COAPS, Site, cid

from pointsman.wire import connection_id, dtls


def test_record_goes_to_the_node_that_its_cid_names(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    assert [site.ask(client, cid(i)).node for i in (1, 2, 1, 2, 2, 1)] == ["n1", "n2", "n1", "n2", "n2", "n1"]
    assert (site.counted("cid", "n1"), site.counted("cid", "n2"), site.counted("reply")) == (3, 3, 6)


def test_control_without_cid_routing_the_same_records_miss_their_node(site: Site) -> None:
    site.serve(connection_id=None)
    site.nodes(["n1", "n2"])
    clients = [site.client() for _ in range(24)]
    reached = [site.ask(client, cid(1)).node for client in clients]
    assert set(reached) == {"n1", "n2"}


def test_record_follows_its_cid_from_any_address(site: Site) -> None:
    site.serve(nodes=3)
    site.nodes(["n1", "n2", "n3"])
    pool = "198.19.{}.{}" if site.family == 4 else "2001:db8:19::{:x}:{:x}"
    for i in range(1, 40):
        wanted = 1 + i % 3
        assert site.ask(site.client(pool.format(i, 7 * i % 250)), cid(wanted)).node == f"n{wanted}"
    assert site.counted("cid") == 39
    assert site.counted("balanced") == 0


def test_two_devices_that_share_an_address_and_port_in_turn_keep_their_nodes(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    nat = site.lab.nat(1)
    nat.remap(nat.external(site.family)[0], 40000)
    first, second = (site.client(machine=f"dev{i}") for i in (1, 2))
    for _ in range(4):
        for device, wanted in ((first, 1), (second, 2)):
            nat.forget(site.family)
            arrival = site.ask(device, cid(wanted))
            assert (arrival.node, arrival.source) == (f"n{wanted}", (nat.external(site.family)[0], 40000))


def test_rebinding_device_keeps_its_node(site: Site) -> None:
    site.serve(nodes=3)
    site.nodes(["n1", "n2", "n3"])
    nat, device = site.lab.nat(1), site.client(machine="dev1")
    seen = set()
    for turn in range(8):
        address = nat.external(site.family)[turn % 4]
        nat.remap(address, (41000 + 10 * turn, 41009 + 10 * turn))
        arrival = site.ask(device, cid(2))
        assert arrival.node == "n2"
        seen.add(arrival.source)
    assert len(seen) == 8


def test_unknown_node_id_is_dropped_and_counted(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    for node_id in (0, 3, 255):
        site.dropped(client, cid(node_id))
    assert site.counted("cid_unknown") == 3


def test_unknown_node_id_is_balanced_where_the_service_says_so(site: Site) -> None:
    site.serve(settings='cid_unknown = "balance"')
    site.nodes(["n1", "n2"])
    clients = [site.client() for _ in range(24)]
    first = [site.ask(client, cid(77)).node for client in clients]
    assert set(first) == {"n1", "n2"}
    assert [site.ask(client, cid(78)).node for client in clients] == first
    assert (site.counted("cid_unknown"), site.counted("balanced"), site.counted("flow")) == (48, 24, 24)


def test_record_too_short_for_its_cid_is_unknown(site: Site) -> None:
    site.serve(connection_id="{ offset = 16, bits = 8 }")
    site.nodes(["n1", "n2"])
    client = site.client()
    whole = dtls.cid_record(b"\0\0\1\0\0\0")
    assert site.ask(client, whole).node == "n1"
    for length in (3, 5, 10, 11, 12, 13):
        site.dropped(client, whole[:length])
    assert site.counted("cid_unknown") == 6


@pytest.mark.parametrize(
    ("offset", "bits"),
    [(0, 1), (0, 8), (3, 5), (4, 10), (7, 2), (8, 16), (1, 31), (0, 32), (5, 32), (33, 13)],
)
def test_node_id_may_be_any_bit_range(site: Site, offset: int, bits: int) -> None:
    largest = (1 << bits) - 1
    ids = {"n1": largest, "n2": max(largest // 3, 0)}
    site.serve(connection_id=f"{{ offset = {offset}, bits = {bits} }}", ids=ids)
    site.nodes(["n1", "n2"])
    client = site.client()
    for noise in (b"\0" * 9, b"\xff" * 9, b"\xa5\x5a\x3c\xc3\x96\x69\x0f\xf0\x81"):
        for name, node_id in ids.items():
            record = dtls.cid_record(connection_id.write_bits(noise, offset, bits, node_id))
            assert site.ask(client, record).node == name


def test_only_the_version_and_type_of_a_cid_record_are_read_for_ids(site: Site) -> None:
    """What only looks like a CID record goes by its flow: DTLS 1.0 had none."""
    site.serve()
    site.nodes(["n1", "n2"])
    other = bytearray(cid(1))
    other[2] = 0xFF
    site.ask(site.client(), bytes(other))
    site.ask(site.client(), dtls.application_data(epoch=1, seq=5, body=bytes(20)))
    assert (site.counted("cid"), site.counted("balanced")) == (0, 2)


def test_many_listeners_of_both_services_are_told_apart(site: Site) -> None:
    """The same id in two services names two nodes."""
    second = site.at(site.other_vip, COAPS)
    more = "\n".join(
        [
            "[[service]]",
            'name = "other"',
            'protocol = "dtls"',
            f'listen = ["{second}"]',
            'connection_id = "californium"',
            "[[service.node]]",
            'name = "n3"',
            f'address = "{site.node_address("n3")}"',
            "id = 1",
        ]
    )
    site.serve(more=more)
    site.nodes(["n1", "n2", "n3"])
    client = site.client()
    assert site.ask(client, cid(1)).node == "n1"
    assert site.ask(client, cid(1), vip=site.other_vip).node == "n3"
    site.dropped(client, cid(2), vip=site.other_vip)
