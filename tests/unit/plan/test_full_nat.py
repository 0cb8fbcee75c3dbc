"""What `check` says of full-nat's sources before the kernel is asked for anything."""

from __future__ import annotations

import pytest

from pointsman.config import parse
from pointsman.plan.findings import Surroundings, fatal, find
from pointsman.plan.full_nat import MOST_TRANSLATIONS, translations


def text(
    *, sources: str = '"10.0.0.1"', ports: str = "30000-39999", nodes: int = 2, listen: str = "192.0.2.10:53"
) -> str:
    found = (
        '[gateway]\nname = "edge"\nhash_seed = "6f1d20c4"\n[[service]]\nname = "s"\nprotocol = "udp"\n'
        f'listen = ["{listen}"]\nforward = "full-nat"\nsource = [{sources}]\nsource_ports = "{ports}"\n'
    )
    for n in range(nodes):
        found += f'[[service.node]]\nname = "n{n}"\naddress = "10.1.{n // 250}.{n % 250}"\n'
    return found


def lines(text: str, plane: str) -> list[str]:
    return [each.text for each in fatal(find(parse(text, "g").gateway, Surroundings(), plane))]


@pytest.mark.parametrize("plane", ["nftables", "xdp"])
def test_sources_that_are_in_order_are_not_spoken_of(plane: str) -> None:
    assert lines(text(), plane) == []


def test_more_than_eight_sources_are_too_many_on_xdp() -> None:
    nine = ", ".join(f'"10.0.0.{n}"' for n in range(1, 10))
    assert lines(text(sources=nine), "xdp") == ["service s: 9 IPv4 sources; at most 8 on xdp"]
    assert lines(text(sources=nine), "nftables") == []


def test_memory_is_refused_beyond_reason() -> None:
    every = text(ports="1024-65535", nodes=600)
    assert translations(parse(every, "g").gateway) == 600 * 64512 > MOST_TRANSLATIONS
    (line,) = lines(every, "xdp")
    assert line == (
        "full-nat: 38,707,200 source ports towards nodes would take 1,771 MiB on xdp; at most 33,554,432 "
        "(1,536 MiB): narrow source_ports, or take fewer sources"
    )
    assert lines(every, "nftables") == []
