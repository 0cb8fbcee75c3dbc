from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pointsman.config import load
from pointsman.lab.example import example
from pointsman.lab.picture import picture
from pointsman.lab.topology import Topology


def test_the_example_has_both_services_with_every_node() -> None:
    document = tomllib.loads(example(Topology("evening", nodes=4)))
    dtls, udp = document["service"]
    assert document["gateway"]["name"] == "evening"
    assert [each["address"] for each in dtls["listen"]] == ["192.0.2.10:5684", "[2001:db8::10]:5684"]
    assert [node["id"] for node in dtls["node"]] == [1, 2, 3, 4]
    assert dtls["node"][0]["address"] == ["10.0.0.11", "fd00::11"]
    assert [each["address"] for each in udp["listen"]] == ["192.0.2.10:5683", "[2001:db8::10]:5683"]
    assert len(udp["node"]) == 4


def test_the_example_is_a_good_configuration(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text(example(Topology("t", nodes=300)))
    loaded = load(file)
    assert [service.name for service in loaded.gateway.services] == ["coaps", "coap"]
    assert not loaded.warnings


@pytest.mark.parametrize("nodes", [1, 255, 256, 4000])
def test_node_ids_fit_the_bits_of_the_connection_id(nodes: int) -> None:
    service = tomllib.loads(example(Topology("t", nodes=nodes)))["service"][0]
    assert nodes < 1 << service["connection_id"]["bits"]


def test_the_picture_shows_every_machine_of_a_small_lab() -> None:
    drawn = picture(Topology("t", nodes=3, nats=2))
    assert drawn.splitlines()[:3] == [
        "  dev1 -- nat1 --+                    +-- n1",
        "  dev2 -- nat2 --+-- wan0 [gw] lan0 --+-- n2",
        "        client --+                    +-- n3",
    ]


@pytest.mark.parametrize(
    "lab", [Topology("t", nodes=1, nats=0), Topology("t", nodes=500, nats=50, devices_per_nat=9)]
)
def test_the_picture_fits_a_screen(lab: Topology) -> None:
    lines = picture(lab).splitlines()
    assert len(lines) < 20
    assert max(map(len, lines)) <= 110
