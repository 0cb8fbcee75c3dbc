"""A server that is bound to a private address answers by the uplink, and from the address, it was asked at."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.conformance.servers import dnsmasq, dtls, echo, handshakes, resolves, start
from tests.conformance.uplinks import UPLINKS, Uplinks, address, answered, router, uplinks

from pointsman.plan.multihome import NAME

PRIVATE = {4: "10.255.0.53", 6: "fd00:53::53"}
FAMILIES = (4, 6)
ECHO, DNS, DTLS = 7, 53, 5684


def file(
    *, ports: str = f"[{ECHO}, {DNS}, {DTLS}]", uplinks_of: int = 3, gateways: bool = True, mask: str = ""
) -> str:
    lines = [
        '[gateway]\nname = "edge"\nhash_seed = 1',
        f'[[multihome]]\nname = "servers"\nmode = "address"\nports = {ports}\n{mask}',
        f'address = ["{PRIVATE[4]}", "{PRIVATE[6]}"]',
    ]
    for number in range(uplinks_of):
        lines.append(f'[[multihome.uplink]]\ninterface = "up{number}"')
        if gateways:
            lines.append(f'gateway = ["{router(number, 4)}", "{router(number, 6)}"]')
    return "\n".join([*lines, ""])


@pytest.fixture(scope="module")
def lab() -> Iterator[Uplinks]:
    with uplinks() as found:
        for own, length in ((PRIVATE[4], 32), (PRIVATE[6], 128)):
            found.run("srv", ["ip", "address", "add", f"{own}/{length}", "dev", "lo"])
        starter = start(found)
        for own in PRIVATE.values():
            echo(starter, own, ECHO)
            dtls(starter, f"[{own}]:{DTLS}" if ":" in own else f"{own}:{DTLS}")
        listen = [f"--listen-address={own}" for own in PRIVATE.values()]
        dnsmasq(starter, DNS, "--bind-interfaces", *listen)
        found.wait_bound([ECHO, DNS, DTLS])
        yield found


@pytest.fixture
def served(lab: Uplinks) -> Iterator[Uplinks]:
    yield lab
    lab.pointsman("down")


def kept(lab: Uplinks) -> list[str]:
    """All that a multihomed server leaves on its machine, without what the kernel does when it likes."""
    commands = [["nft", "list", "ruleset"], ["sysctl", "-a", "--pattern", "rp_filter|forward"]]
    for family in FAMILIES:
        commands += [["ip", f"-{family}", "rule"], ["ip", f"-{family}", "route", "show", "table", "all"]]
    lines = [line for command in commands for line in lab.run("srv", command).stdout.splitlines()]
    return sorted(line for line in lines if "fe80::" not in line and "table local" not in line)


def reached(lab: Uplinks, port: int = ECHO, *, tries: int = 4) -> list[tuple[int, int]]:
    """The uplinks and families that the echo server can be asked by."""
    return [
        (own, family) for own in UPLINKS for family in FAMILIES if lab.answers(own, family, port, tries=tries)
    ]


def everywhere() -> list[tuple[int, int]]:
    return [(own, family) for own in UPLINKS for family in FAMILIES]


def test_real_servers_answer_by_the_uplink_they_were_asked_by(served: Uplinks) -> None:
    before = kept(served)
    wild = start(served)
    echo(wild, "0.0.0.0", 4007)  # noqa: S104 - in a namespace of its own
    echo(wild, "::", 6007, "only6")
    served.wait_bound([4007, 6007])
    control = [(own, 4) for own in UPLINKS if served.answers(own, 4, 4007, tries=2)]
    control += [(own, 6) for own in UPLINKS if served.answers(own, 6, 6007, tries=2)]
    assert control == [(0, 4), (0, 6)], "the control: without it, by the default route alone"
    plan = served.pointsman("plan", str(served.file(file()))).stdout
    assert "multihome: translation by mark new" in plan
    assert served.apply(file()).returncode == 0
    assert reached(served) == everywhere()
    for own, family in everywhere():
        assert resolves(served, own, family, DNS)
        assert handshakes(served, own, family, DTLS)
    assert "nothing to change" in served.apply(file()).stdout
    assert "multihome servers: by address, at up0, up1, up2" in served.pointsman("status").stdout
    served.pointsman("down")
    assert kept(served) == before


def test_clients_of_one_address_and_port_behind_different_uplinks_are_told_apart(served: Uplinks) -> None:
    served.apply(file())
    for family in FAMILIES:
        twins = [served.asked(own, family, twin=True, own_port=4444) for own in UPLINKS]
        for turn in range(2):
            content = f"turn {turn}".encode()
            assert all(answered(twin, own, family, ECHO, content) for own, twin in enumerate(twins))
        for twin in twins:
            twin.close()


def test_gateways_are_found_where_the_file_names_none(served: Uplinks) -> None:
    for own in (1, 2):
        for family in FAMILIES:
            metric = str(1000 + own)
            command = [
                "ip",
                f"-{family}",
                "route",
                "add",
                "default",
                "via",
                router(own, family),
                "metric",
                metric,
            ]
            served.run("srv", command)
    try:
        served.apply(file(gateways=False))
        assert reached(served) == everywhere()
    finally:
        for own in (1, 2):
            for family in FAMILIES:
                served.run("srv", ["ip", f"-{family}", "route", "del", "default", "metric", str(1000 + own)])


def test_an_uplink_that_changes_its_address_goes_on(served: Uplinks) -> None:
    served.run("srv", ["sysctl", "-qw", "net.ipv4.conf.up1.promote_secondaries=1"])  # as systemd does
    served.apply(file())
    new = "192.0.2.21"
    served.run("srv", ["ip", "address", "add", f"{new}/28", "dev", "up1"])
    served.run("srv", ["ip", "address", "del", f"{address(1, 4)}/28", "dev", "up1"])
    try:
        with served.asked(1, 4) as handle:
            handle.sendto(b"to the new one", (new, ECHO))
            assert handle.recvfrom(100) == (b"to the new one", (new, ECHO))
        done = served.apply(file())
        assert "nothing to change" in done.stdout, "its network is the same"
    finally:
        served.run("srv", ["ip", "address", "add", f"{address(1, 4)}/28", "dev", "up1"])
        served.run("srv", ["ip", "address", "del", f"{new}/28", "dev", "up1"])


def test_no_answer_leaves_by_another_uplink_while_its_own_is_down(served: Uplinks) -> None:
    served.apply(file())
    served.run("srv", ["ip", "link", "set", "up1", "down"])
    try:
        listed = json.loads(served.run("srv", ["ip", "-j", "route", "show", "table", "7701"]).stdout)
        assert [row.get("type") for row in listed] == ["unreachable"]
        assert "is down" in served.pointsman("check", str(served.file(file()))).stderr
    finally:
        served.run("srv", ["ip", "link", "set", "up1", "up"])
        served.run("srv", ["ip", "-6", "address", "add", f"{address(1, 6)}/64", "dev", "up1", "nodad"])
    served.apply(file())
    assert served.answers(1, 4, ECHO)
    assert served.answers(1, 6, ECHO)


def test_strict_source_validation_is_loosened_and_put_back(served: Uplinks) -> None:
    served.run("srv", ["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1"])
    before = kept(served)
    done = served.apply(file())
    assert "setting net.ipv4.conf.up1.rp_filter: 0 -> 2" in done.stdout
    assert served.answers(1, 4, ECHO)
    served.pointsman("down")
    assert kept(served) == before
    served.run("srv", ["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0"])


def test_bits_of_the_mark_that_are_others_are_refused(served: Uplinks) -> None:
    served.run("srv", ["ip", "rule", "add", "fwmark", "0x30000/0x30000", "lookup", "main", "priority", "900"])
    try:
        done = served.pointsman("check", str(served.file(file())), check=False)
        assert done.returncode == 2
        assert "mark_mask 0xff0000" in done.stderr
        assert "rule with priority 900" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        served.apply(file(mask="mark_mask = 0xf00"))
        assert served.answers(2, 4, ECHO)
    finally:
        served.run("srv", ["ip", "rule", "del", "priority", "900"])


def test_a_file_with_fewer_uplinks_takes_away_what_was_theirs(served: Uplinks) -> None:
    served.apply(file())
    served.apply(file(uplinks_of=2))
    assert reached(served, tries=2) == [(own, family) for own in (0, 1) for family in FAMILIES]
    assert "lookup 7702" not in served.run("srv", ["ip", "rule"]).stdout
    served.apply(
        '[gateway]\nname = "edge"\nhash_seed = 1\n[forwarding]\npolicy = "drop"\ninterfaces = ["up0"]\n'
    )
    assert NAME not in served.run("srv", ["nft", "list", "tables"]).stdout
    assert "77" not in served.run("srv", ["ip", "rule"]).stdout


def test_an_apply_that_fails_leaves_what_stood(served: Uplinks) -> None:
    served.apply(file(uplinks_of=2))
    before = kept(served)
    text = file(uplinks_of=3).replace(router(2, 6), "2001:db8:a:2::2")  # its own address is no router
    done = served.pointsman("apply", str(served.file(text)), check=False)
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if not line.startswith("warning")]) == 1, (
        done.stderr
    )
    assert kept(served) == before
