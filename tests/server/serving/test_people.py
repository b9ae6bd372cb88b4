"""People at a serving process by tokens of a real identity provider on the loopback: who is let in, and for what."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aimass.proto.errors import AimassError, BadInput, Refused, Unauthenticated, Unavailable
from aimass.proto.serving_client import ServingClient
from aimass.server.serving.main import Started
from aimass.server.serving.people import is_of_person
from aimass.server.serving.tokens import Token, TokenFile, digest_of_token, make_token, write_tokens
from tests.server.serving.test_serving_main import Place
from tests.support.authorities import Authority
from tests.support.clock import ManualClock
from tests.support.fronts import ROW
from tests.support.oidc import CLIENT, IdentityServer, identity_server

NOW = 1_790_000_000.0


@dataclasses.dataclass
class Door:
    """A serving process with a file of tokens that takes people too."""

    place: Place
    identity: IdentityServer
    over: dict[str, Any] = dataclasses.field(default_factory=dict)

    def fields(self, **more: Any) -> dict[str, Any]:
        path = self.place.folder / "tokens.json"
        secret = make_token(lambda size: b"\x02" * size)
        write_tokens(path, TokenFile(tokens=(Token(name="clinic", digest=digest_of_token(secret.reveal())),)))
        people = {
            "issuer": self.identity.url,
            "audience": CLIENT,
            "keys": f"{self.identity.url}/keys",
            "realm": "house",
            "roles": {"doctors": "analyst", "statisticians": "scientist", "admins": "operator"},
        }
        return {"tokens": str(path), "people": people | self.over} | more

    def token(self, person: str) -> str:
        return str(self.identity.tokens(person)["id_token"])

    def codes(self, shown: dict[str, str], **more: Any) -> dict[str, str]:
        """What one process answers who asks for its status with each token: the code of the error, or ""."""
        found: dict[str, str] = {}

        async def check(started: Started, _: asyncio.Event) -> None:
            for name, token in shown.items():
                found[name] = await asyncio.to_thread(code_of, client_of(started.url, token))

        self.place.run(check, **self.fields(**more))
        return found


def client_of(url: str, token: str) -> ServingClient:
    return ServingClient(url, bearer=lambda: token)


def code_of(client: ServingClient) -> str:
    try:
        return "" if client.status().models else "none"
    except (Unauthenticated, Refused, Unavailable) as error:
        return error.code


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    place = Place(tmp_path)
    place.clock = ManualClock(NOW)
    with identity_server(now=lambda: NOW) as identity:
        yield Door(place, identity)


def test_operators_and_scientists_see_figures_and_an_analyst_does_not(door: Door) -> None:
    people = ("olga", "anna", "cleo", "nora")
    assert door.codes({name: door.token(name) for name in people}) == {
        "olga": "", "anna": "", "cleo": "serve.role", "nora": "people.no_role",
    }  # fmt: skip


def test_what_a_role_may_is_the_settings(door: Door) -> None:
    may = {"operator": [], "analyst": ["see"]}
    tokens = {name: door.token(name) for name in ("olga", "cleo")}
    assert door.codes(tokens, people_may=may) == {"olga": "serve.role", "cleo": ""}


def test_a_token_of_somebody_else_of_yesterday_or_of_another_key_opens_nothing(door: Door) -> None:
    good = door.token("olga")
    door.identity.over = {"aud": "another-app"}
    other = door.token("olga")
    door.identity.over = {"exp": NOW - 60, "iat": NOW - 3600}
    old = door.token("olga")
    head, body, signature = good.split(".")
    forged = f"{head}.{body}.{signature[:-8]}{signature[-8:][::-1]}"
    unsigned = f"{head}.{body}.A"
    tokens = {"good": good, "other": other, "old": old, "forged": forged, "unsigned": unsigned, "none": "a.b.c"}
    assert door.codes(tokens) == {
        "good": "", "other": "people.audience", "old": "people.expired", "forged": "people.signature",
        "unsigned": "people.signature", "none": "people.token",
    }  # fmt: skip


def test_a_bad_token_is_no_better_than_none_where_anybody_may_see(door: Door) -> None:
    assert door.codes({"olga": door.token("olga"), "none": "a.b.c"}, tokens="") == {"olga": "", "none": "people.token"}


def test_people_may_not_ask_models_or_manage_them_unless_that_is_said(door: Door) -> None:
    token = door.token("olga")

    async def check(started: Started, _: asyncio.Event) -> None:
        def post(path: str) -> tuple[int, Any]:
            return asked_as(started.http_port, path, token)

        assert (await asyncio.to_thread(post, "/predict"))[1]["code"] == "serve.role"
        assert (await asyncio.to_thread(post, "/v2/repository/models/heart/unload"))[1]["code"] == "serve.role"

    door.place.run(check, **door.fields())


def test_who_may_ask_models_gets_their_answer(door: Door) -> None:
    token = door.token("cleo")

    async def check(started: Started, _: asyncio.Event) -> None:
        status, answer = await asyncio.to_thread(asked_as, started.http_port, "/predict", token)
        assert (status, answer["model"]) == (200, "heart")

    door.place.run(check, **door.fields(people_may={"analyst": ["infer"]}))


def test_nobody_comes_by_a_token_where_no_issuer_is_named(door: Door) -> None:
    assert door.codes({"olga": door.token("olga")}, people={}) == {"olga": "serve.token"}


def test_a_provider_that_is_away_is_told_as_such_and_admits_nobody(door: Door) -> None:
    token = door.token("olga")
    with socket.create_server(("127.0.0.1", 0)) as held:
        nowhere = f"http://127.0.0.1:{held.getsockname()[1]}/keys"
    door.over = {"keys": nowhere}
    assert door.codes({"olga": token}) == {"olga": "people.keys_away"}


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"people": {"services": ["explainer"]}}, BadInput, "serve.people_services"),
        ({"people": {"keys": ""}}, BadInput, "people.settings"),
        ({"people": {"issuer": ""}}, BadInput, "people.settings"),
        ({"people": {"keys": "http://login.example.org/keys"}}, Refused, "people.url"),
        ({"people_may": {"operator": ["see", "manage"]}}, Refused, "serve.people_manage"),
        ({"people_may": {"partner": ["see"]}}, BadInput, "value.invalid"),
        ({"people_may": {"operator": ["look"]}}, BadInput, "value.invalid"),
        ({"http": "0.0.0.0:8080"}, Refused, "serve.people_tls"),
    ],
)
def test_settings_that_would_admit_nobody_or_show_tokens_to_all_are_named(
    door: Door, fields: dict[str, Any], error: type[AimassError], code: str
) -> None:
    door.over = fields.pop("people", {})
    with pytest.raises(error) as refused:
        door.place.settings(**door.fields(**fields))
    assert refused.value.code == code


def test_with_a_certificate_people_may_come_from_elsewhere(door: Door, tmp_path: Path) -> None:
    key, chain = Authority().pair("serving", "127.0.0.1")
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "certificate").write_bytes(chain)
    tls = {"certificate": str(tmp_path / "certificate"), "key": str(tmp_path / "key")}
    assert door.place.settings(**door.fields(http="0.0.0.0:8080", tls=tls)).people.audience == CLIENT


@pytest.mark.parametrize("url", ["http://models.example.org:8080", "http://10.0.0.1"])
def test_a_persons_token_is_not_shown_over_an_open_link(url: str) -> None:
    with pytest.raises(Refused) as refused:
        ServingClient(url, bearer=lambda: "a.b.c")
    assert refused.value.code == "serve.people_link"
    ServingClient(url)
    ServingClient("https://models.example.org", bearer=lambda: "a.b.c")


def test_a_token_of_ones_own_is_never_taken_for_a_persons() -> None:
    own = [make_token(bytes([at]).__mul__).reveal() for at in range(256)]
    assert not any(map(is_of_person, own))
    assert not is_of_person(None)
    assert is_of_person(b"a.b.c")


def asked_as(port: int, path: str, token: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(ROW), {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
