"""Whatever the text: a gateway, or problems with lines of that text.

Addresses: 198.51.100.x and 2001:db8::x are listeners, 10.0.x.x and fd00::x nodes.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.config import ConfigError, Loaded, parse
from pointsman.config.primes import is_prime, nearest_prime
from pointsman.model import Family, Protocol

BASE = """\
[gateway]
name = "edge-1"
dataplane = "auto"
hash_seed = 0x1234abcd

[[service]]
name = "coaps"
protocol = "dtls"
listen = ["192.0.2.10:5684", { address = "[2001:db8::10]:5684", interface = "wan0", node_port = 15684 }]
connection_id = { offset = 0, bits = 8, length = 6 }
cid_unknown = "drop"
handshake_timeout = "120s"
maglev_table_size = 251
  [[service.node]]
  name = "n1"
  id = 1
  address = ["10.0.0.11", "[fd00::11]:5000"]
  [[service.node]]
  name = "n2"
  id = 2
  address = ["10.0.0.12", "fd00::12"]
  weight = 0

[[service]]
name = "coap"
protocol = "udp"
listen = ["192.0.2.10:5683"]
node = [{ name = "n1", address = "10.0.0.11" }]
  [[service.check]]
  type = "udp"
  send_hex = "00"
  expect = "pong*"
  interval = "500ms"
  timeout = "50ms"
"""


def outcome(text: str) -> Loaded | None:
    """Parse; what is raised must be a ConfigError whose problems can be shown and are lines of the text."""
    try:
        return parse(text, "g")
    except ConfigError as error:
        problems = error.problems
    assert problems
    assert [problem.line for problem in problems] == sorted(problem.line for problem in problems)
    for problem in problems:
        assert 1 <= problem.line <= text.count("\n") + 1
        assert problem.what
        assert problem.render("g").isprintable()
        assert len(problem.render("g")) < 1000
    return None


@settings(deadline=None)
@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    outcome(text)


PIECES = st.sampled_from(
    [
        "", "[", "]", "[[", "]]", "{", "}", '"', "'", '"""', "\n", "\r", "\x00", "=", ".", ",", "#",
        "-1", "0", "300", "nan", "0x" + "f" * 40, "99999999999999999999", "1.5", "true", "1979-05-27",
        "[]", "{}", '""', '"x"', "a = 1\n", "[[service]]\n", "[[service.node]]\n", "[gateway]\n", "id",
        "name", "udp", "192.0.2.10:5684", "10.0.0.11",
    ]
)  # fmt: skip


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.integers(0, len(BASE)), st.integers(0, 30), st.one_of(PIECES, st.text(max_size=3))),
        max_size=4,
    )
)
def test_any_mutation_of_a_file_is_answered(changes: list[tuple[int, int, str]]) -> None:
    text = BASE
    for start, length, piece in changes:
        text = text[:start] + piece + text[start + length :]
    outcome(text)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, BASE.count("\n") - 1), max_size=6), st.randoms(use_true_random=False))
def test_lines_lost_repeated_or_moved_are_answered(indices: list[int], random: Any) -> None:
    lines = BASE.splitlines(keepends=True)
    for index in indices:
        line = lines[index % len(lines)]
        if random.random() < 0.5:
            lines.insert(random.randrange(len(lines)), line)
        elif len(lines) > 1:
            lines.remove(line)
    outcome("".join(lines))


NAMES = [
    "name", "id", "address", "weight", "node", "listen", "protocol", "connection_id", "offset", "bits",
    "length", "interface", "node_port", "forward", "check", "type", "interval", "codes", "path",
    "source", "cid_unknown", "flow_timeout", "hash_seed", "zz",
]  # fmt: skip
TOML = st.recursive(
    st.one_of(
        st.integers(),
        st.booleans(),
        st.text("ab:.[]019%/", max_size=6),
        st.sampled_from(["dtls", "udp", "tcp", "n1", "10.0.0.11", "192.0.2.10:5684", "5m", "drop", "maglev"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=25,
)


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(inline(one) for one in value) + "]"
    return json.dumps(value)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(TOML, TOML)
def test_values_of_any_type_in_any_place_are_answered(gateway: Any, service: Any) -> None:
    outcome(f"gateway = {inline(gateway)}\nservice = {inline(service)}")
    outcome(f"gateway = {inline({'name': 'a'})}\nservice = [{inline(service)}]")


KEYS = [
    "name",
    "protocol",
    "listen",
    "node",
    "connection_id",
    "forward",
    "flow_timeout",
    "maglev_table_size",
    "check",
    "require",
    "zz",
]


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(KEYS), TOML),
    st.dictionaries(st.sampled_from(["id", "address", "name"]), TOML),
)
def test_wrong_values_beside_right_ones_are_answered(service: dict[str, Any], node: dict[str, Any]) -> None:
    right_node = {"name": "n1", "id": 1, "address": "10.0.0.11"}
    right = {"name": "s", "protocol": "dtls", "listen": ["192.0.2.1:1"], "connection_id": "californium"}
    text = inline({**right, "node": [{**right_node, **node}, right_node], **service})
    outcome(f'gateway = {{ name = "a" }}\nservice = [{text},\n{text}]')


@st.composite
def services(draw: st.DrawFn) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for index in range(draw(st.integers(1, 4))):
        dtls = draw(st.booleans())
        families = draw(st.sampled_from([[4], [6], [4, 6]]))
        bits = draw(st.integers(3, 32))
        offset = draw(st.integers(0, 100))
        count = draw(st.integers(1, 5))
        ids = draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=count, max_size=count, unique=True))
        with_cid = dtls and draw(st.booleans())
        service: dict[str, Any] = {
            "name": f"s{index}",
            "protocol": "dtls" if dtls else "udp",
            "listen": [
                {4: f"198.51.100.{index + 1}:{5000 + index}", 6: f"[2001:db8::{index + 1}]:{5000 + index}"}[
                    family
                ]
                for family in families
            ],
            "flow_timeout": draw(
                st.one_of(st.integers(1, 86400), st.sampled_from(["1s", "90m", "24h", "1d"]))
            ),
            "node": [],
        }
        if with_cid:
            length = draw(st.integers((offset + bits + 7) // 8, 255))
            service["connection_id"] = {"offset": offset, "bits": bits, "length": length}
            service["cid_unknown"] = draw(st.sampled_from(["drop", "balance"]))
        for number in range(count):
            port = f":{20000 + index}" if draw(st.booleans()) else ""
            plain = {4: f"10.0.{index}.{number + 1}", 6: f"fd00::{index}:{number + 1}"}
            node: dict[str, Any] = {
                "name": f"n{number}",
                "address": [
                    f"[{plain[family]}]{port}" if port and family == 6 else plain[family] + port
                    for family in draw(st.permutations([4, 6] if draw(st.booleans()) else families))
                ],
                "weight": draw(st.integers(0 if number else 1, 100)),
            }
            if with_cid:
                node["id"] = ids[number]
            service["node"].append(node)
        found.append(service)
    return found


@settings(deadline=None)
@given(services(), st.integers(0, 0xFFFFFFFF))
def test_valid_documents_resolve_to_what_they_say(document: list[dict[str, Any]], seed: int) -> None:
    text = f'gateway = {{ name = "a", hash_seed = {seed} }}\nservice = {inline(document)}'
    loaded = outcome(text)
    assert loaded is not None
    assert loaded.gateway.hash_seed == seed
    assert [service.name for service in loaded.gateway.services] == [one["name"] for one in document]
    for service, one in zip(loaded.gateway.services, document, strict=True):
        assert (service.protocol is Protocol.DTLS) == (one["protocol"] == "dtls")
        assert [str(listener.endpoint) for listener in service.listeners] == one["listen"]
        assert [(node.name, node.id, node.weight) for node in service.nodes] == [
            (node["name"], node.get("id"), node["weight"]) for node in one["node"]
        ]
        assert (service.connection_id is None) == ("connection_id" not in one)
        for node in service.nodes:
            assert all(node.endpoint(listener) for listener in service.listeners)
            assert len({address.family for address in node.addresses}) == len(node.addresses)
        assert {listener.family for listener in service.listeners} <= set(Family)


@settings(deadline=None)
@given(st.integers(-10, 2_000_000), st.integers(251, 1_000_003))
def test_the_nearest_prime_is_one_and_none_is_nearer(number: int, least: int) -> None:
    most = 1_000_003
    prime = nearest_prime(number, least, most)
    assert is_prime(prime)
    assert least <= prime <= most
    centre = min(max(number, least), most)
    nearer = range(
        max(least, centre - abs(prime - centre) + 1), min(most, centre + abs(prime - centre) - 1) + 1
    )
    assert not any(is_prime(other) for other in nearer)


def test_primes_are_those_that_everybody_knows() -> None:
    assert [number for number in range(-3, 30) if is_prime(number)] == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    assert is_prime(251)
    assert is_prime(1_000_003)
