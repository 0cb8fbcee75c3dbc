"""Which node a new flow goes to where the scheduler does not hash, and where its client's network has a node."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from math import sqrt

import pytest
from tests.prog.frames import packed, tcp, udp
from tests.prog.rig import CLIENT, DROP, NODE_MACS, VIP, Rig, node_of
from tests.prog.test_paths import framed, network, sent_to_node

from pointsman.dataplane.xdp import fill
from pointsman.dataplane.xdp_maps import MAIN
from pointsman.model import NodeState
from pointsman.plan.verdicts import Verdict
from pointsman.plan.xdp.place import Layout

pytestmark = pytest.mark.netns

HEAD = '[gateway]\nname = "edge"\nhash_seed = "6f1d20c4"\nflow_memory = 4096\n'


def service(
    settings: str,
    weights: tuple[int, ...] = (1, 1, 1),
    *,
    name: str = "s",
    more: tuple[str, ...] = ("", "", ""),
) -> str:
    listen = '["192.0.2.10:53", "[2001:db8::10]:53"]'
    text = f'[[service]]\nname = "{name}"\nprotocol = "udp"\nlisten = {listen}\n{settings}\n'
    for number, (weight, own) in enumerate(zip(weights, more, strict=False), 1):
        text += (
            f'[[service.node]]\nname = "n{number}"\naddress = ["10.0.0.1{number}", "fd00::1{number}"]\n'
            f"weight = {weight}\n{own}\n"
        )
    return HEAD + text


def asked(family: int, port: int = 40000, client: str | None = None) -> bytes:
    source, vip = packed(client or CLIENT[family]), packed(VIP[family])
    return framed(family, network(family, source, vip, udp(source, vip, (port, 53), b"hello")))


def near(family: int, host: int, net: int = 0) -> str:
    return f"198.51.{100 + net}.{host}" if family == 4 else f"2001:db8:c:{net:x}::{host:x}"


# round robin


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 3), (100, 1, 7), (50, 100, 50), (2, 0, 1)])
def test_round_robin_keeps_proportions_exactly(gateway: Rig, family: int, weights: tuple[int, ...]) -> None:
    gateway.configure(service('scheduler = "round-robin"', weights))
    rounds = max(1, 60 // sum(weights))
    found = Counter(
        sent_to_node(gateway.run(asked(family, port))) for port in range(2000, 2000 + rounds * sum(weights))
    )
    assert found == {f"n{n}": rounds * weight for n, weight in enumerate(weights, 1) if weight}


def test_round_robin_spreads_a_heavy_nodes_turns(gateway: Rig, family: int) -> None:
    gateway.configure(service('scheduler = "round-robin"', (2, 1, 1)))
    found = [sent_to_node(gateway.run(asked(family, port))) for port in range(2000, 2040)]
    assert all(
        one != other or one != third for one, other, third in zip(found, found[1:], found[2:], strict=False)
    )


def test_round_robin_takes_its_turn_over_a_change(gateway: Rig, family: int) -> None:
    text = service('scheduler = "round-robin"')
    gateway.configure(text)
    first = [sent_to_node(gateway.run(asked(family, port))) for port in (2000, 2001)]
    gateway.change(text.replace('"round-robin"', '"round-robin"\nflow_timeout = "9m"'))
    assert {*first, sent_to_node(gateway.run(asked(family, 2002)))} == set(NODE_MACS)


def test_round_robin_is_for_new_flows_only(gateway: Rig, family: int) -> None:
    gateway.configure(service('scheduler = "round-robin"'))
    first = sent_to_node(gateway.run(asked(family)))
    for _ in range(5):
        again = gateway.run(asked(family))
        assert (sent_to_node(again), again.verdicts) == (first, {Verdict.FLOW})


def test_control_maglev_keeps_no_proportions(gateway: Rig, family: int) -> None:
    gateway.configure(service(""))
    found = Counter(sent_to_node(gateway.run(asked(family, port))) for port in range(2000, 2060))
    assert set(found.values()) != {20}


# random


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 5)])
def test_random_keeps_proportions_roughly(gateway: Rig, family: int, weights: tuple[int, ...]) -> None:
    gateway.configure(service('scheduler = "random"', weights))
    draws = 600
    found = Counter(sent_to_node(gateway.run(asked(family, port))) for port in range(2000, 2000 + draws))
    for number, weight in enumerate(weights, 1):
        share = weight / sum(weights)
        assert abs(found[f"n{number}"] - draws * share) < 5 * sqrt(draws * share * (1 - share))


def test_random_remembers_what_it_chose(gateway: Rig, family: int) -> None:
    gateway.configure(service('scheduler = "random"'))
    for port in range(2000, 2010):
        first = sent_to_node(gateway.run(asked(family, port)))
        assert {sent_to_node(gateway.run(asked(family, port))) for _ in range(4)} == {first}


@pytest.mark.parametrize("scheduler", ["random", "round-robin"])
def test_no_node_is_a_verdict_whatever_the_scheduler(gateway: Rig, family: int, scheduler: str) -> None:
    gateway.configure(
        service(f'scheduler = "{scheduler}"'), {("s", name): NodeState.DOWN for name in NODE_MACS}
    )
    ran = gateway.run(asked(family))
    assert (ran.action, ran.verdicts) == (DROP, {Verdict.NO_NODE})


# backup


@pytest.mark.parametrize("scheduler", ["maglev", "random", "round-robin"])
def test_backup_takes_new_flows_only_where_no_other_does(gateway: Rig, family: int, scheduler: str) -> None:
    text = service(f'scheduler = "{scheduler}"', more=("", "", "backup = true"))
    gateway.configure(text)
    before = {sent_to_node(gateway.run(asked(family, port))) for port in range(2000, 2040)}
    assert before == {"n1", "n2"}
    gateway.change(text, {("s", "n1"): NodeState.DOWN, ("s", "n2"): NodeState.DRAINING})
    assert {sent_to_node(gateway.run(asked(family, port))) for port in range(3000, 3010)} == {"n3"}
    gateway.change(text)
    assert sent_to_node(gateway.run(asked(family, 3000))) == "n3"
    assert "n3" not in {sent_to_node(gateway.run(asked(family, port))) for port in range(4000, 4040)}


# affinity


@pytest.mark.parametrize("scheduler", ["maglev", "random", "round-robin"])
def test_one_clients_flows_go_to_one_node(gateway: Rig, family: int, scheduler: str) -> None:
    gateway.configure(service(f'scheduler = "{scheduler}"\naffinity = "client-address"'))
    nodes = {sent_to_node(gateway.run(asked(family, port))) for port in range(2000, 2040)}
    assert len(nodes) == 1
    others = {sent_to_node(gateway.run(asked(family, 2000, near(family, 1, net)))) for net in range(20, 60)}
    assert others == set(NODE_MACS)


def test_control_without_affinity_they_do_not(gateway: Rig, family: int) -> None:
    gateway.configure(service('scheduler = "round-robin"'))
    assert len({sent_to_node(gateway.run(asked(family, port))) for port in range(2000, 2040)}) == 3


@pytest.mark.parametrize(("bits4", "bits6"), [(24, 48), (16, 32), (8, 17), (31, 127), (32, 128)])
def test_affinity_is_by_prefix(gateway: Rig, family: int, bits4: int, bits6: int) -> None:
    bits, width = (bits4, 32) if family == 4 else (bits6, 128)
    gateway.configure(
        service(f'scheduler = "round-robin"\naffinity = {{ ip4 = {bits4}, ip6 = {bits6}, timeout = "60s" }}')
    )
    own = int.from_bytes(packed(CLIENT[family]), "big")
    inside = own ^ ((1 << (width - bits)) - 1)
    beyond = own ^ (1 << (width - bits))

    def node(address: int, port: int) -> str | None:
        source, vip = address.to_bytes(width // 8, "big"), packed(VIP[family])
        ran = gateway.run(framed(family, network(family, source, vip, udp(source, vip, (port, 53), b"x"))))
        return node_of(ran.frame)

    first = node(own, 2000)
    assert node(inside, 2001) == first
    assert node(beyond, 2002) != first
    assert node(inside, 2003) == first


def test_affinity_moves_with_its_node_and_flows_stay(gateway: Rig, family: int) -> None:
    text = service('scheduler = "round-robin"\naffinity = "client-address"')
    gateway.configure(text)
    was = sent_to_node(gateway.run(asked(family, 2000)))
    gateway.change(text, {("s", str(was)): NodeState.DRAINING})
    moved = sent_to_node(gateway.run(asked(family, 2001)))
    assert moved != was
    assert sent_to_node(gateway.run(asked(family, 2000))) == was
    gateway.change(text)
    assert {sent_to_node(gateway.run(asked(family, port))) for port in range(2002, 2010)} == {moved}


def test_affinity_leaves_a_backup_when_others_are_back(gateway: Rig, family: int) -> None:
    text = service('affinity = "client-address"', more=("", "backup = true", "backup = true"))
    gateway.configure(text, {("s", "n1"): NodeState.DOWN})
    assert sent_to_node(gateway.run(asked(family, 2000))) in ("n2", "n3")
    gateway.change(text)
    assert sent_to_node(gateway.run(asked(family, 2001))) == "n1"


def test_affinity_is_kept_over_new_maps(gateway: Rig, family: int) -> None:
    """What is remembered is in the memory of flows, which a new set of maps takes over."""
    text = service('scheduler = "round-robin"\naffinity = "client-address"')
    gateway.configure(text)
    first = sent_to_node(gateway.run(asked(family, 2000)))
    gateway.layout = Layout(gateway.sizes)
    fill(gateway.maps, gateway.layout, gateway.compiled, None)
    assert {sent_to_node(gateway.run(asked(family, port))) for port in range(2001, 2006)} == {first}


# least connections


LEAST = 'scheduler = "least-connections"'


def connections(gateway: Rig) -> dict[str, int]:
    """Flows by node, as the programs have counted them."""
    view, labels = array("q", bytes(gateway.maps.views["connections"])), gateway.inputs.labels
    service = gateway.inputs.gateway.services[0]
    return {node.name: view[labels.of(node)] for node in service.nodes}


def remembered(gateway: Rig) -> dict[str, int]:
    """The same by what is in the memory of flows."""
    entries = array("Q", bytes(gateway.maps.views["flows"]))
    found = Counter(entry >> 24 & 0xFFFF for entry in entries if entry and entry >> 22 & 3 < 2)
    service, labels = gateway.inputs.gateway.services[0], gateway.inputs.labels
    return {node.name: found[labels.of(node)] for node in service.nodes}


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 3), (5, 1, 2)])
def test_least_connections_evens_out_by_weight(gateway: Rig, family: int, weights: tuple[int, ...]) -> None:
    gateway.configure(service(LEAST, weights))
    for port in range(2000, 2120):
        sent_to_node(gateway.run(asked(family, port)))
    counts = connections(gateway)
    assert counts == remembered(gateway)
    for number, weight in enumerate(weights, 1):
        assert abs(counts[f"n{number}"] - 120 * weight / sum(weights)) <= 2


def test_equal_nodes_are_not_always_begun_with_the_first(gateway: Rig, family: int) -> None:
    found = set()
    for _ in range(40):
        gateway.configure(service(LEAST))
        found.add(sent_to_node(gateway.run(asked(family))))
    assert found == set(NODE_MACS)


def test_a_node_that_comes_new_gets_what_comes_until_it_has_as_many(gateway: Rig, family: int) -> None:
    two = service(LEAST, (1, 1))
    gateway.configure(two)
    for port in range(2000, 2040):
        gateway.run(asked(family, port))
    gateway.change(service(LEAST))
    found = [sent_to_node(gateway.run(asked(family, port))) for port in range(3000, 3019)]
    assert set(found) == {"n3"}
    assert set(connections(gateway).values()) <= {19, 20}


def test_flows_that_were_remembered_before_are_counted_when_counting_begins(
    gateway: Rig, family: int
) -> None:
    gateway.configure(service(""))
    for port in range(2000, 2050):
        gateway.run(asked(family, port))
    assert set(connections(gateway).values()) == {0}
    gateway.change(service(LEAST))
    assert connections(gateway) == remembered(gateway)
    assert sum(connections(gateway).values()) == 50
    gateway.change(service(""))
    gateway.run(asked(family, 5000))
    gateway.change(service(LEAST))
    assert connections(gateway) == remembered(gateway)
    assert sum(connections(gateway).values()) == 51


def test_counts_are_what_is_remembered_whatever_happens(gateway: Rig, family: int) -> None:
    """A memory so small that flows push each other out, nodes that come and go, and affinity beside."""
    text = service(f'{LEAST}\nflow_table_size = 40\naffinity = "client-address"\nflow_timeout = "1s"')
    states: list[dict[tuple[str, str], NodeState]] = [
        {},
        {("s", "n1"): NodeState.DOWN},
        {("s", "n2"): NodeState.DRAINING},
        {},
    ]
    gateway.configure(text)
    for state in states:
        gateway.change(text, state)
        for number in range(250):
            gateway.run(asked(family, 2000 + number % 90, near(family, 1 + number % 7, number % 50)))
        assert connections(gateway) == remembered(gateway)
    time.sleep(1.4)
    for port in range(100):  # whoever comes sweeps what is over
        gateway.run(asked(family, 7000 + port))
    assert connections(gateway) == remembered(gateway)
    assert sum(connections(gateway).values()) <= 101


def test_an_ended_connection_loads_its_node_no_more(gateway: Rig, family: int) -> None:
    gateway.configure(service(LEAST).replace('protocol = "udp"', 'protocol = "tcp"'))
    source, vip = packed(CLIENT[family]), packed(VIP[family])

    def run(port: int, flags: int) -> str | None:
        rest = tcp(source, vip, (port, 53), b"", flags)
        return sent_to_node(gateway.run(framed(family, network(family, source, vip, rest, 6))))

    nodes = {port: run(port, 2) for port in range(2000, 2030)}
    assert set(connections(gateway).values()) == {10}
    mine = [port for port, node in nodes.items() if node == "n2"]
    for port in mine:
        run(port, 17 if port % 2 else 20)
    assert connections(gateway) == remembered(gateway) == {"n1": 10, "n2": 0, "n3": 10}
    assert {run(port, 2) for port in range(3000, 3010)} == {"n2"}
    run(mine[0], 2)  # opened anew
    assert connections(gateway) == remembered(gateway)


def test_of_many_nodes_some_are_compared(gateway: Rig, family: int) -> None:
    text = service(LEAST, ())
    for number in range(100):
        where = f'["10.0.0.11:{1000 + number}", "[fd00::11]:{1000 + number}"]'
        text += f'[[service.node]]\nname = "m{number}"\naddress = {where}\n'
    gateway.configure(text)
    main, wan = gateway.maps.programs[MAIN], gateway.namespace.index["wan"]
    for port in range(2000, 2600):
        main.test_run(asked(family, port), ifindex=wan)
    counts = connections(gateway)
    assert counts == remembered(gateway)
    assert sum(counts.values()) == 600
    assert max(counts.values()) <= 9  # by chance alone some would have 14
