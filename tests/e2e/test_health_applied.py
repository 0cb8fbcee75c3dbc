"""Checks reach nodes, and their answers this machine, while the service that they are about is in force."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.conformance import started
from tests.e2e.programs import PORTS, running
from tests.e2e.test_health import COAP_SERVER, listening, server

from pointsman.lab.demo_site import Site
from pointsman.lab.topology import VIP
from pointsman.model.abilities import carries

pytestmark = pytest.mark.netns


def file_of(site: Site, protocol: str, port: int, forward: str, check: str) -> str:
    source = ""
    if forward == "full-nat":
        own = [site.lab.address("gw", family, "lan0") for family in (4, 6)]
        source = f'source = {json.dumps(own)}\nsource_ports = "10000-20000"'
    lines = [
        f'[gateway]\nname = "edge"\nhash_seed = 1\ndataplane = "{site.plane}"',
        f'[[service]]\nname = "s"\nprotocol = "{protocol}"\nforward = "{forward}"\n{source}',
        f'listen = [{{ address = "{VIP[4]}:{port}", interface = "wan0" }}, '
        f'{{ address = "[{VIP[6]}]:{port}", interface = "wan0" }}]',
        f'[[service.check]]\n{check}\ntimeout = "2s"',
    ]
    for node in ("n1", "n2"):
        own_text = ", ".join(f'"{site.lab.address(node, family)}"' for family in (4, 6))
        lines.append(f'[[service.node]]\nname = "{node}"\naddress = [{own_text}]')
    path = site.lab.scratch / "applied.toml"
    path.write_text("\n".join([*lines, ""]))
    return str(path)


def asked(site: Site, file: str) -> list[dict[str, Any]]:
    namespace = site.lab.namespace("gw")
    done = started.run(namespace, ["probe", "--json", file, "s/n1"], timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("forward", ["nat", "full-nat"])
def test_over_tcp(site: Site, forward: str) -> None:
    if not carries(site.plane, "forward", forward):
        pytest.skip(f"not carried by {site.plane} in this version")
    file = file_of(site, "tcp", PORTS["nginx"], forward, 'type = "http"\nbody = "^n1$"')
    site.pointsman("apply", file)
    with running(site.lab, "nginx", ["n1"]):
        assert [(one["ok"], one["said"]) for one in asked(site, file)] == [
            (True, "200 OK, body as expected")
        ] * 2
    assert [one["said"] for one in asked(site, file)] == ["connection refused"] * 2


@pytest.mark.parametrize("forward", ["nat", "full-nat"])
def test_over_udp(site: Site, forward: str) -> None:
    if not carries(site.plane, "forward", forward):
        pytest.skip(f"not carried by {site.plane} in this version")
    file = file_of(site, "udp", 5683, forward, 'type = "coap"')
    site.pointsman("apply", file)
    with server(site.lab, [*COAP_SERVER, "5683"], listening(site.lab, 5683, "u")):
        assert [one["ok"] for one in asked(site, file)] == [True, True]
    assert [one["ok"] for one in asked(site, file)] == [False, False]
