"""Who may ask what."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest
from tests.unit.api.conftest import Asking, access

from pointsman.api.access import Access, Caller, Peer, Scope, Token, TokensError, read_tokens
from pointsman.api.route import Route
from pointsman.api.routes import ROUTES

DIGEST = sha256(b"secret").hexdigest()
ORDERING = [route for route in ROUTES if route.scope is Scope.OPERATE]
READING = [route for route in ROUTES if route.scope is Scope.READ]


def path_of(route: Route) -> str:
    return route.path.replace("{service}", "coaps").replace("{node}", "n1").replace("{number}", "1")


def test_root_the_daemons_user_and_the_sockets_group_may_operate() -> None:
    may = Access(owner=900, group=800)
    for peer in (Peer(0, frozenset({0})), Peer(900, frozenset({900})), Peer(1000, frozenset({1000, 800}))):
        assert may.of_peer(peer).scope is Scope.OPERATE
    assert may.of_peer(Peer(1000, frozenset({1000}))).scope is Scope.READ


def test_without_a_group_nobody_is_in_it() -> None:
    assert Access().of_peer(Peer(1000, frozenset({1000}))).scope is Scope.READ


def test_the_log_names_the_user_and_whom_they_act_for() -> None:
    peer = Peer(0, frozenset({0}), "root")
    assert Access().of_peer(peer).who == "uid 0 (root)"
    assert Access().of_peer(peer, "alice").who == "uid 0 (root) for alice"
    assert (
        Access().of_peer(Peer(7, frozenset()), "a\n\x1b[31mb" + "c" * 99).who == f"uid 7 for a[31mb{'c' * 56}"
    )


def test_whom_one_acts_for_grants_nothing() -> None:
    assert Access(owner=900).of_peer(Peer(1000, frozenset()), "root").scope is Scope.READ


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic secret-of-ci",
        "Bearer secret-of-c",
        "secret-of-ci",
        f"Bearer {DIGEST}",
    ],
)
def test_what_is_no_token_of_ours_is_nobody(header: str | None) -> None:
    assert access().of_authorization(header) is None


@pytest.mark.parametrize("header", [None, "", "Basic x", "Bearer", "Bearer  "])
@pytest.mark.parametrize("digest", [bytes(32), sha256(b"").digest()], ids=["zeros", "of nothing"])
def test_who_shows_no_token_is_nobody_whatever_the_digests(header: str | None, digest: bytes) -> None:
    assert Access((Token("ci", Scope.OPERATE, digest),)).of_authorization(header) is None


def test_a_token_is_known_by_its_name() -> None:
    assert access().of_authorization("bearer secret-of-reader") == Caller("token reader", Scope.READ)
    assert access().of_authorization("Bearer secret-of-ci") == Caller("token ci", Scope.OPERATE)


def test_a_digest_shown_as_a_token_is_none() -> None:
    tokens = read_tokens(f"ci operate {DIGEST}\n", "tokens")
    assert Access(tokens).of_authorization(f"Bearer {DIGEST}") is None
    assert Access(tokens).of_authorization("Bearer secret") == Caller("token ci", Scope.OPERATE)


def test_tokens_are_read_with_comments_and_empty_lines() -> None:
    found = read_tokens(f"# ours\n\nci operate {DIGEST}  # the pipeline\nprom read {DIGEST}\n", "tokens")
    assert [(token.name, token.scope) for token in found] == [("ci", Scope.OPERATE), ("prom", Scope.READ)]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("ci operate", "tokens:2: 2 words; NAME read|operate SHA256"),
        (f"ci write {DIGEST}", "tokens:2: the scope is unknown"),
        (f"c/i read {DIGEST}", "tokens:2: the name is malformed"),
        (f"first read {DIGEST}", "tokens:2: the name is taken by a line above"),
        ("ci read my-password", "tokens:2: the digest is none: 64 lower-case"),
        (f"ci read {DIGEST.upper()}", "tokens:2: the digest is none"),
        (f"ci read {'0' * 64}", "tokens:2: the digest is of no token"),
        (f"ci read {sha256(b'').hexdigest()}", "tokens:2: the digest is of no token"),
    ],
)
def test_a_mistake_in_the_tokens_is_one_line_that_shows_no_secret(line: str, what: str) -> None:
    with pytest.raises(TokensError) as caught:
        read_tokens(f"first read {DIGEST}\n{line}\n", "tokens")
    assert what in str(caught.value)
    assert "my-password" not in str(caught.value)


@pytest.mark.parametrize("route", [*ORDERING, *READING], ids=lambda route: route.name)
def test_without_a_token_nothing_is_answered(ask: Asking, route: Route) -> None:
    answer = ask(route.method, path_of(route), who=None)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["title"] == "Unauthorized"


@pytest.mark.parametrize("route", ORDERING, ids=lambda route: route.name)
def test_a_reader_orders_nothing_and_sees_no_configuration(ask: Asking, route: Route) -> None:
    answer = ask(route.method, path_of(route), who="reader", content=b"garbage")
    assert answer.status_code == 403
    assert "scope operate" in answer.json()["detail"]
    assert ask.operator.kept == []
    stranger = Peer(1000, frozenset({1000}))
    assert ask(route.method, path_of(route), peer=stranger, content=b"garbage").status_code == 403


@pytest.mark.parametrize("who", ["reader", "ci"])
def test_readers_read(ask: Asking, who: str) -> None:
    for route in READING:
        if route.name != "stream":
            assert ask("GET", path_of(route), who=who).status_code == 200


def test_everything_but_the_answer_and_its_description_needs_a_scope() -> None:
    assert [route.name for route in ROUTES if route.scope is None] == ["description", "alive"]


def test_every_route_that_posts_needs_the_scope_operate() -> None:
    assert {route.scope for route in ROUTES if route.method != "GET"} == {Scope.OPERATE}


def test_a_token_counts_for_nothing_beside_the_sockets_credentials(ask: Asking) -> None:
    stranger = Peer(1000, frozenset({1000}))
    header = {"authorization": "Bearer secret-of-ci"}
    assert ask("POST", "/v1/reload", peer=stranger, headers=header).status_code == 403


def test_orders_are_signed_by_who_gave_them(ask: Asking) -> None:
    root = Peer(0, frozenset({0}), "root")
    body = {"verb": "drain", "reason": "disk"}
    path = "/v1/nodes/coaps/n1/order"
    told = ask("POST", path, peer=root, json=body, headers={"pointsman-for": "alice"}).json()
    assert (told["who"], told["reason"]) == ("uid 0 (root) for alice", "disk")
    told = ask("POST", path, json=body, headers={"pointsman-for": "alice"}).json()
    assert told["who"] == "token ci"


def test_there_is_a_daemons_user() -> None:
    assert Access(owner=os.geteuid()).of_peer(Peer(os.geteuid(), frozenset())).scope is Scope.OPERATE
