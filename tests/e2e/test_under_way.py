"""Packets that are under way while the tables change, by making that happen as often as it can."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.e2e.programs import PORTS, needs, running
from tests.e2e.test_programs import apply, at, text

from pointsman.lab.demo_site import Site
from pointsman.lab.topology import VIP

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]

SECONDS = float(os.environ.get("POINTSMAN_UNDER_WAY_SECONDS", "60"))
ROUND = 4.0
FLIP = str(Path(__file__).with_name("flip.py"))


def test_no_connection_breaks_as_its_node_leaves_and_comes_back(site: Site) -> None:
    """In one transaction for all of it, some 5 of 1,000 changes break a connection on nftables."""
    needs("wrk")
    settings = 'linger = "1m"'
    both = text(site, "nginx", "nat", ["n1", "n2"], settings)
    one = site.lab.scratch / "one.toml"
    one.write_text(text(site, "nginx", "nat", ["n1"], settings))
    with running(site.lab, "nginx", ["n1", "n2"]):
        apply(site, both)
        flip = site.lab.popen(
            "gw", [sys.executable, FLIP, str(one), site.plane, str(SECONDS)], stdout=subprocess.PIPE
        )
        assert flip.stdout is not None
        assert flip.stdout.readline() == "ready\n"
        requests = 0
        while flip.poll() is None:
            loads = [
                site.lab.popen(
                    "client",
                    ["wrk", "-t1", "-c64", "-d60s", f"http://{at(VIP[family], PORTS['nginx'])}/"],
                    stdout=subprocess.PIPE,
                )
                for family in (4, 6)
            ]
            time.sleep(ROUND)
            for load in loads:
                load.send_signal(signal.SIGINT)
                said = load.communicate()[0]
                assert "Socket errors" not in said, said
                (own,) = re.findall(r"(\d+) requests in", said)
                requests += int(own)
        times = int(flip.stdout.read())
        assert times > SECONDS
        print(f"{site.plane}: {requests} requests while a node left and came back {times} times")
