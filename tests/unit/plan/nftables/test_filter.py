"""The nftables form of filters and guards, from values alone; what it does is tests/conformance's."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from pointsman.config import parse
from pointsman.model import Family, Filter, Gateway, NodeStates
from pointsman.plan.findings import Surroundings, find
from pointsman.plan.inputs import PlaneInputs
from pointsman.plan.labels import Labels, allocate
from pointsman.plan.nftables import Ruleset, changes, compile_ruleset
from pointsman.plan.nftables.filter import FASTEST, FilterChains, limit_over
from pointsman.plan.verdicts import GUARDED, MEANINGS, Verdict
from pointsman.wire.dtls import MAX_BODY_SIZE

SERVICE = """\
[[service]]
name = "{name}"
protocol = "dtls"
listen = ["192.0.2.10:{port}", "[2001:db8::10]:{port}"]
connection_id = "californium"
{filter}
  [[service.node]]
  name = "n1"
  id = 1
  address = ["10.0.0.11", "fd00::11"]
  [[service.node]]
  name = "n2"
  id = 2
  address = ["10.0.0.12", "fd00::12"]
"""
HEAD = '[gateway]\nname = "g"\nhash_seed = 1\ndataplane = "nftables"\n'
GUARD = '[[guard]]\nname = "local"\ninterface = ["eth0"]\nports = [5690]\n[guard.filter]\n'


def service(settings: str | None = None, name: str = "s", port: int = 5684) -> str:
    own = "" if settings is None else f"[service.filter]\n{settings}"
    return SERVICE.format(name=name, port=port, filter=own)


def gateway(text: str) -> Gateway:
    return parse(HEAD + text, "g").gateway


def compiled(text: str) -> Ruleset:
    found = gateway(text)
    nodes = [node for service in found.services for node in service.nodes]
    return compile_ruleset(PlaneInputs(found, NodeStates(), allocate(nodes, Labels(), now=0, rest=0)))


def test_a_service_without_a_filter_is_as_it_was() -> None:
    """Its own rules, and the sets that all services share: a thousand services stay as fast."""
    bare, mixed = compiled(service()), compiled(service() + service("", "f", 5685))
    for name, chain in bare.chains.items():
        assert mixed.chains[name] == chain
    assert not any("filter" in name for name in bare.chains)
    assert not any(str(verdict) in name for name in bare.sets for verdict in GUARDED)
    for verdict in GUARDED:
        assert list(mixed.sets[f"verdict4/{verdict}"].elements) == ["192.0.2.10 . 5685"]


def test_guards_alone_have_one_hook_and_nothing_of_services() -> None:
    found = compiled(GUARD)
    assert [chain.name for chain in found.chains.values() if chain.hook] == ["guards"]
    assert all(name.startswith(("guard_local/", "fits/")) for name in found.sets)
    rules = " ".join(rule for chain in found.chains.values() for rule in chain.rules)
    assert not re.search(r"notrack|tproxy|\bct\b| set ", rules)


def test_from_guards_to_services_and_back_is_a_difference() -> None:
    guards, both = compiled(GUARD), compiled(service() + GUARD)
    assert "guard_local" not in changes(guards, both).text
    assert "guard_local" not in changes(both, guards).text
    assert not changes(both, both)


@pytest.mark.parametrize("place", [2, 11, 17])
def test_the_stair_of_lengths_passes_what_fits_and_little_more(place: int) -> None:
    length = place - 11 if place > 11 else None
    chains = FilterChains("f", Filter(dtls13=True), length, tuple(Family), lambda verdict: [verdict])
    least = 16 if place == 2 else 1
    (stair,) = (item for item in chains.sets() if item.name in (f"fits/{place}", f"sealed/{place}"))
    steps = []
    for step in stair.content.split(", "):
        lengths, bodies = step.split(" . ")
        first, _, last = lengths.partition("-")
        assert int(bodies.partition("-")[0]) == least
        steps.append((int(first), int(last or first), int(bodies.rpartition("-")[2])))
    assert steps[0][0] == 8 + place + 2 + least
    assert steps[-1][1] == 65535
    for (_, end, most), (following, _, _) in pairwise(steps):
        assert following == end + 1
        assert most <= MAX_BODY_SIZE
    for start, end, most in steps:
        room = start - 8 - place - 2
        assert most >= min(end - 8 - place - 2, MAX_BODY_SIZE)
        assert most <= room + room // 16


def test_a_change_of_prefixes_replaces_their_set_alone() -> None:
    one, two = (compiled(service(f'deny = ["10.{i}.0.0/16"]')) for i in (1, 2))
    text = changes(one, two).text
    assert len(re.findall(r"^add set inet pointsman prefixes/", text, flags=re.MULTILINE)) == 1
    assert len(re.findall(r"^delete set inet pointsman prefixes/", text, flags=re.MULTILINE)) == 1
    assert "verdict4" not in text.replace("@verdict4", "")
    assert "flows" not in text


def test_another_budget_is_another_set_of_buckets() -> None:
    """An element keeps the limit that it was made with."""
    one, two = (compiled(service(f"hello = {{ per_prefix = {i}, per_node = {i} }}")) for i in (10, 20))
    assert "s/filter/hello4-10x2" in one.sets
    assert "s/filter/hello4-10x2" not in two.sets
    assert two.sets["s/hello_node-20x2"].limit == "limit rate over 20/second burst 40 packets"
    assert two.sets["s/cookie_node-80x2"].limit == "limit rate over 80/second burst 160 packets"


def test_limits_stay_within_what_the_kernel_counts() -> None:
    assert limit_over(4 * FASTEST, 60) == f"limit rate over {FASTEST}/second burst {(1 << 32) - 1} packets"


def test_whole_addresses_need_no_mask() -> None:
    found = compiled(service("prefix4 = 32\nprefix6 = 128\nhello = { per_prefix = 5 }"))
    rules = found.chains["s/filter/hello"].rules
    assert any("{ ip saddr timeout 3s limit" in rule for rule in rules)
    assert any("{ ip6 saddr timeout 3s limit" in rule for rule in rules)


def test_verdicts_of_guards_are_those_without_a_node() -> None:
    assert set(GUARDED) == {verdict for verdict, meaning in MEANINGS.items() if meaning.of_filter} - {
        Verdict.HELLO_OVER_NODE,
        Verdict.CID_OVER_NODE,
        Verdict.UNPROVEN,
        Verdict.UNREAD,
    }


AROUND = Surroundings(mtu={"lo": 65536, "eth0": 1500, "eth1": 1500}, merging={"eth0": ("rx-gro-list",)})


def said(text: str, around: Surroundings, plane: str = "nftables") -> list[str]:
    found = find(gateway(text), around, plane)
    return [f"{'error' if finding.fatal else 'warning'}: {finding.text}" for finding in found]


def test_nothing_is_said_of_a_guard_on_a_good_interface() -> None:
    assert said(GUARD, AROUND) == []


@pytest.mark.parametrize(
    ("around", "line"),
    [
        (
            replace(AROUND, mtu={"lo": 65536, "wan0": 1500}),
            "error: guard local: there is no interface eth0; one of wan0",
        ),
        (
            replace(AROUND, masters={"eth0": ("br0", "bridge")}),
            "error: guard local: interface eth0 is a part of the bridge br0, which takes all that arrives; name br0",
        ),
        (
            replace(AROUND, masters={"eth0": ("red", "vrf")}),
            "error: guard local: interface eth0 is in the VRF red, and what arrives is delivered as red's; name red",
        ),
        (
            replace(AROUND, down=frozenset({"eth0"})),
            "warning: guard local: interface eth0 is down; `ip link set eth0 up`",
        ),
    ],
)
def test_an_interface_that_a_guard_cannot_stand_at(around: Surroundings, line: str) -> None:
    assert said(GUARD, around) == [line]


def test_the_level_record_is_said_to_be_half_a_promise() -> None:
    (line,) = said(GUARD + 'level = "record"', AROUND)
    assert line.startswith('warning: guard local: filter level = "record": nftables reads the first record')
    assert said(GUARD + 'level = "record"', AROUND, "xdp") == []
