from __future__ import annotations

from itertools import combinations

import pytest

from pointsman.lab.errors import LabError
from pointsman.lab.topology import Topology, namespace, parse_namespace


def test_addresses_of_both_families_carry_the_same_number() -> None:
    lab = Topology("t", nodes=12)
    assert (lab.address("n1", 4), lab.address("n1", 6)) == ("10.0.0.11", "fd00::11")
    assert (lab.address("n12", 4), lab.address("n12", 6)) == ("10.0.0.22", "fd00::22")
    assert (lab.address("gw", 4), lab.address("gw", 6, "lan0")) == ("198.51.100.1", "fd00::1")


def test_devices_are_dealt_to_nats_in_order() -> None:
    lab = Topology("t", nats=2, devices_per_nat=3)
    assert [lab.nat_of(device) for device in range(1, 7)] == [1, 1, 1, 2, 2, 2]
    assert lab.address("dev4", 4) == "192.168.2.11"
    assert lab.address("dev6", 6) == "fd00:192:168:2::13"


def test_a_nat_has_several_external_addresses_of_each_family() -> None:
    lab = Topology("t", addresses_per_nat=3)
    assert lab.external(2, 4) == ("198.51.100.14", "198.51.100.15", "198.51.100.16")
    assert lab.external(2, 6) == ("2001:db8:1::14", "2001:db8:1::15", "2001:db8:1::16")


def test_nat_addresses_that_overflow_the_wan_prefix_come_from_another_one_on_the_same_segment() -> None:
    lab = Topology("t", nats=23)
    assert lab.external(22, 4)[-1] == "198.51.100.98"
    assert (lab.external(23, 4)[0], lab.external(23, 6)[0]) == ("198.18.0.89", "2001:db8:1::18:89")


@pytest.mark.parametrize(
    "lab",
    [
        Topology("t"),
        Topology("t", nodes=1, nats=0),
        Topology("t", nodes=4000, nats=250, addresses_per_nat=39),
        Topology("t", nodes=300, nats=5, devices_per_nat=200, addresses_per_nat=250),
    ],
    ids=["default", "smallest", "many nodes and NATs", "many devices"],
)
def test_addresses_macs_and_namespaces_are_unique(lab: Topology) -> None:
    plugs = [plug for machine in lab.machines for plug in machine.interfaces]
    addresses = [address.ip for plug in plugs for address in plug.addresses]
    for values in (addresses, [plug.mac for plug in plugs], lab.namespaces):
        assert len(values) == len(set(values))
    assert all(
        len(f"{machine.name}-{plug.name}") < 16 for machine in lab.machines for plug in machine.interfaces
    )


@pytest.mark.parametrize(
    "lab",
    [
        Topology("t", nats=30, devices_per_nat=2),
        Topology("t", nodes=1, direct=True, router=True, node_addresses=(("10.1.0.11", "fd00:1::11"),)),
    ],
    ids=["NATs", "behind a router"],
)
def test_every_next_hop_is_on_link(lab: Topology) -> None:
    for machine in lab.machines:
        for route in machine.routes:
            plug = machine.interface(route.device) if route.device != "lo" else None
            onlink = [own.network for own in plug.addresses] if plug else []
            onlink += [each.prefix for each in machine.routes if each.prefix and not each.via]
            assert route.via is None or any(route.via in prefix for prefix in onlink), (machine.name, route)


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a/b", "..", "a" * 32])
def test_names_that_could_not_be_files_and_namespaces_are_refused(name: str) -> None:
    with pytest.raises(LabError, match="lab name"):
        Topology(name)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nodes": 0}, "nodes = 0 is out of range 1..4000"),
        ({"nats": 251}, "nats = 251 is out of range 0..250"),
        ({"nats": 250, "addresses_per_nat": 250}, "at most 9999"),
    ],
)
def test_sizes_out_of_range_are_refused_with_the_range(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(LabError, match=message):
        Topology("t", **wrong)  # type: ignore[arg-type]


def test_unknown_machines_and_interfaces_are_named_with_the_known_ones() -> None:
    lab = Topology("t", nodes=1, nats=0)
    with pytest.raises(LabError, match="has no n2; it has gw, client, n1"):
        lab.machine("n2")
    with pytest.raises(LabError, match="gw has no interface eth0; it has wan0, lan0"):
        lab.machine("gw").interface("eth0")


def test_no_lab_claims_the_namespaces_of_another() -> None:
    names = ["a", "a-b", "a-n1", "a-gw", "n1", "a-n1-gw", "a_b"]
    for one, other in combinations(names, 2):
        owners = {parse_namespace(each) for each in Topology(one, nodes=2).namespaces}
        assert {found[0] for found in owners if found} == {one}
        assert not set(Topology(one).namespaces) & set(Topology(other).namespaces)


@pytest.mark.parametrize("foreign", ["pm-gw", "pm-a-x1", "xpm-a-gw", "pm-A-gw", "pm-a-gw2", "cni-1234"])
def test_foreign_namespaces_belong_to_nobody(foreign: str) -> None:
    assert parse_namespace(foreign) is None
    assert parse_namespace(namespace("a", "n12")) == ("a", "n12")
