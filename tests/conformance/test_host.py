"""What `apply` changes on the machine besides its own table, and that `down` takes all of it back.

| role               | IPv4          | IPv6            |
|--------------------|---------------|-----------------|
| VIP on wan0's link | 203.0.113.10  | 2001:db8:3::10  |
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.conformance.evidence import (
    addresses,
    carried,
    files,
    ip,
    is_icmp,
    mac,
    machine_state,
    neighbour,
    only_on,
    own_lab,
    refused,
    settings,
    wait_for,
    warnings,
)
from tests.conformance.site import POINTSMAN, Site, cid

from pointsman.lab.build import Lab
from pointsman.lab.capture import Frame
from pointsman.lab.topology import ONLINK_VIP

OTHER_MAC = "02:00:00:00:00:99"
ALIKE = only_on("nftables", because="settings and addresses are made before the planes differ")


@pytest.fixture
def lab(plane: str) -> Iterator[Lab]:
    with own_lab(plane, nodes=2) as built:
        yield built


@pytest.fixture
def site(lab: Lab, plane: str, family: int) -> Iterator[Site]:
    found = Site(lab, plane, family)
    yield found
    found.close()


@pytest.fixture
def both(lab: Lab, plane: str) -> Iterator[Site]:
    """For cases whose files have listeners of both families."""
    found = Site(lab, plane, 4)
    yield found
    found.close()


def vip_on(lab: Lab, interface: str, family: int) -> bool:
    return (interface, ONLINK_VIP[family], {4: 32, 6: 128}[family]) in addresses(lab)


# forwarding


BEFORE = [
    {},
    {"net.ipv4.conf.lan0.forwarding": "1", "net.ipv6.conf.lan0.forwarding": "1"},
    {"net.ipv4.conf.wan0.forwarding": "1", "net.ipv6.conf.wan0.forwarding": "1"},
    {"net.ipv4.conf.default.forwarding": "1", "net.ipv6.conf.default.forwarding": "1"},
    {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"},
    {"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.accept_redirects": "1"},
    {"net.ipv4.conf.all.accept_redirects": "0", "net.ipv6.conf.wan0.accept_ra": "2"},
    {"net.ipv6.conf.wan0.accept_ra": "0", "net.ipv6.conf.lan0.accept_redirects": "0"},
]


@pytest.mark.parametrize(
    "before",
    [BEFORE[0], *(pytest.param(each, marks=ALIKE) for each in BEFORE[1:])],
    ids=lambda before: ",".join(key.removeprefix("net.") + "=" + before[key] for key in before) or "off",
)
def test_forwarding_is_turned_on_and_every_setting_put_back(both: Site, before: dict[str, str]) -> None:
    for key, value in before.items():
        both.lab.sysctl("gw", key, value)
    found = settings(both.lab)
    both.apply(carried(both))
    assert both.lab.sysctl("gw", "net.ipv4.ip_forward") == "1"
    assert both.lab.sysctl("gw", "net.ipv6.conf.all.forwarding") == "1"
    both.pointsman("down")
    assert settings(both.lab) == found


def test_settings_of_the_other_family_are_left_alone(site: Site) -> None:
    def others() -> dict[str, str]:
        return {
            key: value
            for key, value in settings(site.lab).items()
            if not key.startswith(f"ipv{site.family}/")
        }

    before = others()
    site.apply(carried(site, families=[site.family]))
    assert others() == before


@ALIKE
def test_settings_found_at_the_first_apply_are_those_that_down_puts_back(both: Site) -> None:
    before = settings(both.lab)
    both.apply(carried(both, families=[4]))
    both.apply(carried(both, families=[4, 6]))
    both.apply(carried(both, families=[6], nodes=["n1"]))
    both.pointsman("down")
    assert settings(both.lab) == before


# a default route that a router advertises


@pytest.fixture
def advertised(plane: str) -> Iterator[Site]:
    """A gateway that has its default route from a router advertisement: radvd runs on nat1."""
    if shutil.which("radvd") is None:
        pytest.skip("no radvd; on Debian: apt install radvd")
    with own_lab(plane, nodes=2, nats=1) as lab:
        config, pid = lab.scratch / "radvd.conf", lab.scratch / "radvd.pid"
        config.write_text(
            "interface wan0 {\n  AdvSendAdvert on;\n  MinRtrAdvInterval 3;\n  MaxRtrAdvInterval 4;\n"
            "  prefix 2001:db8:1::/64 { AdvOnLink on; AdvAutonomous on; };\n};\n"
        )
        config.chmod(0o644)
        lab.sysctl("gw", "net.ipv6.conf.wan0.accept_ra", "1")
        assert lab.sysctl("gw", "net.ipv6.conf.wan0.forwarding") == "0"
        radvd = lab.popen("nat1", ["radvd", "-n", "-m", "stderr", "-C", str(config), "-p", str(pid)])
        wait_for(lambda: default_route(lab), timeout=20)
        site = Site(lab, plane, 6)
        yield site
        site.close()
        radvd.terminate()
        radvd.wait(5)


def default_route(lab: Lab) -> list[str]:
    return [
        f"{row['protocol']} via {row['gateway']} dev {row['dev']}"
        for row in ip(lab, "gw", "-6", "route", "show", "default")
        if row["protocol"] == "ra"
    ]


@pytest.mark.parametrize("forwards_already", ["", pytest.param("lan0", marks=ALIKE)])
def test_default_route_of_a_router_advertisement_survives(advertised: Site, forwards_already: str) -> None:
    lab = advertised.lab
    if forwards_already:  # by itself; putting that back must not cost the route, either
        lab.sysctl("gw", "net.ipv6.conf.lan0.accept_ra", "0")
        lab.sysctl("gw", "net.ipv6.conf.lan0.forwarding", "1")
        wait_for(lambda: default_route(lab), timeout=20)
    before, route = settings(lab), default_route(lab)
    assert len(route) == 1
    advertised.apply(carried(advertised))
    assert default_route(lab) == route
    assert lab.sysctl("gw", "net.ipv6.conf.all.forwarding") == "1"
    advertised.nodes(["n1", "n2"])
    assert advertised.ask(advertised.client(), cid(2), vip=ONLINK_VIP[6]).node == "n2"
    advertised.pointsman("down")
    assert default_route(lab) == route
    assert lab.sysctl("gw", "net.ipv6.conf.wan0.accept_ra") == "1"
    assert settings(lab) == before


@ALIKE
def test_default_route_survives_an_apply_that_fails(advertised: Site) -> None:
    lab = advertised.lab
    before, route = machine_state(lab), default_route(lab)
    lab.sysctl("gw", "net.ipv6.conf.lan0.disable_ipv6", "1")
    file = advertised.file(carried(advertised, interface="lan0"))
    refused(advertised.pointsman("apply", str(file), check=False), 1)
    lab.sysctl("gw", "net.ipv6.conf.lan0.disable_ipv6", "0")
    assert default_route(lab) == route
    after = machine_state(lab)
    assert (after.rules, after.settings, after.programs) == (before.rules, before.settings, before.programs)


@ALIKE
def test_control_forwarding_by_hand_loses_the_advertised_default_route(advertised: Site) -> None:
    advertised.lab.sysctl("gw", "net.ipv6.conf.all.forwarding", "1")
    assert default_route(advertised.lab) == []


# addresses


def test_address_is_carried_alone_and_usable_at_once(site: Site) -> None:
    lab, family = site.lab, site.family
    lab.sysctl("gw", "net.ipv6.conf.all.accept_dad", "1")
    lab.sysctl("gw", "net.ipv6.conf.wan0.accept_dad", "1")
    site.apply(carried(site, families=[family]))
    (entry,) = [
        entry
        for row in ip(lab, "gw", "address", "show", "dev", "wan0")
        for entry in row["addr_info"]
        if entry["local"] == ONLINK_VIP[family]
    ]
    assert entry["prefixlen"] == {4: 32, 6: 128}[family]
    assert not entry.get("tentative")
    site.nodes(["n1", "n2"])
    assert site.ask(site.client(), cid(1), vip=ONLINK_VIP[family]).node == "n1"


def announces(frame: Frame, family: int) -> bool:
    packet = frame.data[14:]
    if family == 4:
        vip = bytes(int(part) for part in ONLINK_VIP[4].split("."))
        return frame.ethertype == 0x0806 and packet[14:18] == vip == packet[24:28]
    # unsolicited, with the override flag; the router flag is set as the gateway forwards
    return is_icmp(frame, 136) and packet[44] == 0xA0 and packet[24:40] == b"\xff\x02" + bytes(13) + b"\1"


@ALIKE
def test_neighbours_are_told_of_a_carried_address(site: Site) -> None:
    lab, vip = site.lab, ONLINK_VIP[site.family]
    lab.run("client", ["ip", "neigh", "replace", vip, "lladdr", OTHER_MAC, "dev", "eth0", "nud", "stale"])
    with lab.capture("client", "eth0", outgoing=False) as capture:
        site.apply(carried(site, families=[site.family]))
        capture.wait(want=lambda frame: announces(frame, site.family))
    wait_for(lambda: neighbour(lab, vip) == mac(lab, "gw", "wan0"))
    site.nodes(["n1", "n2"])
    assert site.ask(site.client(), cid(1), vip=vip).node == "n1"


@ALIKE
def test_control_an_address_nobody_announces_leaves_neighbours_with_the_old_one(site: Site) -> None:
    lab, vip = site.lab, ONLINK_VIP[site.family]
    lab.run("client", ["ip", "neigh", "replace", vip, "lladdr", OTHER_MAC, "dev", "eth0", "nud", "stale"])
    lab.run("gw", ["ip", "address", "add", f"{vip}/{32 if site.family == 4 else 128}", "dev", "wan0"])
    site.apply(carried(site, families=[site.family]))
    assert neighbour(lab, vip) == OTHER_MAC


def test_address_goes_with_its_listener_and_with_down(both: Site) -> None:
    before = addresses(both.lab)
    both.apply(carried(both))
    assert vip_on(both.lab, "wan0", 4)
    assert vip_on(both.lab, "wan0", 6)
    both.apply(carried(both, families=[6]))
    assert not vip_on(both.lab, "wan0", 4)
    assert vip_on(both.lab, "wan0", 6)
    both.pointsman("down")
    assert addresses(both.lab) == before


@pytest.mark.parametrize(("interface", "alone"), [("wan0", False), ("wan0", True), ("lo", True)])
def test_address_of_somebody_else_is_neither_added_nor_removed(
    site: Site, interface: str, alone: bool
) -> None:
    lab, family = site.lab, site.family
    length = {4: 32 if alone else 24, 6: 128 if alone else 64}[family]
    options = ["nodad"] if family == 6 else []
    lab.run("gw", ["ip", "address", "add", f"{ONLINK_VIP[family]}/{length}", "dev", interface, *options])
    before = addresses(lab)
    done = site.apply(carried(site, families=[family]))
    assert any("is carried by lo already" in line for line in warnings(done)) == (interface == "lo")
    assert addresses(lab) == before
    site.apply(carried(site, families=[family], nodes=["n1"]))
    site.pointsman("down")
    assert addresses(lab) == before


@ALIKE
def test_address_that_somebody_puts_beside_ours_stays(site: Site) -> None:
    lab, family = site.lab, site.family
    before = addresses(lab)
    site.apply(carried(site, families=[family]))
    length = {4: 32, 6: 128}[family]
    lab.run("gw", ["ip", "address", "add", f"{ONLINK_VIP[family]}/{length}", "dev", "lan0"])
    site.pointsman("down")
    assert addresses(lab) == sorted([*before, ("lan0", ONLINK_VIP[family], length)])


def test_address_that_vanished_comes_back_with_the_next_apply(site: Site) -> None:
    lab, vip = site.lab, ONLINK_VIP[site.family]
    text = carried(site, families=[site.family])
    before = addresses(lab)
    site.apply(text)
    full = addresses(lab)
    lab.run("gw", ["ip", "address", "del", f"{vip}/{32 if site.family == 4 else 128}", "dev", "wan0"])
    with lab.capture("client", "eth0", outgoing=False) as capture:
        site.apply(text)
        capture.wait(want=lambda frame: announces(frame, site.family))
    assert addresses(lab) == full
    site.pointsman("down")
    assert addresses(lab) == before


@ALIKE
def test_interface_that_is_down_carries_the_address_with_a_warning(site: Site) -> None:
    lab = site.lab
    lab.run("gw", ["ip", "link", "add", "spare0", "type", "veth", "peer", "name", "spare1"])
    before = addresses(lab)
    done = site.apply(carried(site, families=[site.family], interface="spare0"))
    assert [line for line in warnings(done) if "interface spare0 is down" in line]
    assert vip_on(lab, "spare0", site.family)
    site.pointsman("down")
    assert addresses(lab) == before


def test_down_is_clean_after_the_interface_is_gone(both: Site) -> None:
    lab = both.lab
    before = machine_state(lab)
    lab.run("gw", ["ip", "link", "add", "spare0", "type", "veth", "peer", "name", "spare1"])
    both.apply(carried(both, interface="spare0"))
    lab.run("gw", ["ip", "link", "delete", "spare0"])
    both.pointsman("down")
    assert machine_state(lab) == before
    assert files(lab) == []


# what fails changes nothing


def fails(site: Site, text: str, status: int, *command: str) -> str:
    """Apply a file that cannot be applied, and see that the machine is what it was."""

    def in_any_order() -> tuple[object, ...]:
        # a set that the undoing made anew is listed last
        found = machine_state(site.lab)
        return sorted(found.rules.splitlines()), replace(found, rules="")

    before = in_any_order()
    file = site.lab.scratch / "bad.toml"
    file.write_text(text)
    if command:
        done = site.lab.run("gw", [*command, str(file)], check=False)
    else:
        done = site.pointsman("apply", str(file), check=False)
    line = refused(done, status)
    assert in_any_order() == before
    return line


@pytest.mark.parametrize("applied", [False, True], ids=["first", "over another"])
def test_interface_that_does_not_exist_is_refused(both: Site, applied: bool) -> None:
    if applied:
        both.apply(carried(both))
    line = fails(both, carried(both, families=[4], interface="wan9"), 2)
    assert "there is no interface wan9; one of lan0, wan0" in line
    if applied:
        both.nodes(["n1", "n2"])
        assert both.ask(both.client(), cid(2), vip=ONLINK_VIP[4]).node == "n2"


@pytest.mark.parametrize("applied", [False, True], ids=["first", "over another"])
def test_address_that_cannot_be_added_undoes_the_whole_apply(both: Site, applied: bool) -> None:
    """IPv6 is switched off on the interface; the IPv4 address was added before that shows."""
    lab = both.lab
    if applied:
        both.apply(carried(both, families=[4], interface=None, nodes=["n1"]))
    lab.run("gw", ["ip", "link", "add", "spare0", "type", "veth", "peer", "name", "spare1"])
    lab.run("gw", ["ip", "link", "set", "spare0", "up"])
    lab.sysctl("gw", "net.ipv6.conf.spare0.disable_ipv6", "1")
    line = fails(both, carried(both, interface="spare0"), 1)
    assert ONLINK_VIP[6] in line
    if applied:
        both.pointsman("down")
    assert lab.sysctl("gw", "net.ipv4.ip_forward") == "0"


READ_ONLY = [
    "unshare",
    "-m",
    "sh",
    "-c",
    'mount -o bind,ro /proc/sys /proc/sys && exec "$@"',
    "sh",
    *POINTSMAN,
]
"""As in a container whose /proc/sys is read-only."""


@ALIKE
def test_settings_that_cannot_be_written_are_said_in_a_line(both: Site) -> None:
    assert "cannot set net/ipv4/ip_forward to 1" in fails(both, carried(both), 1, *READ_ONLY, "apply")


@ALIKE
def test_read_only_settings_do_not_matter_where_they_are_right(both: Site) -> None:
    both.lab.sysctl("gw", "net.ipv4.ip_forward", "1")
    both.lab.sysctl("gw", "net.ipv6.conf.all.forwarding", "1")
    before = machine_state(both.lab)
    both.lab.run("gw", [*READ_ONLY, "apply", str(both.file(carried(both)))])
    both.nodes(["n1", "n2"])
    assert both.ask(both.client(), cid(2), vip=ONLINK_VIP[4]).node == "n2"
    both.lab.run("gw", [*READ_ONLY, "down"])
    assert machine_state(both.lab) == before


# down


def test_down_leaves_nothing_behind(both: Site) -> None:
    lab = both.lab
    foreign = (
        "table inet theirs { set s { type ipv4_addr; elements = { 192.0.2.77 }; }; "
        "chain c { type filter hook forward priority 0; policy accept; ip saddr @s counter drop; }; }"
    )
    lab.run("gw", ["nft", "-f", "-"], text=foreign)
    before = machine_state(lab)
    both.apply(carried(both))
    assert files(lab) != []
    both.pointsman("down")
    assert machine_state(lab) == before
    assert files(lab) == []
    both.pointsman("down")
    assert machine_state(lab) == before
    assert files(lab) == []


def test_down_without_apply_changes_nothing(both: Site) -> None:
    before = machine_state(both.lab)
    done = both.pointsman("down")
    assert (done.stdout, done.stderr) == ("down\n", "")
    assert machine_state(both.lab) == before
    assert files(both.lab) == []


def test_down_ends_forwarding_and_balancing(site: Site) -> None:
    site.apply(carried(site, families=[site.family]))
    site.nodes(["n1", "n2"])
    client = site.client()
    site.ask(client, cid(1), vip=ONLINK_VIP[site.family])
    site.pointsman("down")
    with site.lab.capture("n1", "eth0", outgoing=False) as capture:
        site.dropped(client, cid(1), vip=ONLINK_VIP[site.family])
    assert [frame for frame in capture if cid(1) in frame.data] == []
