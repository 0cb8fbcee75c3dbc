"""A configuration file that fits a lab, for the user's first evening."""

from __future__ import annotations

from typing import Final

from pointsman.lab.topology import VIP, Topology

HASH_SEED: Final = "5eed1ab0"


def example(topology: Topology) -> str:
    """A ``dtls`` service on 5684 and a ``udp`` one on 5683, both families, with all nodes of the lab."""
    wide = 8 if topology.nodes < 256 else 16
    nodes = [
        (f"n{i}", i, [topology.address(f"n{i}", 4), topology.address(f"n{i}", 6)])
        for i in range(1, topology.nodes + 1)
    ]
    lines = [
        f"# Made for the lab {topology.name}: its nodes, behind one address of each family.",
        "",
        "[gateway]",
        f'name = "{topology.name}"',
        f'hash_seed = "{HASH_SEED}"  # a site makes its own: od -An -N4 -tx4 /dev/urandom',
        "",
        "[[service]]",
        'name = "coaps"',
        'protocol = "dtls"',
        _listen(5684),
        f"connection_id = {{ offset = 0, bits = {wide}, length = 6 }}  # where the node id is",
        "",
    ]
    for name, number, addresses in nodes:
        lines += ["  [[service.node]]", f'  name = "{name}"', f"  id = {number}", _address(addresses), ""]
    lines += [
        "[[service]]",
        'name = "coap"',
        'protocol = "udp"',
        _listen(5683),
        "",
    ]
    for name, _, addresses in nodes:
        lines += ["  [[service.node]]", f'  name = "{name}"', _address(addresses), ""]
    return "\n".join(lines)


def _listen(port: int) -> str:
    """Both VIPs, carried by the gateway's wan interface while the configuration is applied."""
    texts = (f"{VIP[4]}:{port}", f"[{VIP[6]}]:{port}")
    listeners = (f'{{ address = "{text}", interface = "wan0" }}' for text in texts)
    return f"listen = [{', '.join(listeners)}]"


def _address(addresses: list[str]) -> str:
    return "  address = [" + ", ".join(f'"{address}"' for address in addresses) + "]"
