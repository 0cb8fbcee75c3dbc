"""Other people's rules: those that would drop what the services forward are found, each with the line that helps.

The lines are run just as they are printed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from tests.conformance.evidence import carried, dropping, lines_to_add, only_on, own_site
from tests.conformance.site import COAPS, POINTSMAN, Site, cid

from pointsman.lab.errors import LabError
from pointsman.lab.topology import ONLINK_VIP


@pytest.fixture
def site(plane: str, family: int) -> Iterator[Site]:
    with own_site(plane, family, nodes=2) as found:
        yield found


def iptables(family: int, backend: str = "nft") -> str:
    return f"{'iptables' if family == 4 else 'ip6tables'}-{backend}"


def load(site: Site, rules: str) -> None:
    """Load nft text, or lines for iptables where they start with a dash."""
    site.lab.run("gw", ["nft", "-f", "-"], text=rules)


def load_iptables(site: Site, rules: str, backend: str = "nft") -> None:
    tool = iptables(site.family, backend)
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}; on Debian: apt install iptables")
    lines = [line.strip() for line in rules.strip().splitlines()]
    try:
        site.lab.run("gw", ["sh", "-ec", "\n".join(f"{tool} {line}" for line in lines)])
    except LabError as refusal:
        if backend == "legacy" and "Table does not exist" in str(refusal):
            pytest.skip("this kernel has no legacy iptables")
        raise


DOCKER = """
    -P FORWARD DROP
    -N DOCKER
    -N DOCKER-USER
    -N DOCKER-ISOLATION-STAGE-1
    -A FORWARD -j DOCKER-USER
    -A FORWARD -j DOCKER-ISOLATION-STAGE-1
    -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    -A FORWARD -o docker0 -j DOCKER
    -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
    -A FORWARD -i docker0 -o docker0 -j ACCEPT
    -A DOCKER ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
    -A DOCKER-ISOLATION-STAGE-1 -j RETURN
    -A DOCKER-USER -j RETURN
"""

UFW = """
    -P FORWARD DROP
    -N ufw-before-logging-forward
    -N ufw-before-forward
    -N ufw-user-forward
    -N ufw-reject-forward
    -N ufw-skip-to-policy-forward
    -A FORWARD -j ufw-before-logging-forward
    -A FORWARD -j ufw-before-forward
    -A FORWARD -j ufw-reject-forward
    -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    -A ufw-before-forward -p tcp -m tcp --dport 8080 -j ACCEPT
    -A ufw-before-forward -j ufw-user-forward
    -A ufw-before-logging-forward -m conntrack --ctstate NEW -m limit --limit 3/min -j LOG --log-prefix "[UFW AUDIT] "
    -A ufw-skip-to-policy-forward -j DROP
    -A ufw-reject-forward -m mac --mac-source 02:00:00:00:00:77 -g ufw-skip-to-policy-forward
"""

FIREWALLD = """
table inet firewalld {
  chain filter_FORWARD {
    type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002:0a00::/24 } reject with icmpv6 addr-unreachable
    jump filter_FORWARD_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD_ZONES {
    iifname "wan0" goto filter_FWD_public
    iifname "lan0" goto filter_FWD_internal
    goto filter_FWD_public
  }
  chain filter_FWD_public {
    meta l4proto { icmp, ipv6-icmp } accept
    oifname "wan0" jump filter_FWD_public_allow
  }
  chain filter_FWD_public_allow { tcp dport 22 ct state { new, untracked } accept; }
  chain filter_FWD_internal { meta l4proto { icmp, ipv6-icmp } accept; }
}
"""

PLAIN = """
table inet filter {
  chain forward { type filter hook forward priority filter; policy drop; ct state established,related accept; }
}
"""

NO_STRANGERS = """
table inet filter {
  chain forward { type filter hook forward priority filter; policy accept; ct state invalid,untracked drop; }
}
"""

VERDICT_MAP = """
table inet filter {
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state vmap { established : accept, related : accept, invalid : drop }
    iifname "lan0" oifname "wan0" ct state new accept
  }
}
"""

TWO_CHAINS = (
    PLAIN
    + """
table inet mangling {
  chain before {
    type filter hook prerouting priority mangle; policy accept;
    meta l4proto udp ct state != { new, established, related } counter drop
  }
}
"""
)

REPLIES_ONLY = """
table inet filter {
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "lan0" ct state != established drop
  }
}
"""

OF_THE_FAMILY = """
table FAMILY Edge { chain Through { type filter hook forward priority 5; policy drop; tcp dport 443 accept; }; }
"""


def warned_of(site: Site) -> list[str]:
    return dropping(site.pointsman("check", str(site.lab.scratch / f"gateway-{site.family}.toml")))


def lost_until_the_lines_are_added(site: Site, *chains: str) -> None:
    """See the service's traffic lost, run the offered lines, and see it flow with no more warning."""
    client = site.client()
    site.nodes(["n1", "n2"])
    client.sendto(cid(1), (site.vip, COAPS))
    for arrival in site.arrivals(wait=0.3):  # a filter may drop the answers alone
        site.answer(arrival)
    client.settimeout(0.3)
    with pytest.raises((TimeoutError, ConnectionRefusedError)):
        client.recv(100)
    said = warned_of(site)
    assert [line.split(" would drop ")[0].removeprefix("chain ") for line in said] == list(chains)
    for line in lines_to_add(said):
        site.lab.run("gw", line)
    client.settimeout(2)
    assert [site.ask(client, cid(i)).node for i in (1, 2, 1)] == ["n1", "n2", "n1"]
    site.node("n2").sendto(b"unasked", client.getsockname()[:2])
    answer, source = client.recvfrom(100)
    assert (answer, source[:2]) == (b"unasked", (site.vip, COAPS))
    assert warned_of(site) == []
    assert site.tracked() == 0


@only_on("nftables", because="with xdp other people's rules meet no packet: test_foreign_rules_xdp.py")
@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize(
    ("style", "chain"), [(DOCKER, "DOCKER-USER"), (UFW, "FORWARD")], ids=["docker", "ufw"]
)
def test_iptables_rules_that_drop(site: Site, style: str, chain: str, backend: str) -> None:
    site.serve()
    load_iptables(site, style, backend)
    place = f"{'ip' if site.family == 4 else 'ip6'} filter FORWARD"
    lost_until_the_lines_are_added(site, place + (" of legacy iptables" if backend == "legacy" else ""))
    listed = site.lab.run("gw", [iptables(site.family, backend), "-S", chain]).stdout.splitlines()
    assert "--comment pointsman" in listed[1]


@only_on("nftables", because="with xdp other people's rules meet no packet: test_foreign_rules_xdp.py")
@pytest.mark.parametrize(
    ("rules", "chains"),
    [
        (FIREWALLD, ["inet firewalld filter_FORWARD"]),
        (PLAIN, ["inet filter forward"]),
        (NO_STRANGERS, ["inet filter forward"]),
        (VERDICT_MAP, ["inet filter forward"]),
        (REPLIES_ONLY, ["inet filter forward"]),
        (TWO_CHAINS, ["inet filter forward", "inet mangling before"]),
        (OF_THE_FAMILY, ["FAMILY Edge Through"]),
    ],
    ids=["firewalld", "plain", "no strangers", "verdict map", "replies only", "two chains", "one family"],
)
def test_nftables_rules_that_drop(site: Site, rules: str, chains: list[str]) -> None:
    family = "ip" if site.family == 4 else "ip6"
    site.serve()
    load(site, rules.replace("FAMILY", family))
    lost_until_the_lines_are_added(site, *(chain.replace("FAMILY", family) for chain in chains))


@only_on("nftables", because="with xdp other people's rules meet no packet: test_foreign_rules_xdp.py")
def test_iptables_rules_in_another_table_than_filter(site: Site) -> None:
    site.serve()
    load_iptables(site, "-t mangle -A FORWARD -m conntrack --ctstate INVALID,UNTRACKED -j DROP")
    family = "ip" if site.family == 4 else "ip6"
    lost_until_the_lines_are_added(site, f"{family} mangle FORWARD")


@pytest.mark.parametrize("family", [4], ids=["ip4"])
@only_on("nftables", because="with xdp other people's rules meet no packet, and nothing is warned of")
def test_check_plan_apply_and_status_warn_alike_and_say_why(site: Site) -> None:
    site.serve()
    load(site, PLAIN + NO_STRANGERS.replace("inet filter", "inet other"))
    file = str(site.lab.scratch / f"gateway-{site.family}.toml")
    said = dropping(site.pointsman("check", file))
    assert dropping(site.pointsman("plan", file)) == said
    assert dropping(site.pointsman("apply", file)) == said
    assert dropping(site.pointsman("status")) == said
    assert [line for line in site.status()["findings"] if "would drop" in line] == said
    policy, rule = said
    assert "(its policy is drop)" in policy
    assert "(rule 1 of forward drops them)" in rule


HARMLESS = {
    "policy accept": "type filter hook forward priority 0; policy accept; ct state established accept;",
    "tcp only": "type filter hook forward priority 0; policy accept; meta l4proto tcp drop; tcp dport 22 drop;",
    "other ports": "type filter hook forward priority 0; policy accept; udp dport { 53, 1000-2000 } drop; "
    "udp sport 123 drop;",
    "other interfaces": 'type filter hook forward priority 0; policy accept; iifname "docker0" drop; '
    'oifname { "docker0", "br-1" } drop;',
    "other addresses": "type filter hook forward priority 0; policy accept; ip daddr 172.17.0.0/16 drop; "
    "ip6 daddr fd77::/64 drop; ip daddr @blocked drop;",
    "a rate": "type filter hook forward priority 0; policy accept; udp dport 5684 limit rate over 9000/second drop;",
    "input": "type filter hook input priority 0; policy drop; ct state established,related accept; "
    "meta l4proto ipv6-icmp accept;",
    "invalid only": "type filter hook forward priority 0; policy accept; ct state invalid drop; "
    "ct state vmap { invalid : drop, new : drop };",
    "the services' ports are let through": "type filter hook forward priority 0; policy drop; "
    "ct state established,related accept; udp dport 5684 accept; udp sport 5684 accept;",
    "the nodes' net is let through": "type filter hook forward priority 0; policy drop; "
    "ip daddr 10.0.0.0/24 accept; ip saddr 10.0.0.0/24 accept; "
    "ip6 daddr fd00::/64 accept; ip6 saddr fd00::/64 accept;",
    "a jump lets through": "type filter hook forward priority 0; policy drop; meta l4proto udp goto passing;",
    "nat": "type nat hook prerouting priority -100; policy accept; meta l4proto udp ct state new drop;",
    "before conntrack": "type filter hook prerouting priority -400; policy accept; ct state != invalid drop;",
}


@only_on("nftables", because="what is warned of does not depend on the plane")
@pytest.mark.parametrize("rules", HARMLESS.values(), ids=HARMLESS.keys())
def test_rules_that_let_the_services_through_are_not_warned_of(site: Site, rules: str) -> None:
    extra = "set blocked { type ipv4_addr; elements = { 192.0.2.66 }; }; chain passing { counter accept; };"
    load(site, f"table inet theirs {{ {extra} chain c {{ {rules} }}; }}")
    done = site.pointsman("apply", str(site.file(site.config())))
    assert dropping(done) == []
    site.nodes(["n1", "n2"])
    client = site.client()
    assert [site.ask(client, cid(i)).node for i in (1, 2)] == ["n1", "n2"]


@only_on("nftables", because="what is warned of does not depend on the plane")
def test_iptables_rules_that_let_the_services_through_are_not_warned_of(site: Site) -> None:
    net = "10.0.0.0/24" if site.family == 4 else "fd00::/64"
    load_iptables(
        site,
        f"""
        -P FORWARD DROP
        -P INPUT DROP
        -A INPUT -p ipv6-icmp -j ACCEPT
        -A FORWARD -i docker0 -j DROP
        -A FORWARD -p tcp -m multiport --dports 22,80 -j DROP
        -A FORWARD -m mark --mark 0x1 -j DROP
        -A FORWARD -d {net} ! -i docker+ -p udp -m udp --dport 5000:6000 -j ACCEPT
        -A FORWARD -s {net} -p udp -m multiport --sports 1,5684 -j ACCEPT
        """,
    )
    assert dropping(site.apply(carried(site, families=[site.family]))) == []
    site.nodes(["n1", "n2"])
    assert site.ask(site.client(), cid(2), vip=ONLINK_VIP[site.family]).node == "n2"


@pytest.mark.parametrize("family", [4], ids=["ip4"])
@only_on("nftables", because="with xdp other people's rules meet no packet, and nothing is warned of")
def test_without_capabilities_other_peoples_rules_are_said_to_be_unread(site: Site) -> None:
    bare = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    done = site.lab.run("gw", [*bare, *POINTSMAN, "check", str(site.file(site.config()))])
    assert "other people's forward chains were not looked at" in done.stderr


# rules that must not matter


MASQUERADE = """
table inet theirs {
  chain after { type nat hook postrouting priority srcnat; policy accept; meta l4proto udp masquerade; }
}
"""

TRACKING = """
table inet theirs {
  chain early { type filter hook prerouting priority -310; policy accept; udp dport 9 notrack; udp sport 9 notrack; }
  chain raw { type filter hook prerouting priority raw; policy accept; tcp dport 9 notrack; }
  chain before { type filter hook prerouting priority mangle; policy accept; ct state new ct mark set 7 counter; }
  chain zone { type filter hook prerouting priority -299; policy accept; udp dport 7 ct zone set 5; }
  chain forward { type filter hook forward priority 0; policy accept; ct state invalid drop; ct state new counter; }
}
"""


def untouched(site: Site) -> None:
    """Both ends see just the addresses that they should, and nothing is tracked, whoever speaks first."""
    site.nodes(["n1", "n2"])
    client = site.client()
    arrival = site.ask(client, cid(1))
    assert arrival.source == client.getsockname()[:2]
    other = site.client()
    site.node("n2").sendto(b"unasked", other.getsockname()[:2])
    answer, source = other.recvfrom(100)
    assert (answer, source[:2]) == (b"unasked", (site.vip, COAPS))
    assert site.tracked() == 0
    assert site.lab.run("gw", ["conntrack", "-L", "-f", f"ipv{site.family}"]).stdout == ""


def test_masquerade_leaves_dtls_alone(site: Site) -> None:
    load(site, MASQUERADE)
    site.serve()
    untouched(site)


def test_control_masquerade_changes_what_is_tracked(site: Site) -> None:
    load(site, MASQUERADE)
    site.serve()
    server = site.node("n1", 9999)
    client = site.client()
    client.sendto(b"x", (site.node_address("n1"), 9999))
    arrival = site.arrivals()[0]
    assert arrival.source[0] == site.lab.address("gw", site.family, "lan0")
    assert site.tracked() > 0
    assert server.fileno() >= 0


def test_masquerade_of_iptables_leaves_dtls_alone(site: Site) -> None:
    load_iptables(
        site,
        """
        -t nat -A POSTROUTING -o wan0 -j MASQUERADE
        -t nat -A POSTROUTING -o lan0 -p udp -j MASQUERADE
        """,
    )
    site.serve()
    untouched(site)


def test_tracking_rules_of_others_change_nothing(site: Site) -> None:
    load(site, TRACKING)
    site.serve()
    untouched(site)


def test_destination_nat_of_others_does_not_reach_the_services(site: Site) -> None:
    load(
        site,
        "table inet theirs { chain d { type nat hook prerouting priority dstnat; policy accept; "
        "udp dport 5684 redirect to :9; }; }",
    )
    site.serve()
    untouched(site)
