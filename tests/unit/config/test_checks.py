"""Checks of the file: their mistakes with lines, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest

from pointsman.config import parse
from pointsman.config.check_tables import CheckTable
from pointsman.model import Check, CheckKind, Require, Service
from pointsman.model.health import (
    CoapTerms,
    CodeRange,
    HttpTerms,
    ScriptTerms,
    TlsTerms,
    UdpTerms,
    Wildcards,
)

Mistakes = Callable[[str], list[str]]

HEAD = '[gateway]\nname = "edge-1"\nhash_seed = 1\n'
NODES = """\
  [[service.node]]
  name = "n1"
  address = ["10.0.0.11", "fd00::11"]
  [[service.node]]
  name = "n2"
  address = ["10.0.0.12", "fd00::12"]
"""
SPANS = '"500ms", "2s", "1m" or whole seconds; 50ms..1h'
KEYS = ", ".join(CheckTable.model_fields)
WORDS = '"tcp", "tls", "http", "https", "udp", "icmp", "dtls", "coap" or "script"'
COMMAND = 'an array, the first of it a path from / on: ["/usr/local/bin/check-broker"]'
CODES = 'an array of codes: [200, "300-399"]; coap: ["2.05"]'


def service(*checks: str, protocol: str = "tcp", settings: str = "") -> str:
    """A service whose first check's keys begin on line 10 of the file."""
    tables = "".join(f"  [[service.check]]\n{check}\n" for check in checks)
    listen = '["192.0.2.10:80", "[2001:db8::10]:80"]'
    return (
        f'{HEAD}[[service]]\nname = "s"\nprotocol = "{protocol}"\nlisten = {listen}\n{settings}\n'
        f"{tables}{NODES}"
    )


def resolved(*checks: str, protocol: str = "tcp", settings: str = "") -> Service:
    return parse(service(*checks, protocol=protocol, settings=settings), "g").gateway.services[0]


def check(text: str, protocol: str = "tcp") -> Check:
    (one,) = resolved(text, protocol=protocol).checks
    return one


WRONG = [
    ('type = "ping"', f'type "ping" is unknown; {WORDS}'),
    ("type = 1", f"type 1 is an integer; {WORDS}"),
    ('type = "tcp"; port = 0', "port 0 is out of range; a port, 1..65535"),
    ('type = "tcp"; interval = "10ms"', f'interval "10ms" is out of range; {SPANS}'),
    ('type = "tcp"; interval = "2h"', f'interval "2h" is out of range; {SPANS}'),
    ('type = "tcp"; interval = "2 s"', f'interval "2 s" is not a duration; {SPANS}'),
    ('type = "tcp"; interval = 0', f"interval 0 is out of range; {SPANS}"),
    ('type = "tcp"; interval = true', f"interval true is a boolean; {SPANS}"),
    ('type = "tcp"; interval = 0.5', f"interval 0.5 is a float; {SPANS}"),
    (f'type = "tcp"; interval = 0x{"f" * 400}', f"interval of 1600 bits is out of range; {SPANS}"),
    ('type = "tcp"; rise = 0', "rise 0 is out of range; 1..100"),
    ('type = "tcp"; fall = 101', "fall 101 is out of range; 1..100"),
    ('type = "tcp"; jitter = 0.6', "jitter 0.6 is out of range; 0..0.5"),
    ('type = "tcp"; jitter = nan', "jitter nan is out of range; 0..0.5"),
    ('type = "tcp"; jitter = "10%"', 'jitter "10%" is a string; 0..0.5'),
    (
        'type = "tcp"; timeout = "3s"',
        "timeout 3s is longer than interval 2s; an interval of at least the timeout",
    ),
    (
        'type = "tcp"; interval = "500ms"',
        "timeout 1s is longer than interval 500ms; an interval of at least the timeout",
    ),
    (
        'type = "tcp"; fast_interval = "5s"',
        "fast_interval 5s is longer than interval 2s; a shorter one, or none",
    ),
    (
        'type = "tcp"; interface = "eth0/1"',
        'interface "eth0/1" is malformed; the name of a network interface: 1..15 characters, none of them '
        "blank, / or :",
    ),
    ('type = "tcp"; interface = ".."', 'interface ".." is no interface name'),
    (
        'type = "tcp"; source = "10.0.0.1"',
        "source has no IPv6 address for listener [2001:db8::10]:80; an address of every family that the "
        "service listens on",
    ),
    (
        'type = "tcp"; source = ["10.0.0.1:5", "fd00::1"]',
        "source 10.0.0.1 has a port; an address alone",
    ),
    (
        'type = "tcp"; source = ["10.0.0.1", "10.0.0.2", "fd00::1"]',
        "source 10.0.0.2 is a second one of IPv4; one of each family",
    ),
    ('type = "tcp"; hosts = "x"', f"unknown key hosts; did you mean host? Known here: {KEYS}"),
    (
        'type = "tcp"; path = "/"',
        'path on a check of type "tcp"; leave it out; it is for "http", "https" or "coap"',
    ),
    ('type = "icmp"; port = 7', 'port on a check of type "icmp", which has none; leave it out'),
    (
        'type = "dtls"',
        'a check of type "dtls" without port on a tcp service; port = where the node answers it, or "tcp", '
        '"tls", "http", "https", "icmp" or "script"',
    ),
    ('type = "http"; path = "health"', 'path "health" is malformed; a path without blanks: "/health"'),
    ('type = "http"; path = "/a b"', 'path "/a b" is malformed; a path without blanks: "/health"'),
    (
        'type = "http"; method = "BREW"',
        'method "BREW" is unknown; "GET", "HEAD", "OPTIONS" or "POST"',
    ),
    (
        'type = "http"; host = "a\\r\\nb"',
        'host "a\\r\\nb" is malformed; a host, with or without a port: "www.example.com"',
    ),
    ('type = "http"; codes = 200', f"codes 200 is an integer; {CODES}"),
    ('type = "http"; codes = []', 'codes is empty; an array of codes: [200, "300-399"]'),
    ('type = "http"; codes = [true]', f"codes holds a boolean; {CODES}"),
    (
        'type = "http"; codes = [600]',
        'codes 600 is no code or range of codes; 200..599, a range with the lower first: [200, "300-399"]',
    ),
    (
        'type = "http"; codes = [101]',
        'codes 101 is no code or range of codes; 200..599, a range with the lower first: [200, "300-399"]',
    ),
    (
        'type = "http"; codes = ["399-300"]',
        'codes "399-300" is no code or range of codes; 200..599, a range with the lower first: '
        '[200, "300-399"]',
    ),
    (
        'type = "http"; body = "o(k"',
        "body is no regular expression: missing ) at position 3; one as Python has them",
    ),
    (
        f'type = "http"; body = "{"x" * 1001}"',
        "body has 1001 characters; a regular expression of at most 1000",
    ),
    (
        'type = "http"; method = "HEAD"; body = "ok"',
        'body with method = "HEAD", which gets none; method = "GET"',
    ),
    ('type = "http"; body_sha256 = "12"', 'body_sha256 "12" is malformed; 64 hexadecimal digits'),
    ('type = "tls"; ca = "/etc/ca.pem"', "ca without verify; verify = true, or no ca"),
    (
        'type = "tls"; verify = true; ca = "ca.pem"',
        'ca "ca.pem" is malformed; the path of a PEM file, from / on',
    ),
    (
        'type = "tls"; server_name = "a..b"',
        'server_name "a..b" is malformed; a host name: "www.example.com"',
    ),
    ('type = "udp"; port = 53', 'type = "udp" without send; send = "ping", or send_hex = "00 ff"'),
    ('type = "udp"; port = 53; send_hex = "0"', 'send_hex "0" has half a byte; "00 ff"'),
    ('type = "udp"; port = 53; send = "a"; send_hex = "00"', "send and send_hex; one of them"),
    (
        f'type = "udp"; port = 53; send = "{"x" * 1201}"',
        "send has 1201 bytes; at most 1200, which pass everywhere",
    ),
    (
        f'type = "udp"; port = 53; send = "a"; expect = "{"é" * 512}*"',
        "expect has 1025 bytes; at most 1024, a * being one",
    ),
    (
        f'type = "udp"; port = 53; send = "a"; expect_hex = "{"??*" * 513}"',
        "expect_hex has 1026 bytes; at most 1024, a * being one",
    ),
    (
        'type = "udp"; port = 53; send = "a"; expect_hex = "0 0?"',
        'expect_hex "0 0?" has half a byte; ?? for any byte, * for anything: "80 ?? *"',
    ),
    (
        'type = "coap"; port = 5683; path = "/a"; codes = [205]',
        'codes 205 is no code of CoAP; "2.05", "4.04"',
    ),
    (
        'type = "coap"; port = 5683; codes = ["2.05"]',
        'codes without path: a CoAP ping is answered by none; path = "/health"',
    ),
    (
        f'type = "coap"; port = 5683; path = "/{"x" * 256}"',
        "path has a part that is too long for CoAP; at most 255 bytes from / to /",
    ),
    ('type = "script"', f"no command; {COMMAND}"),
    ('type = "script"; command = []', f"command is empty; {COMMAND}"),
    ('type = "script"; command = ["curl"]', f'command begins with "curl"; {COMMAND}'),
    (
        'type = "script"; command = "/bin/true"',
        'command "/bin/true" is a string; an array, the first of it a path from / on: '
        '["/usr/local/bin/check-broker", "--quick"]',
    ),
    (
        'type = "script"; command = ["/bin/true"]; interface = "eth0"',
        'interface on a check of type "script", which opens its sockets itself; leave it out',
    ),
]


@pytest.mark.parametrize(("settings", "line"), WRONG)
def test_a_mistake_in_a_check_is_one_line(settings: str, line: str, mistakes: Mistakes) -> None:
    found = mistakes(service(settings.replace("; ", "\n")))
    assert [one.split(": ", 1)[1] for one in found] == [f"service s, check #1: {line}"]
    number = int(found[0].split(":")[1])
    named = [10 + index for index, one in enumerate(settings.split("; ")) if one.split(" =")[0] in line]
    assert number in (*named, 9)


def test_checks_are_told_by_their_number_and_all_at_once(mistakes: Mistakes) -> None:
    found = mistakes(service('type = "tcp"\nrise = 0', 'type = "tcp"\nfall = 0', 'typ = "tcp"'))
    assert [line.split(":")[1:3] for line in found] == [
        ["11", " service s, check #1"],
        ["14", " service s, check #2"],
        ["16", " service s, check #3"],
    ]


def test_the_same_check_twice_is_a_mistake(mistakes: Mistakes) -> None:
    one = 'type = "tcp"\nport = 80'
    assert mistakes(service(one, one)) == [
        "g:12: service s, check #2: the same check as on line 9; each check once"
    ]
    assert len(resolved(one, 'type = "tcp"\nport = 81').checks) == 2


def test_require_is_about_checks(mistakes: Mistakes) -> None:
    assert mistakes(service(settings='require = "any"')) == [
        "g:8: service s: require without checks; [[service.check]], or no require"
    ]
    assert resolved('type = "tcp"').require is Require.ALL
    assert resolved('type = "tcp"', settings='require = "any"').require is Require.ANY
    assert resolved().checks == ()


def test_a_check_has_its_defaults() -> None:
    assert check('type = "tcp"') == Check(CheckKind.TCP)
    assert check('type = "http"').terms == HttpTerms()
    assert check('type = "https"').terms == HttpTerms(tls=TlsTerms())
    assert check('type = "tls"').terms == TlsTerms()


def test_times_may_be_below_a_second() -> None:
    one = check('type = "tcp"\ninterval = "500ms"\ntimeout = "50ms"\nfast_interval = "100ms"\njitter = 0')
    assert (one.interval, one.timeout, one.fast_interval, one.jitter) == (0.5, 0.05, 0.1, 0)
    assert check('type = "tcp"\ninterval = 60').interval == 60


def test_a_check_can_come_from_an_address_and_by_an_interface() -> None:
    one = check('type = "icmp"\nsource = ["10.0.0.1", "fd00::1"]\ninterface = "lan0"')
    assert (one.sources, one.interface) == ((ip_address("10.0.0.1"), ip_address("fd00::1")), "lan0")


def test_http_has_what_the_file_says() -> None:
    one = check(
        'type = "https"\nmethod = "POST"\npath = "/h?a=b"\nhost = "www.example.com:8443"\n'
        'codes = [204, "300-399"]\nbody = "^ok$"\nverify = true\nca = "/etc/ca.pem"'
    )
    assert one.terms == HttpTerms(
        "POST",
        "/h?a=b",
        "www.example.com:8443",
        (CodeRange(204, 204), CodeRange(300, 399)),
        "^ok$",
        None,
        TlsTerms("www.example.com", True, "/etc/ca.pem"),
    )


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ('host = "a.example"', "a.example"),
        ('host = "192.0.2.1:443"', None),
        ('host = "[2001:db8::1]"', None),
        ('host = "a.example"\nserver_name = "b.example"', "b.example"),
        ("", None),
    ],
)
def test_the_name_in_the_hello_is_that_of_the_host_unless_said(settings: str, name: str | None) -> None:
    terms = check(f'type = "https"\n{settings}').terms
    assert isinstance(terms, HttpTerms)
    assert terms.tls == TlsTerms(name)


@pytest.mark.parametrize(
    ("settings", "pieces"),
    [
        ('expect = "ab"', ((97, 98),)),
        ('expect = "a?*b"', ((97, None), (98,))),
        ("expect = 'a\\*\\?\\\\\\b'", ((97, 42, 63, 92, 92, 98),)),
        ('expect = "\u00e9*"', ((0xC3, 0xA9), ())),
        ('expect_hex = "80 ??ff *"', ((0x80, None, 0xFF), ())),
        ('expect_hex = ""', ((),)),
    ],
)
def test_udp_sends_and_expects_text_or_bytes(
    settings: str, pieces: tuple[tuple[int | None, ...], ...]
) -> None:
    assert check(f'type = "udp"\nsend = "hi"\n{settings}', "udp").terms == UdpTerms(b"hi", Wildcards(pieces))


def test_udp_without_expectation_takes_any_answer() -> None:
    assert check('type = "udp"\nsend_hex = "00 FF"', "udp").terms == UdpTerms(b"\0\xff")


def test_coap_pings_unless_it_has_a_path() -> None:
    assert check('type = "coap"', "udp").terms is None
    one = check('type = "coap"\npath = "/a/b%20c?d=e&f"\ncodes = ["2.05", "4.04"]', "udp")
    assert one.terms == CoapTerms(("a", "b c"), ("d=e", "f"), (0x45, 0x84))
    assert check('type = "coap"\npath = "/"', "udp").terms == CoapTerms(())


def test_a_script_is_a_list_of_words() -> None:
    assert check('type = "script"\ncommand = ["/bin/x", "a b"]').terms == ScriptTerms(("/bin/x", "a b"))


@pytest.mark.parametrize("kind", ["tcp", "icmp", "dtls", "udp", "coap"])
def test_a_check_that_is_not_the_services_protocol_needs_a_port(kind: str, mistakes: Mistakes) -> None:
    more = '\nsend = "x"' if kind == "udp" else ""
    own = {"tcp": {"tcp", "icmp"}, "udp": {"udp", "dtls", "coap", "icmp"}, "dtls": {"udp", "dtls", "icmp"}}
    for protocol, kinds in own.items():
        if kind in kinds:
            assert check(f'type = "{kind}"{more}', protocol).port is None
        else:
            (line,) = mistakes(service(f'type = "{kind}"{more}', protocol=protocol))
            assert f'type "{kind}" without port on a {protocol} service' in line
            assert check(f'type = "{kind}"\nport = 9{more}', protocol).port == 9
