"""Mistakes about multihomed servers, each one line that says what is allowed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pointsman.config import parse
from pointsman.config.multihome import cgroup_of
from pointsman.model import MultihomeMode, PortRange

ALONE = '[gateway]\nname = "g"\nhash_seed = 1\n'
SERVER = '[[multihome]]\nname = "dns"\nports = [53]\n'
BY_ADDRESS = SERVER + 'mode = "address"\naddress = ["10.255.0.53", "fd00:53::53"]\n'
BY_SOCKET = SERVER + 'mode = "socket"\nunit = "unbound.service"\n'
UPLINK = '[[multihome.uplink]]\ninterface = "up0"\n'


def test_a_server_alone_is_a_good_file() -> None:
    text = (
        BY_ADDRESS + UPLINK + 'address = ["192.0.2.2", "2001:db8::/64"]\ngateway = ["192.0.2.1", "fe80::1"]\n'
    )
    loaded = parse(ALONE + text, "g")
    assert loaded.warnings == ()
    (found,) = loaded.gateway.multihomes
    assert (found.name, found.mode, found.ports) == ("dns", MultihomeMode.ADDRESS, (PortRange(53, 53),))
    assert [str(own) for own in found.addresses] == ["10.255.0.53", "fd00:53::53"]
    (uplink,) = found.uplinks
    assert [str(own) for own in uplink.addresses] == ["192.0.2.2/32", "2001:db8::/64"]
    assert [str(own) for own in uplink.gateways] == ["192.0.2.1", "fe80::1"]


def test_units_are_where_systemd_puts_them() -> None:
    assert (
        parse(ALONE + BY_SOCKET + UPLINK, "g").gateway.multihomes[0].cgroup == "system.slice/unbound.service"
    )
    assert cgroup_of("dns.slice") == "dns.slice"
    assert cgroup_of("a-b-c.slice") == "a.slice/a-b.slice/a-b-c.slice"
    assert cgroup_of("dtls@eth0.service") == "system.slice/system-dtls.slice/dtls@eth0.service"
    assert cgroup_of("a-b@c-d.service") == r"system.slice/system-a\x2db.slice/a-b@c-d.service"
    assert cgroup_of(r".a\x2db@1.service") == r"system.slice/system-\x2ea\x5cx2db.slice/.a\x2db@1.service"
    text = BY_SOCKET.replace('unit = "unbound.service"', 'cgroup = "/machine/dns"') + UPLINK
    assert parse(ALONE + text, "g").gateway.multihomes[0].cgroup == "machine/dns"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (BY_ADDRESS, "g:4: multihome dns: no [[multihome.uplink]]; [[multihome.uplink]] in double"),
        (BY_ADDRESS + "uplink = []\n", "g:4: multihome dns: no [[multihome.uplink]]; one for each uplink"),
        (SERVER + 'mode = "source"\n' + UPLINK, 'g:7: multihome dns: mode "source" is unknown; "address" or'),
        (SERVER + UPLINK, "g:4: multihome dns: mode is missing"),
        (
            SERVER + 'mode = "address"\n' + UPLINK,
            'mode = "address" without address; the private address that',
        ),
        (
            SERVER + 'mode = "socket"\n' + UPLINK,
            'mode = "socket" without cgroup or unit; unit = "unbound.service"',
        ),
        (BY_SOCKET + 'cgroup = "a"\n' + UPLINK, "g:8: multihome dns: cgroup and unit; one of them"),
        (BY_SOCKET + 'address = "10.0.0.1"\n' + UPLINK, 'g:9: multihome dns: address with mode = "socket"'),
        (BY_SOCKET + "mark_mask = 255\n" + UPLINK, 'mark_mask with mode = "socket"; leave it out; it is for'),
        (BY_ADDRESS + 'unit = "a.service"\n' + UPLINK, 'g:9: multihome dns: unit with mode = "address"'),
        (
            BY_SOCKET.replace("unbound.service", "unbound") + UPLINK,
            'unit "unbound" is malformed; a service or slice',
        ),
        (
            BY_SOCKET.replace("unbound", "dtls@") + UPLINK,
            'unit "dtls@.service" is malformed; a service or slice',
        ),
        (
            BY_SOCKET.replace("unbound.service", "a@b.slice") + UPLINK,
            'unit "a@b.slice" is malformed; a service or slice',
        ),
        (SERVER + 'mode = "socket"\ncgroup = "a/../b"\n' + UPLINK, 'cgroup "a/../b" leads upwards'),
        (BY_ADDRESS.replace("10.255.0.53", "127.0.0.2") + UPLINK, "address 127.0.0.2 is a loopback address"),
        (BY_ADDRESS.replace("10.255.0.53", "dns") + UPLINK, 'address "dns" is not an IP address'),
        (
            BY_ADDRESS.replace("10.255.0.53", "fd00::1") + UPLINK,
            'address "fd00:53::53" is a second one of IPv6',
        ),
        (BY_ADDRESS.replace("[53]", "[]") + UPLINK, "g:6: multihome dns: ports is empty"),
        (BY_ADDRESS.replace("[53]", "[0]") + UPLINK, "ports 0 is no port or range of ports"),
        (BY_ADDRESS + "mark_mask = 0x505\n" + UPLINK, "mark_mask 0x505 has a gap; neighbouring bits"),
        (BY_ADDRESS + "mark_mask = 0\n" + UPLINK, "mark_mask 0 is out of range; neighbouring bits"),
        (
            BY_ADDRESS + "mark_mask = 1\n" + UPLINK + UPLINK.replace("up0", "up1"),
            "has room for 1 uplinks, and 2 are",
        ),
        (
            BY_ADDRESS + UPLINK + UPLINK,
            'g:12: multihome dns, uplink #2: interface "up0" is that of the uplink',
        ),
        (
            BY_ADDRESS + UPLINK + 'gateway = "192.0.2.1/24"\n',
            'uplink #1: gateway "192.0.2.1/24" is not an IP',
        ),
        (BY_ADDRESS + UPLINK + 'gateway = "ff02::1"\n', "is not one machine's"),
        (BY_ADDRESS + UPLINK + 'address = "x"\n', 'uplink #1: address "x" is no prefix'),
        (BY_ADDRESS + UPLINK + "gateways = 1\n", "unknown key gateways; did you mean gateway?"),
        (BY_ADDRESS + '[[multihome.uplink]]\ninterface = "a b"\n', 'interface "a b" is malformed'),
        (
            BY_ADDRESS + UPLINK + BY_ADDRESS.replace("dns", "ntp") + UPLINK,
            "g:13: multihome ntp: multihome dns on line 4 has one of these ports at up0",
        ),
        (
            BY_ADDRESS + UPLINK + BY_SOCKET + UPLINK,
            'g:12: multihome dns: name "dns" is taken by the server on line 5',
        ),
    ],
)
def test_mistake_is_one_line_with_its_place(
    mistakes: Callable[[str], list[str]], text: str, line: str
) -> None:
    found = mistakes(ALONE + text)
    assert len(found) == 1, found
    assert line in found[0]
