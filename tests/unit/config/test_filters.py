"""Filters and guards of the file: their mistakes with lines, and what they mean."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from pointsman.config import parse
from pointsman.config.filter_tables import FilterTable
from pointsman.config.filters import REFLECTORS
from pointsman.model import Budgets, Filter, FilterLevel, FilterMode, PortRange

Mistakes = Callable[[str], list[str]]

HEAD = '[gateway]\nname = "edge-1"\nhash_seed = 1\ndataplane = "nftables"\n'
NODES = """\
  [[service.node]]
  name = "n1"
  address = "10.0.0.11"
  [[service.node]]
  name = "n2"
  address = "10.0.0.12"
"""
FORMS = 'a prefix: "192.0.2.0/24", "2001:db8::/32", or an address'
PORT_FORMS = 'a port or a range of ports: 5684, "6000-6010"; 1..65535, the lower first'
LIST = 'an array of ports, port ranges and "reflectors": ["reflectors", 123, "6000-6010"]'
PREFIXES = 'an array of prefixes: ["192.0.2.0/24", "2001:db8::/32"]'
INTERFACES = 'the name of a network interface, or an array of them: "eth0", ["eth0", "eth1"]'
KEYS = ", ".join(FilterTable.model_fields)


def service(settings: str = "", *, listen: str = '"192.0.2.10:5684"', protocol: str = "dtls") -> str:
    """A service whose filter's settings begin on line 10 of a file that it is first in."""
    head = f'[[service]]\nname = "coaps"\nprotocol = "{protocol}"\nlisten = [{listen}]\n'
    return f"{head}  [service.filter]\n{settings}\n{NODES}"


def guard(
    settings: str = "", *, name: str = '"local"', interface: str = '"eth0"', ports: str = "[5684]"
) -> str:
    """A guard whose interface is on line 7 of a file that it is first in, and whose settings begin on line 10."""
    return (
        f"[[guard]]\nname = {name}\ninterface = {interface}\nports = {ports}\n  [guard.filter]\n{settings}\n"
    )


def filter_of(settings: str) -> Filter:
    found = parse(HEAD + service(settings), "g").gateway.services[0].filter
    assert found is not None
    return found


WRONG = [
    ('level = "deep"', 'level "deep" is unknown; "header" or "record"'),
    ('mode = "off"', 'mode "off" is unknown; "monitor" or "enforce"'),
    ('dtls13 = "yes"', 'dtls13 "yes" is a string; true or false'),
    ('levels = "header"', f"unknown key levels; did you mean level? Known here: {KEYS}"),
    ('drop_source_ports = "reflectors"', f'drop_source_ports "reflectors" is a string; {LIST}'),
    (
        'drop_source_ports = ["reflector"]',
        f'drop_source_ports "reflector" is no port or range of ports; {PORT_FORMS}; or "reflectors"',
    ),
    (
        "drop_source_ports = [0]",
        f'drop_source_ports 0 is no port or range of ports; {PORT_FORMS}; or "reflectors"',
    ),
    (
        'drop_source_ports = ["9-3"]',
        f'drop_source_ports "9-3" is no port or range of ports; {PORT_FORMS}; or "reflectors"',
    ),
    ("drop_source_ports = [true]", f"drop_source_ports holds a boolean; {LIST}"),
    ("drop_source_ports = [1.5]", f"drop_source_ports holds a float; {LIST}"),
    ('allow = ["192.0.2.0/33"]', f'allow "192.0.2.0/33" is no prefix; {FORMS}'),
    ('deny = ["example.com"]', f'deny "example.com" is no prefix; {FORMS}'),
    ('deny = [""]', f'deny "" is no prefix; {FORMS}'),
    ('deny = ["fe80::%eth0/64"]', f'deny "fe80::%eth0/64" is no prefix; {FORMS}'),
    ('deny = ["10.0.0.0/255.0.0.0"]', f'deny "10.0.0.0/255.0.0.0" is no prefix; {FORMS}'),
    ('deny = ["10.0.0.0/0.0.0.255"]', f'deny "10.0.0.0/0.0.0.255" is no prefix; {FORMS}'),
    ('deny = ["10.0.0.0/"]', f'deny "10.0.0.0/" is no prefix; {FORMS}'),
    ("deny = [1]", f"deny holds an integer; {PREFIXES}"),
    ('deny = "192.0.2.0/24"', f'deny "192.0.2.0/24" is a string; {PREFIXES}'),
    ("prefix4 = 7", "prefix4 7 is out of range; 8..32"),
    ("prefix6 = 129", "prefix6 129 is out of range; 16..128"),
    ("hello = 5", "hello 5 is an integer; { per_prefix = 50, total = 2000, per_node = 500, burst = 2 }"),
    ("hello = { per_prefix = -1 }", "hello.per_prefix -1 is out of range; 0..1000000000"),
    ("hello = { total = 10000000000 }", "hello.total 10000000000 is out of range; 0..1000000000"),
    (
        "hello = { per_source = 1 }",
        "unknown key per_source in hello; did you mean per_node? Known here: per_prefix, total, per_node, burst",
    ),
    ("hello = { per_prefix = 1, burst = 0 }", "hello.burst 0 is out of range; seconds, 1..60"),
    ("cid = { total = 5 }", "unknown key total in cid; known here: per_prefix, per_node, burst"),
    ("cid = { per_prefix = 5, burst = 61 }", "cid.burst 61 is out of range; seconds, 1..60"),
]


@pytest.mark.parametrize(("settings", "line"), WRONG)
def test_a_mistake_in_a_filter_is_one_line(settings: str, line: str, mistakes: Mistakes) -> None:
    assert mistakes(HEAD + service(settings)) == [f"g:10: service coaps: {line}"]
    assert mistakes(HEAD + guard(settings)) == [f"g:10: guard local: {line}"]


def test_every_mistake_is_told_at_once(mistakes: Mistakes) -> None:
    settings = 'level = 1\ndeny = ["x", "10.0.0.0/8"]\nhello = { burst = 0 }\nprefix4 = 1'
    found = mistakes(HEAD + service(settings) + guard(settings, ports="[0]"))
    assert [line.split(":")[1] for line in found] == ["10", "11", "12", "13", "23", "25", "26", "27", "28"]


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_a_filter_is_for_dtls(protocol: str, mistakes: Mistakes) -> None:
    found = mistakes(HEAD.replace("nftables", "auto") + service(protocol=protocol))
    assert found == [
        f"g:9: service coaps: filter on a {protocol} service; leave it out; it knows the form of DTLS "
        '(protocol = "dtls")'
    ]


GUARDS = [
    ({"interface": "[]"}, "g:7: guard local: interface is empty; at least one"),
    ({"interface": '""'}, f"g:7: guard local: interface is empty; {INTERFACES}"),
    ({"interface": "7"}, f"g:7: guard local: interface 7 is an integer; {INTERFACES}"),
    ({"interface": '"eth*"'}, f'g:7: guard local: interface "eth*" is malformed; {INTERFACES}'),
    ({"interface": '["eth0", "a b"]'}, f'g:7: guard local: interface "a b" is malformed; {INTERFACES}'),
    ({"interface": '".."'}, 'g:7: guard local: interface ".." is no interface name'),
    ({"ports": "[]"}, "g:8: guard local: ports is empty; at least one"),
    (
        {"ports": "5684"},
        'g:8: guard local: ports 5684 is an integer; an array of ports and ranges: [5684, "6000-6010"]',
    ),
    (
        {"ports": '["6010-6000"]'},
        f'g:8: guard local: ports "6010-6000" is no port or range of ports; {PORT_FORMS}',
    ),
    (
        {"ports": "[5684, 65536]"},
        f"g:8: guard local: ports 65536 is no port or range of ports; {PORT_FORMS}",
    ),
    (
        {"settings": "hello = { per_node = 5 }"},
        "g:10: guard local: per_node on a guard, which has no nodes; per_prefix, or total",
    ),
    (
        {"settings": "cid = { per_node = 5 }"},
        "g:10: guard local: per_node on a guard, which has no nodes; per_prefix, or total",
    ),
    (
        {"settings": "amplification = 3"},
        "g:10: guard local: amplification on a guard: the server's answers do not pass it; "
        "leave it out; it is for services",
    ),
]


@pytest.mark.parametrize(("change", "line"), GUARDS)
def test_a_mistake_in_a_guard_is_one_line(change: dict[str, str], line: str, mistakes: Mistakes) -> None:
    assert mistakes(HEAD + guard(**change)) == [line]


def test_a_guard_without_its_filter_or_in_single_brackets(mistakes: Mistakes) -> None:
    bare = '[[guard]]\nname = "local"\ninterface = "eth0"\nports = [1]\n'
    assert mistakes(HEAD + bare) == [
        "g:5: guard local: no [guard.filter]; [guard.filter], below its [[guard]]"
    ]
    assert mistakes(HEAD + bare.replace("[[guard]]", "[guard]")) == [
        "g:5: guard is a table; [[guard]] in double brackets, one for each guard"
    ]


def test_an_unnamed_guard_goes_by_its_number(mistakes: Mistakes) -> None:
    found = mistakes(HEAD + guard() + guard("prefix4 = 1", name="5", ports="[1]"))
    assert [line.split(":")[2] for line in found] == [" guard #2", " guard #2"]


def test_a_file_of_guards_alone_is_a_file() -> None:
    loaded = parse(HEAD + guard(ports='["6000-6010", 5684]', interface='["eth0", "eth1", "eth0"]'), "g")
    (found,) = loaded.gateway.guards
    assert found.interfaces == ("eth0", "eth1")
    assert found.ports == (PortRange(6000, 6010), PortRange(5684, 5684))
    assert found.place == "ports 6000-6010, 5684 on eth0, eth1"
    assert loaded.gateway.services == ()
    assert loaded.warnings == ()


def test_guards_have_names_and_places_of_their_own(mistakes: Mistakes) -> None:
    other = guard(name='"other"', interface='["eth1", "eth0"]', ports='["5000-5999"]')
    assert mistakes(HEAD + guard() + other) == [
        "g:14: guard other: port 5684 on eth0 is guard local's already, on line 5; "
        "each interface and port in one guard"
    ]
    assert mistakes(HEAD + guard() + guard(ports="[1]")) == [
        'g:12: guard local: name "local" is taken by the guard on line 6; a name of its own'
    ]
    beside = guard(name='"other"', interface='"eth1"') + guard(name='"third"', ports='["5000-5683", 5685]')
    assert len(parse(HEAD + guard() + beside, "g").gateway.guards) == 3


def test_a_guard_may_bear_the_name_of_a_service() -> None:
    assert parse(HEAD + service() + guard(name='"coaps"', ports="[1]"), "g").warnings == ()


def test_a_port_is_a_guards_or_a_services(mistakes: Mistakes) -> None:
    said = [
        "g:20: guard local: port 5684 is also that of service coaps, on line 8: "
        "what is sent to 192.0.2.10:5684 is its nodes', not a server's on this machine; "
        "[service.filter] for that service; a guard for other ports, or for other interfaces "
        "than those that the listener names"
    ]
    here = '{ address = "192.0.2.10:5684", interface = "eth0" }'
    elsewhere = '{ address = "192.0.2.10:5684", interface = "wan0" }'
    assert mistakes(HEAD + service() + guard()) == said
    assert mistakes(HEAD + service(listen=here) + guard()) == said
    for text in (service(listen=elsewhere) + guard(), service() + guard(ports="[5683, 5685]")):
        parse(HEAD + text, "g")
    tcp = service(protocol="tcp").replace("  [service.filter]\n", "")
    parse(HEAD + tcp + guard(), "g")


def test_what_a_filter_means() -> None:
    assert filter_of("") == Filter()
    found = filter_of(
        'level = "record"\nmode = "monitor"\ndtls13 = true\ndrop_source_ports = ["6000-6002", 53, "53"]\n'
        'allow = ["192.0.2.1", "192.0.2.1/32"]\ndeny = ["2001:db8::/32", "10.0.0.0/8"]\n'
        "prefix4 = 32\nprefix6 = 64\nhello = { per_prefix = 1, total = 2, per_node = 3 }\n"
        "cid = { per_prefix = 4, per_node = 5, burst = 9 }"
    )
    assert found == Filter(
        level=FilterLevel.RECORD,
        mode=FilterMode.MONITOR,
        dtls13=True,
        source_ports=(53, 6000, 6001, 6002),
        allow=(ip_network("192.0.2.1/32"),),
        deny=(ip_network("2001:db8::/32"), ip_network("10.0.0.0/8")),
        prefix4=32,
        prefix6=64,
        hello=Budgets(1, 2, 3, 2),
        cid=Budgets(4, 0, 5, 9),
    )


def test_reflectors_are_the_ports_of_reflected_floods() -> None:
    assert filter_of('drop_source_ports = ["reflectors"]').source_ports == tuple(sorted(REFLECTORS))
    assert {53, 123, 1900, 5683, 11211} <= set(REFLECTORS)
    assert 5684 not in REFLECTORS


def test_bits_behind_a_prefix_are_warned_of() -> None:
    loaded = parse(HEAD + service('deny = ["192.0.2.1/24", "2001:DB8::/32", "2001:db8::1/64"]'), "g")
    assert [warning.render("g") for warning in loaded.warnings] == [
        'g:10: service coaps: deny "192.0.2.1/24" has bits behind its length; 192.0.2.0/24',
        'g:10: service coaps: deny "2001:db8::1/64" has bits behind its length; 2001:db8::/64',
    ]


def test_amplification_needs_a_plane_that_sees_both_ways(mistakes: Mistakes) -> None:
    (line,) = mistakes(HEAD + service("amplification = 3"))
    assert line.startswith("g:10: service coaps: filter.amplification is not ")


@pytest.mark.parametrize("form", ["10.{}.{}.{}", "2001:db8:{:x}:{:x}:{:x}::/80"], ids=["ip4", "ip6"])
def test_a_hundred_thousand_prefixes_are_read_in_seconds(form: str) -> None:
    texts = ", ".join(f'"{form.format(i >> 16, i >> 8 & 255, i & 255)}"' for i in range(100_000))
    start = time.process_time()
    found = filter_of(f"deny = [{texts}]")
    assert time.process_time() - start < 20
    assert len(found.deny) == 100_000
