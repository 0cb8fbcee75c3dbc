"""`pointsman node-setup` on a node: nothing is left undone, nothing is done twice, and all of it is put back."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from tests.conformance.direct import DSR, tunnel
from tests.conformance.evidence import addresses, ip, only_on, pins, refused, settings
from tests.conformance.site import Site

from pointsman.kernel import decap

pytestmark = only_on("xdp", because="a node does not know the gateway's data plane; one is enough")


def programs(site: Site) -> list[str]:
    return [row["ifname"] for row in ip(site.lab, "n1", "link", "show") if "xdp" in row]


@pytest.mark.parametrize("how", ["dsr", "tunnel"])
def test_apply_twice_and_remove(direct: Site, how: str) -> None:
    file = str(direct.file(direct.config(settings=DSR if how == "dsr" else tunnel(direct))))

    def setup(option: str, which: str = "s/n1") -> str:
        return direct.pointsman("node-setup", option, file, which, machine="n1").stdout

    before = settings(direct.lab, "n1"), addresses(direct.lab, "n1"), programs(direct)
    done = setup("--apply").splitlines()
    assert all(line.startswith("s/n1: done: ") for line in done)
    assert ("lo", direct.vip, 32 if direct.family == 4 else 128) in addresses(direct.lab, "n1")
    assert programs(direct) == (["eth0"] if how == "tunnel" else [])
    assert setup("--apply") == "s/n1: nothing is missing\n"
    assert setup("--check") == "s/n1: nothing is missing\n"
    assert setup("--remove") != "s/n1: nothing was done for it here\n"
    assert (settings(direct.lab, "n1"), addresses(direct.lab, "n1"), programs(direct)) == before
    assert setup("--remove") == "s/n1: nothing was done for it here\n"


@pytest.fixture
def in_ipv4(direct: Site) -> Site:
    if direct.family == 6:
        pytest.skip("nothing of it depends on the family")
    return direct


def test_what_another_service_needs_stays(in_ipv4: Site) -> None:
    other = in_ipv4.config(settings=DSR).partition("[[service]]")[2].replace('name = "s"', 'name = "t"')
    text = in_ipv4.config(settings=DSR) + "[[service]]" + other.replace(":5684", ":5685")
    file = str(in_ipv4.file(text))
    for which in ("s/n1", "t/n1"):
        in_ipv4.pointsman("node-setup", "--apply", file, which, machine="n1")
    in_ipv4.pointsman("node-setup", "--remove", file, "s/n1", machine="n1")
    assert in_ipv4.pointsman("node-setup", "--check", file, "t/n1", machine="n1").returncode == 0
    in_ipv4.pointsman("node-setup", "--remove", file, "t/n1", machine="n1")
    assert in_ipv4.vip not in [address for _, address, _ in addresses(in_ipv4.lab, "n1")]


@pytest.mark.parametrize("other", [False, True], ids=["alone", "beside another service"])
def test_what_a_changed_file_asks_no_more_is_taken_back(direct: Site, *, other: bool) -> None:
    """Another VIP and another source: their tunnels are the only ones, but for what another service has."""
    bits = 32 if direct.family == 4 else 128
    vip, source = (("203.0.113.77", "10.9.9.9"), ("2001:db8:77::1", "fd00:9::9"))[direct.family == 6]
    old = direct.config(settings=tunnel(direct))
    own = direct.lab.address("gw", direct.family, "lan0")
    new = old.replace(direct.vip, vip).replace(f'source = "{own}"', f'source = "{source}"')
    assert new.count(vip) == new.count(source) == 1
    beside = old.partition("[[service]]")[2].replace('name = "s"', 'name = "t"').replace("5684", "5685")
    more = "[[service]]" + beside if other else ""
    before = addresses(direct.lab, "n1"), programs(direct)

    def setup(option: str, text: str, which: str = "s/n1") -> str:
        return direct.pointsman(
            "node-setup", option, str(direct.file(text + more)), which, machine="n1"
        ).stdout

    def taken_off() -> int:
        with direct.lab.inside("n1"):
            return len(set().union(*decap.ends().values()))

    if other:
        setup("--apply", old, "t/n1")
    setup("--apply", old)
    assert taken_off() == 1
    done = setup("--apply", new)
    assert ("s/n1: done: tunnels are taken off no more: 1\n" in done) is not other
    assert taken_off() == 1 + other
    assert ("lo", vip, bits) in addresses(direct.lab, "n1")
    assert (("lo", direct.vip, bits) in addresses(direct.lab, "n1")) is other
    assert setup("--apply", new) == "s/n1: nothing is missing\n"
    setup("--remove", new)
    if other:
        assert setup("--check", old, "t/n1") == "t/n1: nothing is missing\n"
        setup("--remove", old, "t/n1")
    assert (addresses(direct.lab, "n1"), programs(direct)) == before


def test_what_the_operator_had_there_stays(in_ipv4: Site) -> None:
    bits = 32 if in_ipv4.family == 4 else 128
    in_ipv4.lab.run("n1", ["ip", "address", "add", f"{in_ipv4.vip}/{bits}", "dev", "lo"])
    file = str(in_ipv4.file(in_ipv4.config(settings=DSR)))
    for option in ("--apply", "--remove"):
        in_ipv4.pointsman("node-setup", option, file, "s/n1", machine="n1")
    try:
        assert ("lo", in_ipv4.vip, bits) in addresses(in_ipv4.lab, "n1")
    finally:
        in_ipv4.lab.run("n1", ["ip", "address", "del", f"{in_ipv4.vip}/{bits}", "dev", "lo"])


def test_mistakes_are_lines(in_ipv4: Site) -> None:
    file = str(in_ipv4.file(in_ipv4.config(settings=DSR)))

    def line(*arguments: str, status: int, machine: str = "n1") -> str:
        return refused(in_ipv4.pointsman("node-setup", *arguments, machine=machine, check=False), status)

    assert "no node 's/n9'; one of s/n1, s/n2" in line(file, "s/n9", status=2)
    assert "is this the node?" in line("--apply", file, "s/n2", status=1)
    assert "--format prints" in line("--check", "--format", "sysctl", file, "s/n1", status=2)
    nat = str(in_ipv4.file(in_ipv4.config()))
    assert 'node-setup is for "dsr" and "tunnel"' in line(nat, "s/n1", status=2)
    assert pins(in_ipv4.lab, "n1") == []


def test_a_unit_starts_this_program_with_the_files_whole_path(in_ipv4: Site, tmp_path: Path) -> None:
    text = in_ipv4.config(settings=tunnel(in_ipv4))
    odd, bad = tmp_path / "a b%$.toml", tmp_path / "a\nExecStart=b.toml"
    for path in (odd, bad):
        path.write_text(text)
    printed = in_ipv4.pointsman("node-setup", "--format", "networkd", str(odd), "s/n1", machine="n1").stdout
    (line,) = (line for line in printed.splitlines() if line.startswith("ExecStart="))
    program, *rest = shlex.split(line.removeprefix("ExecStart="))
    assert Path(program).is_absolute()
    assert Path(program).is_file()
    assert rest[-2:] == [str(tmp_path / "a b%%$$.toml"), "s/n1"]
    told = in_ipv4.pointsman(
        "node-setup", "--format", "networkd", str(bad), "s/n1", machine="n1", check=False
    )
    assert "has control characters" in refused(told, 2)


def test_files_are_printed_and_nothing_is_done(in_ipv4: Site) -> None:
    file = str(in_ipv4.file(in_ipv4.config(settings=DSR)))
    before = settings(in_ipv4.lab, "n1"), addresses(in_ipv4.lab, "n1")
    for form in ("networkd", "ifupdown"):
        text = in_ipv4.pointsman("node-setup", "--format", form, file, "s/n1", machine="n1").stdout
        assert f"{in_ipv4.vip}/{32 if in_ipv4.family == 4 else 128}" in text
    assert "its server listens on" in in_ipv4.pointsman("node-setup", file, "s/n1", machine="n1").stdout
    assert (settings(in_ipv4.lab, "n1"), addresses(in_ipv4.lab, "n1")) == before
