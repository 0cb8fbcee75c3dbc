"""Applying: only the difference, all or nothing, and nothing lost meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.evidence import only_on, pins, standing
from tests.conformance.halfway import KILLED
from tests.conformance.load import Load, both_families
from tests.conformance.site import COAPS, POINTSMAN, Site, cid, hello

from pointsman.kernel.nft import Nft, NftError

HALFWAY = [sys.executable, str(Path(__file__).with_name("halfway.py"))]


def test_a_hundred_applies_lose_no_packet(once: Site) -> None:
    once.apply(both_families(once, ["n1", "n2"]))
    variants = [
        both_families(once, ["n1", "n2", "n3"]),
        both_families(once, ["n1", "n3"], cid_unknown='"balance"'),
        both_families(once, ["n1"], handshake_timeout='"60s"', flow_table_size="1024"),
        both_families(once, ["n1", "n2"]),
    ]
    load = Load(once.lab, 10_000)
    for turn in range(100):
        once.apply(variants[turn % len(variants)])
    sent, arrived = load.stop()
    assert sent > 100_000
    assert arrived == sent


def test_control_taking_down_and_applying_again_does_lose_packets(once: Site) -> None:
    once.apply(both_families(once, ["n1", "n2"]))
    load = Load(once.lab, 2_000)
    once.pointsman("down")
    once.apply(both_families(once, ["n1", "n2"]))
    sent, arrived = load.stop()
    assert arrived < sent


def test_apply_killed_at_any_moment_loses_no_packet_and_the_next_one_mends(once: Site) -> None:
    quick = {"handshake_timeout": '"1s"'}  # so that removed nodes are soon let go
    text = both_families(once, ["n1", "n2"], **quick)
    once.apply(text)
    files = []
    for number, nodes in enumerate((["n1", "n2", "n3"], ["n1", "n3"])):
        path = once.lab.scratch / f"kill-{once.family}-{number}.toml"
        path.write_text(both_families(once, nodes, **quick))
        files.append(path)
    load = Load(once.lab, 2_000)
    for turn in range(24):
        process = once.lab.popen("gw", [*POINTSMAN, "apply", str(files[turn % 2])], stdout=subprocess.DEVNULL)
        time.sleep(0.15 + 0.02 * turn)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if turn % 6 == 5:
            once.pointsman("status", check=False)
    once.apply(text)
    sent, arrived = load.stop()
    assert arrived == sent
    assert [node["name"] for node in once.status()["services"][0]["nodes"]] == ["n1", "n2"]
    time.sleep(1.2)
    once.apply(text)
    mended = shape(once)
    once.pointsman("down")
    once.apply(text)
    assert mended == shape(once), "what the killed ones left behind is gone"


def shape(site: Site) -> list[str]:
    """What is there by name, and how many Maglev tables: labels may differ, as a freed one rests."""
    if site.plane == "xdp":
        with site.maps() as maps:
            assert not maps.config.dirty
            layout = maps.layout()
            keys = [
                f"{name} {key.hex()}" for name in ("listeners", "replies") for key, _ in maps.versions(name)
            ]
        taken = [f"{name} {getattr(layout, name).taken}" for name in ("nodes", "words", "hot", "counts")]
        sets = [str(len(list(pin.iterdir()))) for pin in pins(site.lab)[1:] if pin.is_dir()]
        return sorted([*keys, *taken, *sets])
    listed = json.loads(site.lab.run("gw", ["nft", "-j", "list", "ruleset"]).stdout)["nftables"]
    names = [entry[kind]["name"] for entry in listed for kind in ("set", "map", "chain") if kind in entry]
    return sorted(name.partition("/")[0] if name.startswith("maglev/") else name for name in names)


def test_apply_of_the_same_file_changes_nothing(site: Site) -> None:
    site.serve()
    before = standing(site)
    assert "nothing to change" in site.apply(site.config()).stdout
    assert "nothing to change" in site.pointsman("plan", str(site.file(site.config()))).stdout
    assert standing(site) == before


def test_a_small_change_is_a_small_transaction(site: Site) -> None:
    site.serve(nodes=2)
    file = site.file(site.config(nodes=2, settings='cid_unknown = "balance"'))
    lines = site.pointsman("plan", "--transaction", str(file)).stdout.splitlines()
    assert 0 < len(lines) < 12
    assert not any("delete table" in line for line in lines)


def test_mistakes_change_nothing_and_exit_with_2(site: Site) -> None:
    site.serve()
    before = standing(site)
    file = site.file(site.config() + "\nwieght = 1\nid = 300\n")
    done = site.pointsman("apply", str(file), check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(file) in done.stderr
    assert standing(site) == before


def test_what_others_took_away_is_missed_and_built_anew(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    site.lose()
    done = site.pointsman("status", check=False)
    assert (done.returncode, "gone" in done.stdout) == (1, True)
    site.serve()
    assert site.ask(site.client(), cid(2)).node == "n2"


def test_flows_survive_what_does_not_concern_them(site: Site) -> None:
    site.serve(nodes=2)
    site.nodes(["n1", "n2"])
    clients = [site.client() for _ in range(10)]
    nodes = [site.ask(client, hello()).node for client in clients]
    site.serve(nodes=2, settings='cid_unknown = "balance"\nhandshake_timeout = "90s"')
    assert [site.ask(client, hello(message_seq=1)).node for client in clients] == nodes
    assert site.counted("flow") == 10


@only_on("nftables", because="xdp has no part in libnftables")
def test_library_that_aborts_takes_only_its_child_along(site: Site) -> None:
    with site.lab.inside("gw"), Nft() as nft:
        key = "map m { typeof ip6 saddr . udp sport : udp dport; flags dynamic; size 5; }"
        rule = "update @m { ip6 saddr . udp sport : udp dport }"
        try:
            nft.apply(f"table inet abort-probe {{ {key}; chain c {{ {rule}; }}; }}")
        except NftError as problem:
            told = str(problem)
        else:
            nft.apply("delete table inet abort-probe")
            pytest.skip("this libnftables takes what makes 1.0.6 abort")
        assert "library ended" in told
        nft.apply("add table inet abort-probe\ndelete table inet abort-probe\n")
        assert not any(
            entry.get("table", {}).get("name") == "abort-probe" for entry in nft.listing("list tables")
        )


@only_on("nftables", because="xdp changes by one word")
def test_a_change_that_was_killed_between_its_transactions_is_carried_to_its_end(once: Site) -> None:
    once.apply(both_families(once, ["n1", "n2"]))
    once.nodes(["n2"])
    after = once.lab.scratch / "after.toml"
    after.write_text(both_families(once, ["n1", "n3"]))
    known = once.client()
    assert once.ask(known, cid(2)).node == "n2"
    done = once.lab.run("gw", [*HALFWAY, "-1", "apply", str(after)], check=False)
    assert done.returncode == KILLED, done.stderr
    left = nft_set(once, "labels4")
    assert len(left) == 3
    (stamped,) = nft_set(once, "applied")
    assert stamped["elem"]["comment"].endswith(" uncleared")
    assert "killed halfway" in once.pointsman("apply", str(after)).stdout
    assert len(nft_set(once, "labels4")) == 2
    (stamped,) = nft_set(once, "applied")
    assert not stamped["elem"]["comment"].endswith(" uncleared")
    assert "nothing to change" in once.pointsman("apply", str(after)).stdout


def nft_set(site: Site, name: str) -> list[Any]:
    said = site.lab.run("gw", ["nft", "-j", "list", "set", "inet", "pointsman", name]).stdout
    found: list[Any] = json.loads(said)["nftables"][1]["set"].get("elem", [])
    return found


def test_no_root_is_one_line(site: Site) -> None:
    command = [
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        *POINTSMAN,
        "apply",
        str(site.file(site.config())),
    ]
    Path(site.file(site.config())).chmod(0o644)
    done = site.lab.run("gw", command, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_vip_follows_its_interface(site: Site) -> None:
    def listening(interface: str) -> str:
        vip = f'{{ address = "{site.at(site.vip, COAPS)}", interface = "{interface}" }}'
        return site.config().replace(f'"{site.at(site.vip, COAPS)}"', vip)

    def carriers() -> list[str]:
        shown = json.loads(site.lab.run("gw", ["ip", "-json", "address", "show"]).stdout)
        return [row["ifname"] for row in shown for own in row["addr_info"] if own.get("local") == site.vip]

    for interface in ("wan0", "lan0", "wan0"):
        site.apply(listening(interface))
        assert carriers() == [interface]
    site.pointsman("down")
    assert carriers() == []


def test_down_leaves_settings_alone_that_others_made(site: Site) -> None:
    """A file for one IP version leaves the other's forwarding to whom it belongs."""
    other = "net.ipv6.conf.all.forwarding" if site.family == 4 else "net.ipv4.ip_forward"
    site.serve()
    site.lab.sysctl("gw", other, "1")
    site.serve(nodes=3)
    site.pointsman("down")
    assert site.lab.sysctl("gw", other) == "1"
    site.lab.sysctl("gw", other, "0")
