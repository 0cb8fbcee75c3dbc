"""Applying on the XDP plane and between the planes: nothing lost under load, nothing left behind."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

from tests.conformance.evidence import (
    clsact,
    files,
    machine_state,
    needs_device,
    only_on,
    own_site,
    pins,
    programs,
    refused,
    standing,
)
from tests.conformance.load import Load, both_families
from tests.conformance.site import POINTSMAN, Site, cid, hello

from pointsman.dataplane.xdp_maps import object_path
from pointsman.kernel import bpffs
from pointsman.kernel.bpf import Object
from pointsman.lab.build import Lab

pytestmark = only_on("xdp", because="it is about XDP's programs and maps; test_apply.py is for both planes")

BOTH = ["n1", "n2"]
SEED = time.time_ns() % 1_000_000


def test_a_change_of_the_data_plane_is_said_and_the_same_file_again_changes_nothing(once: Site) -> None:
    once.apply(both_families(once, BOTH, plane="nftables"))
    file = str(once.file(both_families(once, BOTH, plane="xdp")))
    said = "data plane: nftables -> xdp; flows and counters do not move\n"
    assert said in once.pointsman("plan", file).stdout
    applied = once.pointsman("apply", file).stdout
    assert said in applied
    assert "nothing to change" not in applied
    assert "nothing to change" in once.pointsman("apply", file).stdout


def test_changing_the_data_plane_and_back_loses_no_packet(once: Site) -> None:
    once.apply(both_families(once, BOTH))
    load = Load(once.lab, 10_000)
    for plane in ("nftables", "xdp", "nftables", "xdp"):
        once.apply(both_families(once, BOTH, plane=plane))
        assert once.status()["dataplane"] == plane
        assert bool(programs(once.lab)) == (plane == "xdp")
    sent, arrived = load.stop()
    assert sent > 10_000
    assert arrived == sent


def highest_lossless_rate(lab: Lab, most: int) -> int:
    """What this machine's lab carries while the gateway does nothing else."""
    while most > 5_000:
        load = Load(lab, most)
        time.sleep(1.0)
        sent, arrived = load.stop()
        if arrived == sent and sent > 0.8 * most:
            return most
        most = most * 2 // 3
    return most


def test_applies_at_the_highest_rate_lose_no_packet_also_where_they_make_new_maps(once: Site) -> None:
    once.apply(both_families(once, BOTH))
    rate = highest_lossless_rate(once.lab, 50_000)
    variants = [
        both_families(once, ["n1", "n2", "n3"], flow_table_size="4096"),
        both_families(once, ["n1", "n3"], cid_unknown='"balance"'),
        both_families(once, BOTH, flow_table_size="100000"),
        both_families(once, BOTH).replace("[gateway]", "[gateway]\nflow_memory = 200_000"),
    ]
    made = set()
    load = Load(once.lab, rate)
    for turn in range(12):
        once.apply(variants[turn % len(variants)])
        made.add(pins(once.lab)[-1].name)
    sent, arrived = load.stop()
    print(f"{rate} packets/s, {sent} sent")
    assert arrived == sent
    assert len(made) > 2, "some of them made maps anew"


def test_apply_killed_at_random_moments_loses_nothing_and_status_and_apply_are_right(once: Site) -> None:
    print(f"seed {SEED}")
    moment = random.Random(SEED)
    texts = [
        both_families(once, ["n1", "n2", "n3"], flow_table_size="1024", handshake_timeout='"1s"'),
        both_families(once, ["n1", "n3"], handshake_timeout='"1s"'),
    ]
    paths = []
    for number, text in enumerate(texts):
        paths.append(once.lab.scratch / f"kill-xdp-{number}.toml")
        paths[-1].write_text(text)
    once.apply(texts[1])
    before = time.monotonic()
    once.lab.run("gw", [*POINTSMAN, "apply", str(paths[0])])  # as those that are killed start
    whole = time.monotonic() - before
    load = Load(once.lab, 5_000)
    for turn in range(10):
        argv = [*POINTSMAN, "apply", str(paths[turn % 2])]
        process = once.lab.popen("gw", argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment.uniform(0.3 * whole, 1.1 * whole))
        process.send_signal(signal.SIGKILL)
        process.wait()
        nodes = {node["name"] for node in once.status()["services"][0]["nodes"]}
        assert nodes in ({"n1", "n2", "n3"}, {"n1", "n3"})
        if turn % 4 == 3:
            once.apply(texts[turn % 2])
            assert "nothing to change" in once.apply(texts[turn % 2]).stdout
    once.apply(texts[1])
    sent, arrived = load.stop()
    assert arrived == sent
    assert [pin.name[:4] for pin in pins(once.lab)[1:] if pin.is_dir()] == ["set-"]
    with once.maps() as maps:
        assert not maps.config.dirty
    once.pointsman("down")
    assert pins(once.lab) == []


def test_flows_survive_new_maps_of_another_size(site: Site) -> None:
    """A change of one listener's table takes that listener's flows along no further than they fit."""
    other = "\n".join(
        [
            "[[service]]",
            'name = "other"',
            'protocol = "udp"',
            f'listen = ["{site.at(site.vip, 5683)}"]',
            "SIZE",
            "[[service.node]]",
            'name = "n1"',
            f'address = "{site.node_address("n1")}"',
        ]
    )
    site.serve(nodes=3, more=other.replace("SIZE", ""))
    site.nodes(["n1", "n2", "n3"])
    clients = [site.client() for _ in range(10)]
    nodes = [site.ask(client, hello()).node for client in clients]
    site.order("drain", nodes[0])
    site.serve(nodes=3, more=other.replace("SIZE", "flow_table_size = 50000"))
    assert [site.ask(client, hello(message_seq=1)).node for client in clients] == nodes
    assert (site.counted("balanced"), site.counted("flow")) == (10, 10)


# what is there, and what is left


def test_status_shows_the_interfaces_and_how_programs_are_attached(site: Site) -> None:
    site.serve()
    shown = sorted(site.status()["interfaces"], key=lambda row: row["name"])
    assert shown == [{"name": name, "mode": "native", "reason": ""} for name in ("lan0", "wan0")]
    said = site.pointsman("status").stdout.splitlines()
    assert {"wan0: native", "lan0: native"} <= set(said)
    assert programs(site.lab) == {"wan0": "native", "lan0": "native"}


def test_down_leaves_no_program_no_pin_and_no_qdisc(site: Site) -> None:
    before = machine_state(site.lab)
    site.serve()
    assert set(programs(site.lab)) == {"wan0", "lan0"}
    assert pins(site.lab) != []
    site.pointsman("down")
    assert machine_state(site.lab) == before
    assert (programs(site.lab), clsact(site.lab), pins(site.lab), files(site.lab)) == ({}, [], [], [])


def test_down_leaves_a_qdisc_and_filters_of_others_alone(plane: str) -> None:
    with own_site(plane, 4, nodes=2) as site:
        site.lab.run("gw", ["tc", "qdisc", "add", "dev", "wan0", "clsact"])
        theirs = ["tc", "filter", "add", "dev", "wan0", "ingress", "protocol", "arp", "u32"]
        site.lab.run("gw", [*theirs, "match", "u32", "0", "0", "flowid", "1:1"])
        shown = ["tc", "filter", "show", "dev", "wan0", "ingress"]
        before = site.lab.run("gw", shown).stdout
        site.serve()
        site.pointsman("down")
        assert clsact(site.lab) == ["wan0"]
        assert site.lab.run("gw", shown).stdout == before


def test_program_of_somebody_else_is_refused_in_a_line_and_left_alone(plane: str) -> None:
    with own_site(plane, 4, nodes=2) as site:
        # A folder, as the bpffs is unmounted when nobody has one in it: other cases' gateways come and go.
        folder = bpffs.folder(f"foreign-{site.lab.name}")
        theirs = folder / "pass"
        load_pass(theirs)
        try:
            site.lab.run("gw", ["ip", "link", "set", "dev", "wan0", "xdp", "pinned", str(theirs)])
            before = machine_state(site.lab)
            line = refused(site.pointsman("apply", str(site.file(site.config())), check=False), 1)
            assert "wan0 has somebody else's XDP program" in line
            assert "ip link set wan0 xdp off" in line
            assert machine_state(site.lab) == before
            assert (pins(site.lab), files(site.lab)) == ([], [])
            site.lab.run("gw", ["ip", "link", "set", "wan0", "xdp", "off"])
            site.serve()
        finally:
            bpffs.remove(folder)


def load_pass(path: Path) -> None:
    """Pin a program that is not ours by name or function."""
    with Object.open(object_path()) as built:
        built.load()
        built.program("pointsman_odd").pin(path)


def test_interface_that_goes_and_comes_back_is_taken_up_by_the_next_apply(plane: str) -> None:
    with own_site(plane, 4, nodes=2) as site:
        lab = site.lab
        lab.run("gw", ["ip", "link", "add", "spare0", "type", "veth", "peer", "name", "spare1"])
        text = site.config().replace("[gateway]", '[gateway]\ninterfaces = ["wan0", "lan0", "spare0"]')
        site.apply(text)
        assert set(programs(lab)) == {"wan0", "lan0", "spare0"}
        lab.run("gw", ["ip", "link", "delete", "spare0"])
        site.nodes(BOTH)
        assert site.ask(site.client(), cid(2)).node == "n2"
        lab.run("gw", ["ip", "link", "add", "spare0", "type", "veth", "peer", "name", "spare1"])
        site.apply(text.replace("hash_seed", "# again\nhash_seed"))
        assert set(programs(lab)) == {"wan0", "lan0", "spare0"}
        site.apply(text.replace(', "spare0"', ""))
        assert set(programs(lab)) == {"wan0", "lan0"}
        assert set(clsact(lab)) == {"wan0", "lan0"}
        site.pointsman("down")
        assert clsact(lab) == []


def test_device_without_xdp_of_its_own_is_served_in_generic_mode(plane: str, family: int) -> None:
    with own_site(plane, family, nodes=2) as site:
        lab = site.lab
        needs_device(lab, "bridge")
        lab.run("gw", ["ip", "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0"])
        lab.run("gw", ["ip", "link", "set", "br0", "up"])
        site.apply(site.config().replace("[gateway]", '[gateway]\ninterfaces = ["wan0", "lan0", "br0"]'))
        (row,) = [row for row in site.status()["interfaces"] if row["name"] == "br0"]
        assert (row["mode"], row["reason"]) == ("generic", "the device has no XDP of its own")
        assert programs(lab)["br0"] == "generic"
        site.nodes(BOTH)
        assert site.ask(site.client(), cid(1)).node == "n1"


def test_counters_outlive_new_maps_and_the_programs_of_another_set(site: Site) -> None:
    site.serve()
    site.nodes(BOTH)
    client = site.client()
    for _ in range(5):
        site.ask(client, cid(1))
    number = pins(site.lab)[-1].name
    site.apply(site.config().replace("[gateway]", "[gateway]\nflow_memory = 5000"))
    assert pins(site.lab)[-1].name != number
    assert (site.counted("cid", "n1"), site.counted("reply", "n1")) == (5, 5)
    site.ask(client, cid(1))
    assert site.counted("cid", "n1") == 6


def test_apply_that_fails_half_way_leaves_the_set_that_stands(site: Site) -> None:
    site.serve()
    site.nodes(BOTH)
    before = standing(site)
    text = site.config(nodes=3).replace("[gateway]", '[gateway]\ninterfaces = ["wan0", "lan0", "gone0"]')
    done = site.pointsman("apply", str(site.file(text)), check=False)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert standing(site) == before
    assert site.pointsman("status").returncode == 0
    assert site.ask(site.client(), cid(2)).node == "n2"


def many_services(site: Site, count: int) -> str:
    """As many services, each with a VIP of its own, one node and a port of its own on it."""
    lines = ["[gateway]", 'name = "edge"', 'dataplane = "xdp"', "hash_seed = 1"]
    for number in range(1, count + 1):
        vip = {4: f"192.0.2.{number}", 6: f"2001:db8::{number:x}"}[site.family]
        lines += [
            "[[service]]",
            f'name = "s{number}"',
            'protocol = "udp"',
            f'listen = ["{site.at(vip, 5683)}"]',
        ]
        node = site.at(site.node_address("n1"), 20_000 + number)
        lines += ["[[service.node]]", 'name = "n1"', f'address = "{node}"']
    return "\n".join([*lines, ""])


def test_far_more_services_than_the_maps_were_made_for_are_one_apply(site: Site) -> None:
    site.apply(many_services(site, 40))
    site.apply(many_services(site, 180))
    assert len(site.status()["services"]) == 180
    site.node("n1", 20_177)
    vip = {4: "192.0.2.177", 6: "2001:db8::b1"}[site.family]
    assert site.send(site.client(), b"x", vip=vip, port=5683).port == 20_177
