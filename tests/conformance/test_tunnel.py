"""Tunnels: nodes behind a router get packets within another header, and answer clients themselves."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from tests.conformance.direct import listen, of_vip, put_back, set_up, tunnel
from tests.conformance.evidence import ip, needs_device, only_on, refused, warnings
from tests.conformance.http_nodes import HTTP, Browser, http_servers
from tests.conformance.site import COAPS, Site, cid, flight5, hello

from pointsman.kernel import iproute
from pointsman.lab.topology import ONLINK_VIP

pytestmark = only_on("xdp", because='forward = "tunnel" is for xdp')

FAR = {4: "10.9.0.{}", 6: "fd00:9::{}"}
ROUTER = "n3"


@pytest.fixture(params=[False, True], ids=["ipip", "gue"])
def gue(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def far(direct: Site) -> Iterator[Site]:
    """n1 and n2 have an address behind the router n3, which is the only way there."""
    family, lab = direct.family, direct.lab
    bits = 32 if family == 4 else 128
    forwarding = "net.ipv4.ip_forward" if family == 4 else "net.ipv6.conf.all.forwarding"
    lab.sysctl(ROUTER, forwarding, "1")
    for number in (1, 2):
        address = FAR[family].format(number)
        own = lab.address(f"n{number}", family)
        nodad = ["nodad"] if family == 6 else []
        lab.run(f"n{number}", ["ip", "address", "add", f"{address}/{bits}", "dev", "eth0", *nodad])
        lab.run(ROUTER, ["ip", "route", "add", address, "via", own])
        lab.run("gw", ["ip", "route", "add", address, "via", lab.address(ROUTER, family)])
    yield direct
    # First what sends: a datagram of GUE over IPv6 that nobody takes off counts as one with a wrong checksum.
    direct.pointsman("down")
    put_back(direct, "n1", "n2")
    for number in (1, 2):
        address = FAR[family].format(number)
        lab.run(f"n{number}", ["ip", "address", "del", f"{address}/{bits}", "dev", "eth0"])
        lab.run(ROUTER, ["ip", "route", "del", address])
        lab.run("gw", ["ip", "route", "del", address])
    lab.sysctl(ROUTER, forwarding, "0")


def config(site: Site, *, gue: bool, more: str = "", **service: object) -> str:
    text = site.config(nodes=2, settings=tunnel(site, gue=gue, more=more), **service)  # type: ignore[arg-type]
    for number in (1, 2):
        text = text.replace(f'"{site.node_address(f"n{number}")}"', f'"{FAR[site.family].format(number)}"')
    return text


def serve(site: Site, *, gue: bool, more: str = "", **service: object) -> None:
    site.apply(config(site, gue=gue, more=more, **service))
    set_up(site, "n1", "n2")


def test_nodes_behind_a_router_answer_past_the_gateway(far: Site, *, gue: bool) -> None:
    serve(far, gue=gue)
    listen(far, "n1", "n2")
    client = far.client()
    with (
        far.lab.capture("gw", "wan0") as wan,
        far.lab.capture("gw", "lan0") as lan,
        far.lab.capture(ROUTER, "eth0", outgoing=False) as between,
    ):
        for number in (1, 2):
            assert far.ask(client, cid(number)).node == f"n{number}"
        assert (
            len({far.ask(client, payload).node for payload in (hello(), hello(message_seq=1), flight5())})
            == 1
        )
    assert of_vip(far, [*wan, *lan]) == []
    source = ip_address(far.lab.address("gw", far.family, "lan0")).packed
    kind, at = (0x0800, 12) if far.family == 4 else (0x86DD, 8)
    outer = [frame for frame in between if frame.ethertype == kind and frame.packet[at:].startswith(source)]
    protocols = {frame.packet[9 if far.family == 4 else 6] for frame in outer} - {58}
    assert protocols == ({17} if gue else {4 if far.family == 4 else 41})
    assert (far.counted("cid"), far.counted("balanced"), far.counted("flow")) == (2, 1, 2)


def test_control_without_its_end_the_node_hears_nothing(far: Site) -> None:
    """With IPIP: a datagram of GUE over IPv6 would count as one with a wrong checksum, which is none."""
    serve(far, gue=False)
    listen(far, "n1", "n2")
    client = far.client()
    assert far.ask(client, cid(1)).node == "n1"
    put_back(far, "n1")
    far.close_node("n1")
    with far.lab.inside("n1"):
        iproute.add_to_loopback(ip_address(far.vip))
    try:
        listen(far, "n1")
        far.dropped(client, cid(1))
    finally:
        with far.lab.inside("n1"):
            iproute.remove_address(ip_address(far.vip), "lo")
    done = far.pointsman("node-setup", "--check", str(far._file), "s/n1", machine="n1", check=False)
    assert done.returncode == 1
    assert ("does not take off IPIP" if far.family == 4 else "does not take off IP6IP6") in done.stderr


def test_a_stranger_cannot_use_a_nodes_end(far: Site) -> None:
    """Only the gateway's address is a beginning: the same packet from another machine stays what it is."""
    serve(far, gue=False)
    listen(far, "n1", "n2")
    other = far.lab.address("gw", far.family, "wan0")
    far.apply(far._file.read_text().replace(far.lab.address("gw", far.family, "lan0"), other))
    far.dropped(far.client(), cid(1))


def test_real_http_through_a_tunnel(far: Site, *, gue: bool) -> None:
    serve(far, gue=gue, protocol="tcp", listen=[far.at(far.vip, HTTP)])
    body = bytes(i % 251 for i in range(200_000))
    with http_servers(far, "n1", "n2", body=body) as served:
        with far.lab.capture("gw", "wan0") as wan:
            browsers = [Browser(far) for _ in range(24)]
            nodes = [browser.get() for browser in browsers]
            assert [browser.get() for browser in browsers] == nodes
        assert {content for _, content in nodes} == {body}
        assert set(served) == {"n1", "n2"}
        assert of_vip(far, wan) == []
        for browser in browsers:
            browser.close()


def test_uploads_that_do_not_fit_are_answered_and_come_smaller(far: Site, *, gue: bool) -> None:
    """A client's full segments are larger than the tunnel takes: it hears so from the listener."""
    serve(far, gue=gue, protocol="tcp", listen=[far.at(far.vip, HTTP)])
    far.lab.run("client", ["ip", "route", "flush", "cache"])
    with http_servers(far, "n1", "n2"):
        browser = Browser(far)
        browser.request("GET", "/", headers={f"x-{i}": "y" * 900 for i in range(30)})
        assert browser.getresponse().status == 200
        browser.close()
    overhead = (20 if far.family == 4 else 40) + (8 if gue else 0)
    assert ip(far.lab, "client", "route", "get", far.vip)[0]["metrics"][0]["mtu"] == 1500 - overhead
    assert far.counted("too_big") > 0
    far.lab.run("client", ["ip", "route", "flush", "cache"])


def test_fragments_go_through(far: Site) -> None:
    serve(far, gue=False)
    listen(far, "n1", "n2")
    client = far.client()
    far.ask(client, cid(2))
    # Fragments that leave room for the tunnel's header.
    prefix = [f"-{far.family}", "route", "replace", far.vip]
    router = far.lab.address("gw", far.family, "wan0")
    far.lab.run("client", ["ip", *prefix, "via", router, "dev", "eth0", "mtu", "lock", "1400"])
    try:
        assert far.ask(client, cid(2) + bytes(4000)).node == "n2"
    finally:
        far.lab.run("client", ["ip", f"-{far.family}", "route", "del", far.vip])


def test_a_source_that_is_not_ours_is_refused(far: Site) -> None:
    wrong = {4: "10.0.0.77", 6: "fd00::77"}[far.family]
    text = config(far, gue=False).replace(f'"{far.lab.address("gw", far.family, "lan0")}"', f'"{wrong}"')
    line = refused(far.pointsman("check", str(far.file(text)), check=False), 2)
    assert line.startswith(f"error: service s: source {wrong} is no address of this machine")


def test_check_tells_of_the_room_that_a_tunnel_takes(far: Site) -> None:
    listener = f'{{ address = "{far.at(ONLINK_VIP[far.family], COAPS)}", interface = "wan0" }}'
    text = config(far, gue=False).replace(f'"{far.at(far.vip, COAPS)}"', listener)
    done = far.pointsman("check", str(far.file(text)))
    fits = 1500 - (20 if far.family == 4 else 40)
    assert any(f"takes {fits}: larger packets are answered as too big" in line for line in warnings(done))


def test_the_end_goes_with_node_setup(far: Site) -> None:
    serve(far, gue=False)
    attached = [row["ifname"] for row in ip(far.lab, "n1", "link", "show") if "xdp" in row]
    assert attached == ["eth0"]
    put_back(far, "n1")
    assert [row for row in ip(far.lab, "n1", "link", "show") if "xdp" in row] == []


def test_nftables_refuses_tunnels_in_a_line(far: Site) -> None:
    text = config(far, gue=False).replace('dataplane = "xdp"', 'dataplane = "nftables"')
    line = refused(far.pointsman("check", str(far.file(text)), check=False), 2)
    assert 'forward = "tunnel"' in line
    assert "xdp" in line


def test_the_kernels_own_end_takes_them_off(far: Site, *, gue: bool) -> None:
    """A node may use the kernel's tunnel devices, and `ip fou` for GUE, in place of the program."""
    kind = ["ipip"] if far.family == 4 else ["ip6tnl", "mode", "ip6ip6"]
    source, own = far.lab.address("gw", far.family, "lan0"), FAR[far.family].format(1)
    version = f"-{far.family}"
    as_fou = [] if far.family == 4 else [version]
    needs_device(far.lab, kind[0], *kind[1:], "remote", source, "local", own)
    far.apply(config(far, gue=gue))
    run = far.lab.run
    run("n1", ["ip", version, "link", "add", "pm", "type", *kind, "local", own, "remote", source])
    run("n1", ["ip", "link", "set", "pm", "up"])
    with far.lab.inside("n1"):
        iproute.add_to_loopback(ip_address(far.vip))
    try:
        if gue:
            # Nothing loads it by itself.
            run("n1", ["modprobe", "fou" if far.family == 4 else "fou6"], check=False)
            run("n1", ["ip", "fou", "add", "port", "6080", "gue", *as_fou])
        listen(far, "n1")
        assert far.ask(far.client(), cid(1)).node == "n1"
    finally:
        with far.lab.inside("n1"):
            iproute.remove_address(ip_address(far.vip), "lo")
        run("n1", ["ip", "link", "del", "pm"])
        if gue:
            run("n1", ["ip", "fou", "del", "port", "6080", *as_fou], check=False)
