"""What a file without mistakes becomes.

Addresses: 192.0.2.x and 2001:db8::x are listeners, 10.0.0.x and fd00::x nodes.
"""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_address

import pytest

from pointsman.config import parse
from pointsman.model import (
    CidPolicy,
    ConnectionIdRange,
    DataPlaneChoice,
    Endpoint,
    Family,
    Gateway,
    Listener,
    Node,
    NodeAddress,
    Protocol,
    Service,
)

FULL = """\
[gateway]
name = "edge-1"
dataplane = "nftables"
hash_seed = 0x1234abcd

[[service]]
name = "coaps"
protocol = "dtls"
listen = ["192.0.2.10:5684", { address = "[2001:db8::10]:5684", interface = "wan0", node_port = 15684 }]
forward = "nat"
scheduler = "maglev"
connection_id = { offset = 0, bits = 8, length = 6 }
cid_unknown = "balance"
cid_node_down = "balance"
handshake_timeout = "90s"
flow_timeout = "2h"
maglev_table_size = 251
flow_table_size = 1024
  [[service.node]]
  name = "n1"
  id = 1
  address = ["10.0.0.11", "[fd00::11]:5000"]
  weight = 2
  [[service.node]]
  name = "n2"
  id = 255
  address = ["fd00::12", "10.0.0.12:15684"]

[[service]]
name = "coap"
protocol = "udp"
listen = ["192.0.2.10:5683"]
  [[service.node]]
  name = "n1"
  address = "10.0.0.11"
  [[service.node]]
  name = "n2"
  address = "10.0.0.12"
"""


def test_a_full_file_becomes_the_gateway_that_it_describes() -> None:
    loaded = parse(FULL, "gateway.toml")
    assert loaded.warnings == ()
    assert loaded.gateway == Gateway(
        name="edge-1",
        hash_seed=0x1234ABCD,
        dataplane=DataPlaneChoice.NFTABLES,
        services=(
            Service(
                name="coaps",
                protocol=Protocol.DTLS,
                listeners=(
                    Listener(Endpoint(ip_address("192.0.2.10"), 5684)),
                    Listener(Endpoint(ip_address("2001:db8::10"), 5684), "wan0", 15684),
                ),
                nodes=(
                    Node(
                        "n1",
                        (NodeAddress(ip_address("10.0.0.11")), NodeAddress(ip_address("fd00::11"), 5000)),
                        id=1,
                        weight=2,
                    ),
                    Node(
                        "n2",
                        (NodeAddress(ip_address("fd00::12")), NodeAddress(ip_address("10.0.0.12"), 15684)),
                        id=255,
                    ),
                ),
                connection_id=ConnectionIdRange(0, 8, 6),
                cid_unknown=CidPolicy.BALANCE,
                cid_node_down=CidPolicy.BALANCE,
                handshake_timeout=90,
                flow_timeout=7200,
                maglev_table_size=251,
                flow_table_size=1024,
            ),
            Service(
                name="coap",
                protocol=Protocol.UDP,
                listeners=(Listener(Endpoint(ip_address("192.0.2.10"), 5683)),),
                nodes=(
                    Node("n1", (NodeAddress(ip_address("10.0.0.11")),)),
                    Node("n2", (NodeAddress(ip_address("10.0.0.12")),)),
                ),
            ),
        ),
    )


def test_a_node_serves_on_its_own_port_else_the_listeners_node_port_else_the_listeners_port() -> None:
    service = parse(FULL, "gateway.toml").gateway.services[0]
    ends = [str(node.endpoint(listener)) for node in service.nodes for listener in service.listeners]
    assert ends == ["10.0.0.11:5684", "[fd00::11]:5000", "10.0.0.12:15684", "[fd00::12]:15684"]
    assert [listener.family for listener in service.listeners] == [Family.V4, Family.V6]


def test_an_xdp_gateway_names_its_interfaces_and_its_flow_memory() -> None:
    xdp = FULL.replace(
        'dataplane = "nftables"',
        'dataplane = "xdp"\ninterfaces = ["wan0", "lan0"]\nflow_memory = 4000000',
    )
    gateway = parse(xdp, "g").gateway
    assert gateway.dataplane is DataPlaneChoice.XDP
    assert (gateway.interfaces, gateway.flow_memory) == (("wan0", "lan0"), 4_000_000)
    without = parse(FULL, "g").gateway
    assert (without.interfaces, without.flow_memory) == ((), 1_000_000)


def test_a_service_that_names_no_flow_table_size_has_the_planes() -> None:
    assert [service.flow_table_size for service in parse(FULL, "g").gateway.services] == [1024, None]


def test_californium_is_the_first_byte_of_an_id_of_any_length() -> None:
    text = FULL.replace("{ offset = 0, bits = 8, length = 6 }", '"californium"')
    assert parse(text, "g").gateway.services[0].connection_id == ConnectionIdRange(0, 8, None)


def test_lines_of_services_and_nodes_are_found_by_name() -> None:
    loaded = parse(FULL, "gateway.toml")
    assert [loaded.line_of("coaps"), loaded.line_of("coaps", "n2"), loaded.line_of("coap", "n1")] == [
        6,
        24,
        33,
    ]
    for service, node in [("none", None), ("coaps", "none")]:
        with pytest.raises(KeyError):
            loaded.line_of(service, node)


@pytest.mark.parametrize(
    ("seed", "value"),
    [("0", 0), ("0xffffffff", 0xFFFFFFFF), ('"1234abcd"', 0x1234ABCD), ('"0xFF"', 0xFF), ('"10"', 16)],
)
def test_a_hash_seed_is_an_integer_or_hexadecimal_digits(seed: str, value: int) -> None:
    assert parse(FULL.replace("0x1234abcd", seed), "g").gateway.hash_seed == value


def test_without_a_hash_seed_it_comes_from_the_name_with_a_warning() -> None:
    loaded = parse(FULL.replace("hash_seed = 0x1234abcd", ""), "gateway.toml")
    assert loaded.gateway.hash_seed == int.from_bytes(sha256(b"edge-1").digest()[:4], "big")
    assert [warning.render(loaded.filename) for warning in loaded.warnings] == [
        "gateway.toml:1: gateway: hash_seed is missing and made from the name, so others could guess "
        "which node "
        'a flow goes to; hash_seed = "..." with the 8 digits that this prints: od -An -N4 -tx4 /dev/urandom'
    ]


@pytest.mark.parametrize(
    ("written", "seconds"), [("1", 1), ('"1s"', 1), ('"5m"', 300), ('"24h"', 86400), ('"1d"', 86400)]
)
def test_durations_are_seconds(written: str, seconds: int) -> None:
    text = FULL.replace('flow_timeout = "2h"', f"flow_timeout = {written}")
    assert parse(text, "g").gateway.services[0].flow_timeout == seconds


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        (
            "length = 6",
            "length = 4",
            "g:12: service coaps: length 4 is less than Californium's node ids come with; "
            "5 or more if the nodes run Californium",
        ),
        (
            "weight = 2",
            "weight = 0",
            "g:23: service coaps, node n1: weight 0 takes no new flow; 1..100 for one that does",
        ),
        (
            '  [[service.node]]\n  name = "n2"\n  address = "10.0.0.12"\n',
            "",
            "g:29: service coap: one node, with nothing to go to when it is down; two nodes or more",
        ),
    ],
)
def test_what_is_doubtful_is_a_warning(old: str, new: str, warning: str) -> None:
    assert old in FULL
    assert [one.render("g") for one in parse(FULL.replace(old, new), "g").warnings] == [warning]


def test_a_short_id_at_another_offset_is_no_californium_and_no_warning() -> None:
    text = FULL.replace("{ offset = 0, bits = 8, length = 6 }", "{ offset = 8, bits = 8, length = 2 }")
    assert parse(text, "g").warnings == ()


def test_the_widest_bit_ranges_are_allowed() -> None:
    for cid in ("{ offset = 2008, bits = 32 }", "{ offset = 2008, bits = 32, length = 255 }"):
        text = FULL.replace("{ offset = 0, bits = 8, length = 6 }", cid).replace(
            "id = 255", "id = 4294967295"
        )
        assert parse(text, "g").gateway.services[0].nodes[1].id == 0xFFFFFFFF


def test_one_address_may_listen_on_many_ports_and_be_carried_once() -> None:
    listen = '{ address = "192.0.2.10:5683", interface = "wan0" }, "192.0.2.10:5685"'
    assert len(parse(FULL.replace('"192.0.2.10:5683"', listen), "g").gateway.services[1].listeners) == 2


def test_one_node_endpoint_behind_listeners_of_both_families_is_clear() -> None:
    text = FULL.replace('"192.0.2.10:5684", {', '"192.0.2.10:5684", {').replace(
        "node_port = 15684", "node_port = 5684"
    )
    assert parse(text, "g").gateway


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert parse("\ufeff" + FULL, "g").gateway == parse(FULL, "g").gateway
