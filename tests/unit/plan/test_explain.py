from __future__ import annotations

from ipaddress import ip_address

import pytest

from pointsman.config import parse
from pointsman.model import Endpoint, NodeState, NodeStates
from pointsman.plan.explain import Explanation, explain, payload_of_cid
from pointsman.plan.verdicts import Verdict
from pointsman.wire import dtls

TEXT = """
[gateway]
name = "edge"
hash_seed = 1
[[service]]
name = "coaps"
protocol = "dtls"
listen = ["192.0.2.10:5684"]
connection_id = "californium"
[[service.node]]
name = "n1"
id = 1
address = "10.0.0.11"
[[service.node]]
name = "n2"
id = 2
address = "10.0.0.12:15684"
"""
CLIENT = Endpoint(ip_address("198.51.100.7"), 40000)
VIP = Endpoint(ip_address("192.0.2.10"), 5684)


def explained(
    payload: bytes, text: str = TEXT, listener: Endpoint = VIP, states: dict[str, NodeState] | None = None
) -> Explanation:
    orders = NodeStates({("coaps", name): state for name, state in (states or {}).items()})
    return explain(parse(text, "edge.toml").gateway, orders, CLIENT, listener, payload)


def test_record_goes_to_the_node_its_cid_names() -> None:
    found = explained(payload_of_cid(b"\2abcde"))
    assert (found.node, str(found.target), found.verdict) == ("n2", "10.0.0.12:15684", Verdict.CID)
    assert found.steps[-1] == "node n2 has it and is up"


@pytest.mark.parametrize("state", [NodeState.DOWN, NodeState.DISABLED])
def test_record_for_a_node_that_takes_nothing_is_dropped(state: NodeState) -> None:
    found = explained(payload_of_cid(b"\2abcde"), states={"n2": state})
    assert (found.dropped, found.verdict) == (True, Verdict.CID_NODE_DOWN)


def test_record_for_a_draining_node_reaches_it() -> None:
    assert explained(payload_of_cid(b"\2abcde"), states={"n2": NodeState.DRAINING}).node == "n2"


def test_unknown_id_is_dropped_or_balanced_as_the_service_says() -> None:
    assert explained(payload_of_cid(b"\7abcde")).verdict is Verdict.CID_UNKNOWN
    balanced = TEXT.replace('"californium"', '"californium"\ncid_unknown = "balance"')
    found = explained(payload_of_cid(b"\7abcde"), balanced)
    assert (found.verdict, found.node in ("n1", "n2")) == (Verdict.BALANCED, True)


def test_handshake_goes_by_the_scheduler_to_a_node_that_takes_new_ones() -> None:
    first = explained(dtls.client_hello(bytes(32)))
    assert first.verdict is Verdict.BALANCED
    assert first.node is not None
    other = explained(dtls.client_hello(bytes(32)), states={first.node: NodeState.DRAINING})
    assert other.node != first.node


def test_without_a_node_that_takes_it_a_handshake_is_dropped() -> None:
    found = explained(dtls.client_hello(bytes(32)), states={"n1": NodeState.DOWN, "n2": NodeState.DRAINING})
    assert (found.dropped, found.verdict) == (True, Verdict.NO_NODE)


def test_record_too_short_for_its_id_is_unknown() -> None:
    assert explained(payload_of_cid(b"\1abcde")[:11]).verdict is Verdict.CID_UNKNOWN


def test_what_no_service_listens_for_is_left_to_the_kernel() -> None:
    found = explained(b"", listener=Endpoint(VIP.address, 1))
    assert (found.service, found.dropped) == (None, False)


def filtered(settings: str) -> str:
    return TEXT.replace("[gateway]", '[gateway]\ndataplane = "nftables"').replace(
        '[[service.node]]\nname = "n1"', f'[service.filter]\n{settings}\n[[service.node]]\nname = "n1"'
    )


@pytest.mark.parametrize(
    ("settings", "payload", "verdict"),
    [
        ("", b"\x17\xfe\xff", Verdict.NOT_DTLS),
        ("", dtls.application_data()[:20], Verdict.BAD_LENGTH),
        ("", dtls.cid_record(b"\1abcde", epoch=0), Verdict.BAD_EPOCH),
        ("drop_source_ports = [40000]", dtls.application_data(), Verdict.SOURCE_PORT),
        ('deny = ["198.51.100.0/24"]', dtls.application_data(), Verdict.DENIED),
    ],
)
def test_what_a_filter_drops_goes_nowhere(settings: str, payload: bytes, verdict: Verdict) -> None:
    found = explained(payload, filtered(settings))
    assert (found.verdict, found.node, found.dropped) == (verdict, None, True)
    assert str(verdict) in found.steps[-1]
    passed = explained(payload, filtered(f'mode = "monitor"\n{settings}'))
    assert (passed.dropped, "monitor" in " ".join(passed.steps)) == (False, True)


def test_what_a_filter_has_nothing_against_goes_on() -> None:
    settings = 'allow = ["198.51.100.7"]\ndeny = ["198.51.100.0/24"]\ndrop_source_ports = [40000]'
    assert explained(dtls.cid_record(b"\1abcde"), filtered(settings)).node == "n1"
    assert explained(b"", filtered("")).verdict == Verdict.BALANCED


PLAIN = TEXT.replace('"dtls"', '"tcp"').replace('connection_id = "californium"\n', "").replace("id = 1\n", "")
PLAIN = PLAIN.replace("id = 2\n", "weight = 3\n")


@pytest.mark.parametrize("scheduler", ["random", "round-robin"])
def test_what_cannot_be_foretold_is_said_to_be_so(scheduler: str) -> None:
    text = PLAIN.replace('"tcp"', f'"tcp"\nscheduler = "{scheduler}"')
    text = text.replace("hash_seed = 1", 'hash_seed = 1\ndataplane = "nftables"')
    found = explained(b"", text)
    assert (found.node, found.dropped, found.candidates) == (None, False, ("n1", "n2"))
    assert (
        found.steps[-1] == f"{scheduler}: one of n1 (1 of 4), n2 (3 of 4); which of them cannot be foretold"
    )
    alone = explained(b"", text, states={"n1": NodeState.DRAINING})
    assert (alone.node, str(alone.target), alone.candidates) == ("n2", "10.0.0.12:15684", ())


def test_affinity_is_told_of() -> None:
    text = PLAIN.replace('"tcp"', '"tcp"\naffinity = { ip4 = 24 }')
    text = text.replace("hash_seed = 1", 'hash_seed = 1\ndataplane = "nftables"')
    found = explained(b"", text)
    assert "affinity: if clients of 198.51.100.0/24 were heard lately" in found.steps[-2]
    assert found.node is not None
