"""What a node takes when it drains, is down, or is no more."""

from __future__ import annotations

from tests.conformance.site import Site, cid, hello


def test_draining_node_takes_records_that_name_it_but_no_new_handshakes(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    site.order("drain", "n1")
    clients = [site.client() for _ in range(16)]
    assert {site.ask(client, hello()).node for client in clients} == {"n2"}
    assert site.ask(clients[0], cid(1)).node == "n1"
    site.order("enable", "n1")
    assert {site.ask(site.client(), hello()).node for _ in range(24)} == {"n1", "n2"}


def test_records_for_a_disabled_node_are_dropped_and_counted(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    site.order("disable", "n1")
    site.dropped(client, cid(1))
    assert site.ask(client, cid(2)).node == "n2"
    assert site.counted("cid_node_down") == 1
    assert {site.ask(site.client(), hello()).node for _ in range(8)} == {"n2"}


def test_records_for_a_disabled_node_are_balanced_where_the_service_says_so(site: Site) -> None:
    site.serve(nodes=3, settings='cid_node_down = "balance"')
    site.nodes(["n1", "n2", "n3"])
    site.order("disable", "n1")
    client = site.client()
    node = site.ask(client, cid(1)).node
    assert node in ("n2", "n3")
    assert site.ask(client, cid(1)).node == node
    assert (site.counted("cid_node_down"), site.counted("balanced"), site.counted("flow")) == (2, 1, 1)


def test_flows_leave_a_node_that_is_disabled(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    node = site.ask(client, hello()).node
    other = {"n1": "n2", "n2": "n1"}[node]
    site.order("disable", node)
    assert site.ask(client, hello(message_seq=1)).node == other
    site.order("enable", node)
    assert site.ask(client, hello(message_seq=1)).node == other, "a moved flow stays where it moved to"


def test_without_a_node_for_new_flows_they_are_dropped_and_counted(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    site.order("drain", "n1")
    site.order("disable", "n2")
    site.dropped(client, hello())
    assert site.counted("no_node") == 1
    assert site.ask(client, cid(1)).node == "n1"


def test_weights_shape_the_share_of_new_handshakes(site: Site) -> None:
    text = site.config(nodes=2).replace('name = "n1"', 'name = "n1"\nweight = 4')
    site.apply(text)
    site.nodes(["n1", "n2"])
    reached = [site.ask(site.client(), hello()).node for _ in range(200)]
    assert 125 <= reached.count("n1") <= 190
    site.apply(text.replace("weight = 4", "weight = 0"))
    assert {site.ask(site.client(), hello()).node for _ in range(10)} == {"n2"}
    assert site.ask(site.client(), cid(1)).node == "n1"


def test_orders_outlive_apply_and_counters_outlive_orders(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2"])
    client = site.client()
    for _ in range(3):
        site.ask(client, cid(1))
    site.order("drain", "n1")
    site.serve(settings='cid_unknown = "balance"')
    assert [node["state"] for node in site.status()["services"][0]["nodes"]] == ["draining", "up"]
    site.ask(client, cid(1))
    assert site.counted("cid", "n1") == 4


def test_node_with_another_address_takes_over_its_id(site: Site) -> None:
    site.serve()
    site.nodes(["n1", "n2", "n3"])
    client = site.client()
    assert site.ask(client, cid(1)).node == "n1"
    site.apply(site.config().replace(f'"{site.node_address("n1")}"', f'"{site.node_address("n3")}"'))
    assert site.ask(client, cid(1)).node == "n3"
