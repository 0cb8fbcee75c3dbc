from __future__ import annotations

import os
from pathlib import Path

import pytest

from pointsman.lab.commands import Script, building, nat_table, tearing_down
from pointsman.lab.topology import Topology
from pointsman.lab.uplinks import World

GOLDEN = Path(__file__).parent / "golden"


def text(script: Script) -> str:
    lines = [*script.create, "", *script.wire]
    for each in script.inside:
        lines += ["", f"[{each.namespace}]", *each.sysctls, *each.ip, *each.nft.splitlines()]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "topology",
    [
        Topology("small", nodes=1, nats=0),
        Topology("home", nodes=2, nats=1, devices_per_nat=2, addresses_per_nat=2),
        Topology(
            "far", nodes=1, nats=0, direct=True, router=True, node_addresses=(("10.1.0.11", "fd00:1::11"),)
        ),
        Topology(
            "uplinks",
            nats=0,
            worlds=(
                World("wan0", ("192.0.2.2/24", "2001:db8:a::2/64"), ("192.0.2.1", "2001:db8:a::1")),
                World("lte0", ("198.18.2.2/24", "2001:db8:18:2::2/64"), ("198.18.2.1", "fe80::1")),
            ),
        ),
    ],
    ids=lambda topology: topology.name,
)
def test_the_commands_are_the_golden_ones(topology: Topology) -> None:
    """With POINTSMAN_GOLDEN=write the files are written anew; read the difference before committing it."""
    golden = GOLDEN / f"{topology.name}.txt"
    if os.environ.get("POINTSMAN_GOLDEN") == "write":
        golden.write_text(text(building(topology)))
    assert text(building(topology)) == golden.read_text()


def test_the_gateway_is_told_not_to_forward_and_has_no_rules() -> None:
    gateway = next(each for each in building(Topology("t")).inside if each.namespace == "pm-t-gw")
    assert "net.ipv4.ip_forward=0" in gateway.sysctls
    assert not any("forwarding=1" in line for line in gateway.sysctls)
    assert gateway.nft == ""


def test_no_two_ends_of_a_cable_can_have_the_same_index() -> None:
    cables = building(Topology("t", nodes=4000)).wire
    indices = [int(line.split(" index ")[1].split()[0]) for line in cables]
    assert len(set(indices)) == len(indices)
    assert min(indices) > 1000  # a machine's own interfaces are numbered from 2


def test_tearing_down_names_every_namespace_once() -> None:
    assert tearing_down(["pm-t-gw", "pm-t-n1"]) == ("netns del pm-t-gw", "netns del pm-t-n1")


@pytest.mark.parametrize(
    ("address", "ports", "target"),
    [
        ("198.51.100.11", None, "snat to 198.51.100.11\n"),
        ("198.51.100.11", (40000, 40000), "snat to 198.51.100.11:40000\n"),
        ("198.51.100.11", (40000, 40009), "snat to 198.51.100.11:40000-40009\n"),
        ("2001:db8:1::11", None, "snat to 2001:db8:1::11\n"),
        ("2001:db8:1::11", (40000, 40009), "snat to [2001:db8:1::11]:40000-40009\n"),
    ],
)
def test_a_mapping_is_one_nft_transaction(address: str, ports: tuple[int, int] | None, target: str) -> None:
    table = nat_table(address, ports)
    assert f"{{ tcp, udp }} {target}" in table
    family = "ip6" if ":" in address else "ip"
    assert table.startswith(f"table {family} pointsman_lab\ndelete table {family} pointsman_lab\n")
