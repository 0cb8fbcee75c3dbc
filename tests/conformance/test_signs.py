"""A node that is sent much and answers nothing is shown, and down where the service wants that."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.conformance.evidence import refused
from tests.conformance.servers import echoing
from tests.conformance.serving import serving
from tests.conformance.site import COAP, Site

CLIENTS, RATE = 12, 60
"""So many clients send so many datagrams a second, all together."""
PATIENCE = 40.0


class Traffic:
    """Steady datagrams to the VIP, and a server on each node that answers them until it is stopped."""

    def __init__(self, site: Site) -> None:
        self._over = threading.Event()
        self.servers: dict[str, subprocess.Popen[str]] = {
            node: site.lab.popen(node, echoing(site.node_address(node), COAP)) for node in ("n1", "n2")
        }
        time.sleep(1.0)  # or their machines answer port unreachable
        clients = [site.client() for _ in range(CLIENTS)]
        self._thread = threading.Thread(target=self._send, args=(clients, (site.vip, COAP)))
        self._thread.start()

    def _send(self, clients: list[Any], to: tuple[str, int]) -> None:
        while not self._over.wait(CLIENTS / RATE):
            for client in clients:
                client.sendto(b"ping", to)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        for server in self.servers.values():
            server.kill()
            server.wait()


@contextmanager
def traffic(site: Site) -> Iterator[Traffic]:
    found = Traffic(site)
    try:
        yield found
    finally:
        found.stop()


def nodes(site: Site) -> dict[str, dict[str, Any]]:
    (service,) = site.status()["services"]
    return {node["name"]: node for node in service["nodes"]}


def test_a_node_whose_server_stands_still_is_shown(site: Site) -> None:
    with serving(site, site.config(protocol="udp")) as daemon, traffic(site) as there:
        there.servers["n1"].send_signal(signal.SIGSTOP)
        daemon.until(lambda: nodes(site)["n1"]["sign"] != "", "n1 has a sign", patience=PATIENCE)
        found = nodes(site)
        assert "answered nothing" in found["n1"]["sign"]
        assert (found["n1"]["state"], found["n2"]["sign"]) == ("up", "")
        assert "answered nothing" in daemon.wait_for("sign", "s/n1")["text"]
        assert "s/n1: sent" in site.pointsman("status").stdout
        there.servers["n1"].send_signal(signal.SIGCONT)
        daemon.until(lambda: nodes(site)["n1"]["sign"] == "", "the sign ends", patience=PATIENCE)
        daemon.wait_for("sign", "is over")


def test_a_service_that_is_not_to_be_looked_at_shows_nothing(site: Site) -> None:
    with serving(site, site.config(protocol="udp", settings='passive = "off"')), traffic(site) as there:
        there.servers["n1"].send_signal(signal.SIGSTOP)
        end = time.monotonic() + 12
        while time.monotonic() < end:
            assert nodes(site)["n1"]["sign"] == ""
            time.sleep(1)


def test_where_signs_count_the_node_is_down_and_comes_back_by_itself(site: Site) -> None:
    text = site.config(protocol="udp", settings='passive = "count"')
    with serving(site, text) as daemon, traffic(site) as there:
        there.servers["n1"].send_signal(signal.SIGSTOP)
        down = daemon.wait_for("node_state", "s/n1: up -> down", patience=PATIENCE)
        assert "answered nothing" in down["text"]
        assert nodes(site)["n2"]["state"] == "up"
        there.servers["n1"].send_signal(signal.SIGCONT)
        back = daemon.wait_for("node_state", "s/n1: down -> up", patience=2 * PATIENCE)
        assert 29 < back["at"] - down["at"] < 45
        time.sleep(12)  # two readings more
        found = nodes(site)
        assert (found["n1"]["state"], found["n1"]["sign"]) == ("up", "")
        assert found["n1"]["checks"][0]["kind"] == "passive"


def test_signs_cannot_count_where_answers_pass_by(site: Site) -> None:
    text = site.config(protocol="udp", settings='passive = "count"\nforward = "dsr"')
    line = refused(site.pointsman("check", str(site.file(text)), check=False), 2)
    assert 'passive = "count" with forward = "dsr"' in line
