from __future__ import annotations

import re

import pytest

from pointsman.config import ConfigError, parse
from pointsman.model import Gateway
from pointsman.plan.replaced import ReplacementError, in_force, with_replacements

TEXT = """\
[gateway]
name = "edge"
hash_seed = 1
[[service]]
name = "coaps"
protocol = "dtls"
listen = ["192.0.2.10:5684", "[2001:db8::10]:5684"]
connection_id = "californium"
[[service.node]]
name = "n1"
id = 1
weight = 3
address = ["10.0.0.11", "fd00::11"]
[[service.node]]
name = "n2"
id = 2
address = ["10.0.0.12", "fd00::12"]
[[service]]
name = "web"
protocol = "tcp"
forward = "full-nat"
source = "10.0.0.1"
listen = ["192.0.2.10:8000-8003"]
[[service.node]]
name = "n1"
address = "10.0.0.11:9000"
[[service.node]]
name = "n2"
address = "10.0.0.12"
[[service]]
name = "second"
protocol = "udp"
listen = ["192.0.2.10:5685", "192.0.2.11:5685"]
node = [{ name = "n1", address = "10.0.1.1" }, { name = "n2", address = "10.0.1.2" }]
"""
TEXT = TEXT.replace('"192.0.2.11:5685"', '{ address = "192.0.2.11:5685", node_port = 5686 }')
DIRECT = """
[[service]]
name = "direct"
protocol = "udp"
forward = "dsr"
listen = ["192.0.2.10:5690"]
node = [{ name = "n1", address = "10.0.2.1" }, { name = "n2", address = "10.0.2.2" }]
"""


def gateway(text: str = TEXT) -> Gateway:
    return parse(text, "g").gateway


def replaced(service: str, node: str, *addresses: str, text: str = TEXT) -> Gateway:
    return with_replacements(gateway(text), {(service, node): addresses})


def test_replaced_node_is_what_the_file_would_make_of_these_addresses() -> None:
    written = TEXT.replace('address = ["10.0.0.11", "fd00::11"]', 'address = ["10.0.0.21:15684", "fd00::21"]')
    assert replaced("coaps", "n1", "10.0.0.21:15684", "fd00::21") == gateway(written)


def test_without_replacements_it_is_the_same_gateway_and_others_services_stay_the_same_objects() -> None:
    own = gateway()
    assert with_replacements(own, {}) is own
    made = with_replacements(own, {("coaps", "n1"): ("10.0.0.21", "fd00::21")})
    assert made.services[1] is own.services[1]
    assert made.services[0].nodes[1] is own.services[0].nodes[1]


def test_two_nodes_may_change_places() -> None:
    made = with_replacements(
        gateway(), {("coaps", "n1"): ("10.0.0.12", "fd00::12"), ("coaps", "n2"): ("10.0.0.11", "fd00::11")}
    )
    assert [str(node.addresses[0].address) for node in made.services[0].nodes] == ["10.0.0.12", "10.0.0.11"]


WRONG = [
    (
        "gone",
        "n1",
        ["10.0.0.21"],
        "service gone, node n1: there is no such service; one of coaps, web, second",
    ),
    ("coaps", "n9", ["10.0.0.21"], "service coaps, node n9: there is no such node; one of n1, n2"),
    ("coaps", "n1", ["10.0.0.x"], 'address "10.0.0.x" is a name, which is not looked up; an IP address: '),
    ("coaps", "n1", ["127.0.0.1", "fd00::21"], '"127.0.0.1" is a loopback address; a unicast address'),
    (
        "coaps",
        "n1",
        ["10.0.0.21", "10.0.0.22"],
        'address "10.0.0.22" is a second one of IPv4; one of each family',
    ),
    (
        "coaps",
        "n1",
        ["10.0.0.21"],
        "no IPv6 address for listener [2001:db8::10]:5684; an address of every family",
    ),
    ("coaps", "n1", [], "no IPv4 address for listener 192.0.2.10:5684; an address of every family"),
    (
        "coaps",
        "n1",
        ["10.0.0.12", "fd00::21"],
        "address 10.0.0.12:5684 is that of node n2; an address of its own",
    ),
    (
        "coaps",
        "n1",
        ["192.0.2.11", "fd00::21"],
        "is that of listener 192.0.2.11:5685 of service second; an address",
    ),
    (
        "coaps",
        "n1",
        ["10.0.0.1", "fd00::21"],
        "address 10.0.0.1 is the source of service web; a server's address",
    ),
    (
        "web",
        "n1",
        ["10.0.0.21:65533"],
        "address 10.0.0.21 with port 65533 has no 4 ports behind it; at most 65532",
    ),
    (
        "second",
        "n1",
        ["10.0.1.3:7"],
        "192.0.2.10:5685 reaches it at 10.0.1.3:7, as does listener 192.0.2.11:5685",
    ),
    ("second", "n1", ["10.0.0.11"], None),
    (
        "web",
        "n1",
        ["10.0.0.12:8000"],
        "address 10.0.0.12:8000 is that of node n2; an address of its own, or a port",
    ),
    (
        "direct",
        "n1",
        ["10.0.2.3:1"],
        'a port in address: with forward = "dsr" packets keep their address and port',
    ),
    ("direct", "n1", ["10.0.0.11"], None),
]


@pytest.mark.parametrize(("service", "node", "addresses", "message"), WRONG)
def test_what_the_file_may_not_say_a_replacement_may_not_either(
    service: str, node: str, addresses: list[str], message: str | None
) -> None:
    text = TEXT
    if service == "direct":
        text = TEXT.replace('forward = "full-nat"\nsource = "10.0.0.1"\n', "") + DIRECT
    if message is None:
        assert replaced(service, node, *addresses, text=text)
        return
    with pytest.raises(ReplacementError, match=re.escape(message)) as caught:
        replaced(service, node, *addresses, text=text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"service {service}, node {node}: ")


OTHERS = [
    ("coaps", "n1", ["10.0.0.21", "fd00::21"]),
    ("coaps", "n1", ["10.0.0.12", "fd00::21"]),
    ("coaps", "n1", ["10.0.0.12:15684", "fd00::21"]),
    ("coaps", "n2", ["10.0.1.1:5685", "fd00::21"]),
    ("coaps", "n2", ["192.0.2.10", "fd00::21"]),
    ("web", "n2", ["10.0.0.11"]),
    ("web", "n2", ["10.0.0.11:9001"]),
    ("web", "n1", ["10.0.0.12:8000"]),
    ("second", "n2", ["10.0.1.1"]),
    ("second", "n2", ["10.0.0.12"]),
    ("second", "n2", ["10.0.0.12:5684"]),
    ("second", "n1", ["10.0.1.1:9"]),
]


@pytest.mark.parametrize(("service", "node", "addresses"), OTHERS)
def test_it_is_refused_just_where_the_file_is(service: str, node: str, addresses: list[str]) -> None:
    """The same addresses, written into the file."""
    own = gateway()
    found = own.service(service)
    assert found is not None
    place = found.nodes.index(next(each for each in found.nodes if each.name == node))
    head, *parts = re.split(r"(?=\[\[service\]\])", TEXT)
    part = [each.name for each in own.services].index(service)
    marks = list(re.finditer(r'(?<=[^[] )?address = (\[[^]]*\]|"[^"]*")', parts[part]))
    mark = [each for each in marks if "192.0.2." not in each[0]][place]
    spelled = ", ".join(f'"{each}"' for each in addresses)
    parts[part] = f"{parts[part][: mark.start()]}address = [{spelled}]{parts[part][mark.end() :]}"
    try:
        written = gateway(head + "".join(parts))
    except ConfigError:
        with pytest.raises(ReplacementError):
            replaced(service, node, *addresses)
    else:
        assert replaced(service, node, *addresses) == written


def test_the_file_is_the_truth_again_where_it_names_other_addresses() -> None:
    replacements = {("coaps", "n1"): ("10.0.0.21", "fd00::21"), ("web", "n2"): ("10.0.0.22",)}
    own = gateway()
    assert in_force(replacements, own, own) == replacements
    heavier = gateway(TEXT.replace("weight = 3", "weight = 4"))
    assert in_force(replacements, own, heavier) == replacements
    moved = gateway(TEXT.replace('["10.0.0.11", "fd00::11"]', '["10.0.0.31", "fd00::11"]'))
    assert in_force(replacements, own, moved) == {("web", "n2"): ("10.0.0.22",)}
    without = gateway(TEXT[: TEXT.index('[[service]]\nname = "web"')])
    assert in_force(replacements, own, without) == {("coaps", "n1"): ("10.0.0.21", "fd00::21")}
