"""The daemon keeps the gateway what the file says, whatever is done to it; IPv4 and IPv6 in one file."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.conformance.evidence import clsact, only_on, programs, refused
from tests.conformance.load import Load, both_families
from tests.conformance.serving import serving
from tests.conformance.site import POINTSMAN, Site, cid

from pointsman.api import place

BOTH = ["n1", "n2"]
SEED = time.time_ns() % 1_000_000


def states(site: Site) -> dict[str, str]:
    return {node["name"]: node["state"] for node in site.status()["services"][0]["nodes"]}


def test_it_takes_over_what_stands_and_leaves_it_standing(once: Site) -> None:
    """Nothing is lost over its start, its end, and its being killed, also in the middle of applies."""
    text = both_families(once, BOTH)
    once.apply(text)
    load = Load(once.lab, 4_000)
    with serving(once, text) as daemon:
        assert daemon.events("started")[0]["more"]["changes"] == []
        daemon.stop()
        daemon.start()
        moments = random.Random(SEED)
        for turn in range(6):
            more = both_families(once, ["n1", "n2", "n3"] if turn % 2 else BOTH)
            daemon.file.write_text(more)
            daemon.reload()
            time.sleep(moments.random() * 0.3)
            daemon.kill()
            daemon.start()
    sent, arrived = load.stop()
    assert sent > 10_000
    assert arrived == sent, f"seed {SEED}"


def test_a_second_one_is_refused_in_a_line(once: Site) -> None:
    with serving(once, both_families(once, BOTH)) as daemon:
        second = once.lab.run("gw", [*POINTSMAN, "serve", str(daemon.file)], check=False)
        assert "a daemon serves here already" in refused(second, 1)
        assert daemon.process is not None
        assert str(daemon.process.pid) in second.stderr


def test_tables_that_others_take_away_are_put_back(once: Site) -> None:
    once.nodes(BOTH)
    with serving(once, both_families(once, BOTH)) as daemon:
        assert once.ask(once.client(), cid(2)).node == "n2"
        once.lose()
        if (
            once.plane == "xdp"
        ):  # nothing tells of what is in a bpffs; it is looked for when anything else changes
            once.lab.run("gw", ["ip", "addr", "add", "198.51.100.250/32", "dev", "wan0"])
            once.lab.run("gw", ["ip", "addr", "del", "198.51.100.250/32", "dev", "wan0"])
        daemon.wait_for("repaired", "are gone")
        assert once.ask(once.client(), cid(2)).node == "n2"


@only_on("xdp", because="it is about XDP's programs")
def test_a_program_and_a_filter_that_others_took_off_come_back(once: Site) -> None:
    with serving(once, both_families(once, BOTH)) as daemon:
        once.lab.run("gw", ["tc", "qdisc", "del", "dev", "wan0", "clsact"])
        once.lab.run("gw", ["ip", "addr", "add", "198.51.100.250/32", "dev", "wan0"])
        once.lab.run("gw", ["ip", "addr", "del", "198.51.100.250/32", "dev", "wan0"])
        daemon.wait_for("repaired", "wan0 has not our programs")
        assert "wan0" in clsact(once.lab)


@only_on("nftables", because="XDP has no rules that could be flushed")
def test_a_flushed_table_of_which_the_stamp_is_left_is_noticed(once: Site) -> None:
    once.nodes(BOTH)
    with serving(once, both_families(once, BOTH)) as daemon:
        once.lab.run("gw", ["nft", "flush", "table", "inet", "pointsman"])
        daemon.wait_for("repaired", "has 0 rules")
        assert once.ask(once.client(), cid(2)).node == "n2"


@only_on("xdp", because="it is about XDP's programs")
def test_an_interface_that_is_made_anew_gets_the_programs(once: Site) -> None:
    text = both_families(once, BOTH).replace(
        "[gateway]", '[gateway]\ninterfaces = ["wan0", "lan0", "spare0"]'
    )
    pair = ["ip", "link", "add", "spare0", "type", "veth", "peer", "name", "spare1"]
    once.lab.run("gw", pair)
    try:
        with serving(once, text) as daemon:
            assert "spare0" in programs(once.lab)
            once.lab.run("gw", ["ip", "link", "delete", "spare0"])
            once.lab.run("gw", pair)
            daemon.wait_for("repaired", "spare0")
            daemon.until(lambda: "spare0" in programs(once.lab), "programs on spare0")
    finally:
        once.lab.run("gw", ["ip", "link", "delete", "spare0"])


def test_an_address_and_a_setting_come_back_and_repairs_wait_longer_each_time(once: Site) -> None:
    vip = once.vip
    text = both_families(once, BOTH).replace(
        f'"{vip}:5684"', f'{{ address = "{vip}:5684", interface = "wan0" }}'
    )
    with serving(once, text) as daemon:
        once.lab.run("gw", ["ip", "addr", "del", f"{vip}/32", "dev", "wan0"])
        daemon.wait_for("repaired", f"address {vip}")
        once.lab.sysctl("gw", "net.ipv4.ip_forward", "0")
        once.lab.run("gw", ["ip", "addr", "del", f"{vip}/32", "dev", "wan0"])
        said = daemon.wait_for("repaired", "ip_forward")
        assert "waits" in said["text"]
        assert once.status()["repairs"] >= 2


def test_a_file_with_mistakes_is_refused_and_the_running_one_stays(once: Site) -> None:
    once.nodes(BOTH)
    good = both_families(once, BOTH)
    with serving(once, good) as daemon:
        daemon.file.write_text(good.replace("id = 2", "id = 300"))
        daemon.reload()
        assert "id 300 is out of range" in daemon.wait_for("refused")["text"]
        line = refused(once.pointsman("reload", check=False), 2)
        assert "300" in line
        assert once.ask(once.client(), cid(2)).node == "n2"
        daemon.kill()
        daemon.start()  # with the file still wrong: what was in force last serves
        assert once.ask(once.client(), cid(2)).node == "n2"
        daemon.file.write_text(both_families(once, ["n1"]))
        once.pointsman("reload")
        once.dropped(once.client(), cid(2))


def test_a_file_that_changes_is_followed_where_that_is_asked_for(once: Site) -> None:
    with serving(once, both_families(once, BOTH), "--follow-file") as daemon:
        daemon.file.write_text(both_families(once, ["n1", "n2", "n3"]))
        assert "n3" in daemon.wait_for("applied", "n3")["text"]


def test_orders_outlive_the_daemon_and_say_who_and_why(once: Site) -> None:
    with serving(once, both_families(once, BOTH)) as daemon:
        once.pointsman("node", "drain", "s/n1", "--reason", "a new kernel")
        order = daemon.wait_for("order")
        assert (order["who"][:5], "a new kernel" in order["text"]) == ("uid 0", True)
        daemon.kill()
        daemon.start()
        assert states(once) == {"n1": "draining", "n2": "up"}
        once.pointsman("node", "enable", "s/n1")
        assert states(once) == {"n1": "up", "n2": "up"}


def test_an_order_for_a_time_ends_by_itself(once: Site) -> None:
    with serving(once, both_families(once, BOTH)) as daemon:
        once.pointsman("node", "disable", "s/n1", "--for", "2s")
        assert states(once)["n1"] == "disabled"
        daemon.wait_for("order_ended", "s/n1")
        daemon.until(lambda: states(once)["n1"] == "up", "n1 is up")


def test_orders_given_without_a_daemon_hold_for_the_one_that_comes(once: Site) -> None:
    text = both_families(once, BOTH)
    once.apply(text)
    once.order("disable", "n2")
    with serving(once, text):
        assert states(once) == {"n1": "up", "n2": "disabled"}
        once.pointsman("node", "enable", "s/n2")
        once.pointsman("node", "disable", "s/n2")
    once.order("drain", "n1")
    once.order("enable", "n2")
    with serving(once, text):
        assert states(once) == {"n1": "draining", "n2": "up"}


def test_a_service_is_disabled_and_enabled_as_a_whole(once: Site) -> None:
    once.nodes(BOTH)
    with serving(once, both_families(once, BOTH)):
        once.pointsman("node", "drain", "s/n1")
        once.pointsman("service", "disable", "s")
        once.dropped(once.client(), cid(2))
        once.pointsman("service", "enable", "s")
        assert once.ask(once.client(), cid(2)).node == "n2"
        assert states(once) == {"n1": "draining", "n2": "up"}


def test_a_replaced_node_takes_over_and_gives_back(once: Site) -> None:
    once.nodes(["n1", "n2", "n3"])
    with serving(once, both_families(once, BOTH)) as daemon:
        there = [once.lab.address("n3", family) for family in (4, 6)]
        once.pointsman("node", "replace", "s/n2", *there)
        assert once.ask(once.client(), cid(2)).node == "n3"
        daemon.kill()
        daemon.start()
        assert once.ask(once.client(), cid(2)).node == "n3"
        back = [once.lab.address("n2", family) for family in (4, 6)]
        once.pointsman("node", "replace", "s/n2", *back)
        assert once.ask(once.client(), cid(2)).node == "n2"


def trial(once: Site, seconds: int, file: Path, nodes: list[str]) -> None:
    file.with_name("trial.toml").write_text(both_families(once, nodes))
    once.pointsman("apply", str(file.with_name("trial.toml")), "--confirm", f"{seconds}s")


def test_what_is_not_confirmed_rolls_back(once: Site) -> None:
    once.nodes(BOTH)
    with serving(once, both_families(once, BOTH)) as daemon:
        trial(once, 2, daemon.file, ["n1"])
        once.dropped(once.client(), cid(2))
        daemon.wait_for("rolled_back")
        assert once.ask(once.client(), cid(2)).node == "n2"
        trial(once, 3, daemon.file, ["n1"])
        daemon.kill()
        daemon.start()  # killed over it, it still goes back
        daemon.wait_for("rolled_back")
        assert once.ask(once.client(), cid(2)).node == "n2"


def test_what_is_confirmed_stays_and_what_was_can_be_restored(once: Site) -> None:
    once.nodes(BOTH)
    with serving(once, both_families(once, BOTH)) as daemon:
        trial(once, 3, daemon.file, ["n1"])
        once.pointsman("confirm")
        time.sleep(3.5)
        once.dropped(once.client(), cid(2))
        listed = once.pointsman("history").stdout
        assert "trial.toml" in listed
        once.pointsman("restore", "1")
        assert once.ask(once.client(), cid(2)).node == "n2"


def test_down_beside_a_daemon_is_refused(once: Site) -> None:
    once.nodes(BOTH)
    with serving(once, both_families(once, BOTH)):
        assert "a daemon serves here" in refused(once.pointsman("down", check=False), 1)
        assert once.ask(once.client(), cid(2)).node == "n2"


def test_down_takes_away_what_a_killed_daemon_has_left(once: Site) -> None:
    with serving(once, both_families(once, BOTH)) as daemon:
        with once.lab.inside("gw"):
            socket = place.default_socket()
        assert socket.exists()
        daemon.kill()
        assert socket.exists()
        once.pointsman("down")
        assert not socket.parent.exists()
