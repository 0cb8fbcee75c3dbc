from __future__ import annotations

from dataclasses import replace

import pytest

from pointsman.config import parse
from pointsman.model import DataPlaneChoice, Gateway, Protocol, abilities
from pointsman.plan.choice import (
    LARGEST_MTU,
    OLDEST_KERNEL,
    Interfaces,
    PortFacts,
    XdpFacts,
    choose,
    interfaces_of,
)
from pointsman.plan.findings import Surroundings

TEXT = """
[gateway]
name = "edge"
[[service]]
name = "plain"
protocol = "udp"
listen = ["192.0.2.10:53"]
[[service.node]]
name = "n1"
address = "10.0.0.11"
"""
PORT = PortFacts("eth0", "virtio_net", 1500)
GOOD = XdpFacts(OLDEST_KERNEL, None, (PORT,))
OLD = replace(GOOD, kernel=(5, 14))
TAKEN = replace(GOOD, ports=(replace(PORT, foreign="cilium"),))
MISSING = replace(GOOD, missing="libbpf.so.1 is not installed")


def gateway(plane: DataPlaneChoice = DataPlaneChoice.AUTO, protocol: str = "udp") -> Gateway:
    own = parse(TEXT.replace('"udp"', f'"{protocol}"'), "edge.toml").gateway
    return replace(own, dataplane=plane)


def test_what_the_file_says_is_taken() -> None:
    assert choose(gateway(DataPlaneChoice.NFTABLES), GOOD).plane == "nftables"
    chosen = choose(gateway(DataPlaneChoice.XDP), GOOD)
    assert (chosen.plane, chosen.refusal, str(chosen)) == ("xdp", None, "xdp (as configured)")


@pytest.mark.parametrize(("facts", "word"), [(OLD, "5.14"), (TAKEN, "cilium"), (MISSING, "libbpf")])
def test_xdp_that_cannot_be_is_refused_with_a_way_out(facts: XdpFacts, word: str) -> None:
    refusal = choose(gateway(DataPlaneChoice.XDP), facts).refusal
    assert refusal is not None
    assert word in refusal
    assert '"nftables"' in refusal


@pytest.mark.parametrize("facts", [OLD, TAKEN, MISSING])
def test_nftables_minds_nothing_of_xdp(facts: XdpFacts) -> None:
    chosen = choose(gateway(DataPlaneChoice.NFTABLES), facts)
    assert (chosen.plane, chosen.refusal) == ("nftables", None)


def test_auto_takes_xdp_where_every_driver_has_it() -> None:
    chosen = choose(gateway(), GOOD)
    assert (chosen.plane, chosen.refusal) == ("xdp", None)


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (OLD, "5.14"),
        (TAKEN, "cilium"),
        (MISSING, "libbpf"),
        (replace(GOOD, ports=()), "interfaces"),
        (replace(GOOD, ports=(PORT, replace(PORT, name="v0", driver="veth"))), "veth"),
        (replace(GOOD, ports=(replace(PORT, driver="e1000"),)), "e1000"),
        (replace(GOOD, ports=(replace(PORT, driver=""),)), "unknown"),
        (replace(GOOD, ports=(replace(PORT, mtu=LARGEST_MTU + 1),)), "MTU"),
    ],
)
def test_auto_takes_nftables_otherwise_and_says_why(facts: XdpFacts, word: str) -> None:
    chosen = choose(gateway(), facts)
    assert (chosen.plane, chosen.refusal) == ("nftables", None)
    assert chosen.reason.startswith("auto: not xdp, as ")
    assert word in chosen.reason


@pytest.fixture
def without_tcp_on_nftables(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were something that XDP alone carries."""
    lacks = {"nftables": frozenset({("protocol", Protocol.TCP)}), "xdp": frozenset[tuple[str, str]]()}
    monkeypatch.setattr(abilities, "_LACKS", lacks)


@pytest.mark.usefixtures("without_tcp_on_nftables")
@pytest.mark.parametrize("facts", [OLD, TAKEN, MISSING])
def test_what_xdp_alone_carries_is_refused_without(facts: XdpFacts) -> None:
    tcp = gateway(protocol="tcp")
    assert choose(tcp, GOOD).refusal is None
    chosen = choose(tcp, facts)
    assert chosen.plane == "xdp"
    assert chosen.refusal is not None
    assert "tcp" in chosen.refusal


@pytest.mark.usefixtures("without_tcp_on_nftables")
def test_what_xdp_alone_carries_takes_a_slow_one_too() -> None:
    chosen = choose(gateway(protocol="tcp"), replace(GOOD, ports=(replace(PORT, driver="veth"),)))
    assert (chosen.plane, chosen.refusal) == ("xdp", None)


GUARDED = """
[gateway]
name = "edge"
[[guard]]
name = "server"
interface = "eth0"
ports = [5684]
[guard.filter]
"""


def test_guards_alone_are_a_gateway() -> None:
    own = replace(parse(GUARDED, "edge.toml").gateway, dataplane=DataPlaneChoice.XDP)
    chosen = choose(own, GOOD)
    assert (chosen.plane, chosen.refusal) == ("xdp", None)
    assert interfaces_of(own, Surroundings(mtu={"eth0": 1500})) == Interfaces()


def test_a_guards_interface_is_none_of_those_where_clients_may_be() -> None:
    both = replace(gateway(), guards=parse(GUARDED, "edge.toml").gateway.guards)
    found = interfaces_of(both, Surroundings(mtu={"eth0": 1500, "eth1": 1500, "lo": 65536}))
    assert found.names == ("eth1",)
