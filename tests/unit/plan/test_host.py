"""What the machine must become, and the order in which its settings are put back."""

from __future__ import annotations

from ipaddress import ip_address

from pointsman.model import Endpoint, Family, Gateway, Listener, Node, NodeAddress, Protocol, Service
from pointsman.plan.host import (
    ALL_V4,
    ALL_V6,
    CarriedAddress,
    HostFacts,
    compile_host,
    restoring,
    settings_read,
)

VIP4, VIP6 = ip_address("192.0.2.10"), ip_address("2001:db8::10")
INTERFACES = {Family.V4: ("lan0", "lo", "wan0"), Family.V6: ("lan0", "lo", "wan0")}


def gateway(*vips: str, interface: str | None = "wan0") -> Gateway:
    listeners = tuple(Listener(Endpoint(ip_address(vip), 5684), interface) for vip in vips)
    nodes = (Node("n1", (NodeAddress(ip_address("10.0.0.11")), NodeAddress(ip_address("fd00::11")))),)
    return Gateway("edge", (Service("s", Protocol.DTLS, listeners, nodes),), 1)


def settings(**changed: str) -> dict[str, str]:
    found = {key: "1" if key.endswith("accept_ra") else "0" for key in settings_read(INTERFACES)}
    return found | {
        key.replace("__", "/"): value
        for key, value in {f"net__ipv6__conf__{name}": value for name, value in changed.items()}.items()
    }


def facts(sysctls: dict[str, str], **addresses: str) -> HostFacts:
    return HostFacts({ip_address(key): name for key, name in addresses.items()}, sysctls, INTERFACES)


def test_each_family_turns_its_own_forwarding_on() -> None:
    found = facts(settings())
    assert compile_host(gateway(str(VIP4)), found).settings == ((ALL_V4, "1"),)
    v6 = compile_host(gateway(str(VIP6)), found).settings
    assert ALL_V4 not in dict(v6)
    assert v6[-1] == (ALL_V6, "1")


def test_interfaces_that_heed_advertisements_go_on_doing_so_before_forwarding_is_turned_on() -> None:
    found = facts(settings(wan0__accept_ra="1", lan0__accept_ra="0"))
    assert compile_host(gateway(str(VIP6)), found).settings == (
        ("net/ipv6/conf/wan0/accept_ra", "2"),
        (ALL_V6, "1"),
    )


def test_interface_that_forwards_by_itself_heeds_none_now_either() -> None:
    found = facts(settings(wan0__forwarding="1", lan0__accept_ra="2"))
    assert compile_host(gateway(str(VIP6)), found).settings == ((ALL_V6, "1"),)


def test_where_forwarding_is_on_nothing_is_written() -> None:
    sysctls = settings() | {ALL_V4: "1", ALL_V6: "1"}
    assert compile_host(gateway(str(VIP4), str(VIP6)), facts(sysctls)).settings == ()


def test_kernel_without_ipv6_is_asked_for_none() -> None:
    assert compile_host(gateway(str(VIP4)), facts({ALL_V4: "1"})).settings == ()


def test_addresses_that_somebody_carries_are_left_to_him() -> None:
    found = HostFacts({VIP4: "lo"}, settings(), INTERFACES)
    assert compile_host(gateway(str(VIP4), str(VIP6)), found).addresses == (CarriedAddress(VIP6, "wan0"),)


def test_addresses_of_our_own_are_told_from_somebody_elses() -> None:
    own = CarriedAddress(VIP4, "wan0")
    found = HostFacts({VIP4: "wan0"}, settings(), INTERFACES)
    assert compile_host(gateway(str(VIP4)), found, [own]).addresses == (own,)
    assert compile_host(gateway(str(VIP4)), found).addresses == ()


def test_listeners_that_name_no_interface_carry_nothing() -> None:
    assert compile_host(gateway(str(VIP4), interface=None), facts(settings())).addresses == ()


def test_an_address_of_two_listeners_is_carried_once() -> None:
    assert len(compile_host(gateway(str(VIP4), str(VIP4)), facts(settings())).addresses) == 1


def test_nothing_is_written_back_where_nothing_changed() -> None:
    assert restoring(settings(), settings()) == []


def test_switches_of_all_are_put_back_first_and_accept_ra_last() -> None:
    saved = settings(lan0__forwarding="1")
    now = dict.fromkeys(saved, "1") | {"net/ipv6/conf/wan0/accept_ra": "2"}
    keys = [key for key, _ in restoring(saved, now)]
    assert keys[:2] == [ALL_V4, ALL_V6]
    assert keys[-1] == "net/ipv6/conf/wan0/accept_ra"
    # written though it looks right: the switch of all, written before, sets it along
    assert "net/ipv6/conf/lan0/forwarding" in keys


def test_settings_of_vanished_interfaces_are_let_go() -> None:
    saved = settings()
    now = {key: "1" for key in saved if "/wan0/" not in key}
    assert not [key for key, _ in restoring(saved, now) if "/wan0/" in key]
