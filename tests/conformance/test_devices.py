"""How many devices still name a draining node is estimated, where packets can be sampled."""

from __future__ import annotations

from tests.conformance.evidence import only_on
from tests.conformance.serving import Daemon, serving
from tests.conformance.site import Site, cid

from pointsman.api.client import daemon_here

DEVICES = 60
"""So few are counted almost exactly."""


def devices(site: Site, node: str) -> int | None:
    """What the daemon says of a node."""
    with site.lab.inside("gw"):
        daemon = daemon_here()
    assert daemon is not None
    try:
        return daemon.drained("s", node).devices
    finally:
        daemon.close()


def send(site: Site, node_id: int) -> None:
    client = site.client()
    for device in range(DEVICES):
        record = cid(node_id, rest=device.to_bytes(5, "big"))
        client.sendto(record, (site.vip, 5684))


def sampled(site: Site) -> int:
    with site.maps() as maps:
        return maps.config.sample


def until_seen(site: Site, daemon: Daemon) -> int:
    seen: list[int] = [0]

    def enough() -> bool:
        send(site, 1)
        seen.append(devices(site, "n1") or 0)
        return seen[-1] >= DEVICES * 0.9

    daemon.until(enough, "the devices are seen", patience=40)
    return seen[-1]


@only_on("xdp", because="nftables has no samples of packets")
def test_devices_that_name_a_draining_node_are_estimated(site: Site) -> None:
    with serving(site, site.config()) as daemon:
        daemon.until(lambda: sampled(site) == 0, "nothing is sampled")
        site.pointsman("node", "drain", "s/n1")
        found = until_seen(site, daemon)
        assert abs(found - DEVICES) <= 4
        send(site, 2)
        assert devices(site, "n2") is None, "who does not drain is not sampled"
        assert sampled(site) == 1
        site.pointsman("node", "enable", "s/n1")
        daemon.until(lambda: sampled(site) == 0, "sampling ends with the draining")
        assert devices(site, "n1") is None


@only_on("xdp", because="nftables has no samples of packets")
def test_sampling_ends_with_the_daemon_and_what_a_killed_one_left(site: Site) -> None:
    with serving(site, site.config()) as daemon:
        site.pointsman("node", "drain", "s/n1")
        daemon.until(lambda: sampled(site) > 0, "packets are sampled")
        daemon.stop()
        assert sampled(site) == 0
        daemon.start()
        daemon.until(lambda: sampled(site) > 0, "packets are sampled again")
        daemon.kill()
        assert sampled(site) > 0
        site.pointsman("node", "enable", "s/n1")
        daemon.start()
        daemon.until(lambda: sampled(site) == 0, "what was left is put off")


@only_on("nftables", because="xdp samples packets")
def test_nftables_says_that_it_does_not_know(site: Site) -> None:
    with serving(site, site.config()):
        site.pointsman("node", "drain", "s/n1")
        send(site, 1)
        assert devices(site, "n1") is None


@only_on("xdp", because="nftables has no samples of packets")
def test_without_a_length_connection_ids_cannot_be_told_apart(site: Site) -> None:
    with serving(site, site.config(connection_id="{ offset = 0, bits = 8 }")):
        site.pointsman("node", "drain", "s/n1")
        send(site, 1)
        assert devices(site, "n1") is None
        assert sampled(site) == 0
