"""Other people's rules on the XDP plane: they meet nothing of what it forwards."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.conformance.evidence import only_on, own_site
from tests.conformance.icmp import IP_MTU_DISCOVER, IP_PMTUDISC_DONT
from tests.conformance.site import COAPS, QUIET, Site, cid, hello

pytestmark = only_on("xdp", because="with nftables they count, see test_foreign_rules.py")

DROP_ALL = """
table inet theirs {
  chain early { type filter hook prerouting priority -400; policy accept; udp dport 5684 drop; udp sport 5684 drop; }
  chain forward { type filter hook forward priority filter; policy drop; }
  chain late { type filter hook postrouting priority 300; policy accept; udp dport 5684 drop; udp sport 5684 drop; }
}
"""

REWRITE = """
table inet theirs {
  chain before { type nat hook prerouting priority dstnat; policy accept; udp dport 5684 redirect to :9; }
  chain after { type nat hook postrouting priority srcnat; policy accept; masquerade; }
  chain mangle { type filter hook prerouting priority mangle; policy accept; udp dport 5684 udp dport set 9; }
}
"""

REJECT = """
table inet theirs {
  chain forward { type filter hook forward priority filter; policy accept; reject with icmpx admin-prohibited; }
}
"""

DEVICES = """
table netdev theirs {
  chain wan { type filter hook ingress device "wan0" priority 0; policy accept; udp dport 5684 drop; }
  chain lan { type filter hook ingress device "lan0" priority 0; policy accept; udp sport 5684 drop; }
}
"""


@pytest.fixture
def site(plane: str, family: int) -> Iterator[Site]:
    with own_site(plane, family, nodes=2) as found:
        yield found


def untouched(site: Site) -> None:
    """Traffic of every kind passes, with the addresses that it should have, and nothing is tracked."""
    site.nodes(["n1", "n2"])
    client = site.client()
    for payload in (cid(1), cid(2), hello(), hello(message_seq=1), cid(2, body=bytes(3000))):
        assert site.ask(client, payload).source == client.getsockname()[:2]
    site.node("n2").sendto(b"unasked", client.getsockname()[:2])
    answer, source = client.recvfrom(100)
    assert (answer, source[:2]) == (b"unasked", (site.vip, COAPS))
    assert site.tracked() == 0


@pytest.mark.parametrize(
    "rules", [DROP_ALL, REWRITE, REJECT, DEVICES], ids=["drop", "rewrite", "reject", "at the device"]
)
def test_rules_of_others_neither_drop_nor_rewrite_what_the_services_forward(site: Site, rules: str) -> None:
    site.serve()
    site.lab.run("gw", ["nft", "-f", "-"], text=rules)
    untouched(site)


def test_control_the_same_rules_drop_what_the_kernel_forwards(site: Site) -> None:
    site.serve()
    server, client = site.node("n1", 9999), site.client()
    client.sendto(b"x", (site.node_address("n1"), 9999))
    assert site.arrivals()[0].payload == b"x"
    site.lab.run("gw", ["nft", "-f", "-"], text=DROP_ALL)
    client.sendto(b"x", (site.node_address("n1"), 9999))
    assert site.arrivals(wait=QUIET) == []
    assert server.fileno() >= 0


@pytest.mark.parametrize("family", [4], ids=["ip4"])  # nobody fragments IPv6 on its way
def test_only_what_the_kernel_cuts_up_meets_the_rules_of_others(site: Site) -> None:
    for machine, interface in (("gw", "lan0"), ("n1", "eth0"), ("n2", "eth0")):
        site.lab.run(machine, ["ip", "link", "set", interface, "mtu", "1400"])
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    site.ask(client, cid(1))  # so that the neighbour is known
    client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    big = cid(1, body=bytes(1420))
    assert site.ask(client, big).node == "n1"
    site.lab.run("gw", ["nft", "-f", "-"], text=DROP_ALL)
    site.dropped(client, big)
    assert site.ask(client, cid(1)).node == "n1"
