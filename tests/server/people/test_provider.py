"""The identity provider of the tests, and a server that takes its word: the whole way of a token, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest
from authlib.integrations.httpx_client import OAuth2Client
from joserfc import jwt
from joserfc.jwk import KeySet

from aimass.proto.api import Federation
from aimass.proto.clock import SystemClock
from aimass.proto.errors import Unauthenticated, Unavailable
from aimass.proto.views import PersonView
from aimass.server.people.settings import PeopleSettings
from aimass.server.people.sources import key_source
from tests.support.edge_federation import Members, run, serving
from tests.support.identity import PEOPLE, RULES, made
from tests.support.oidc import CLIENT, PASSWORD, IdentityServer, identity_server

BACK = "http://127.0.0.1:1/oauth2callback"
VERIFIER = "v" * 64


@pytest.fixture
def provider() -> Iterator[IdentityServer]:
    with identity_server(BACK) as server:
        yield server


def application(provider: IdentityServer, **over: str) -> OAuth2Client:
    fields = {
        "client_id": CLIENT, "client_secret": provider.secret, "scope": "openid profile", "redirect_uri": BACK,
        "code_challenge_method": "S256",
    } | over  # fmt: skip
    return OAuth2Client(**fields)


def login(provider: IdentityServer, person: str = "cleo", password: str = PASSWORD) -> str:
    """Where the browser is sent after the login page."""
    with application(provider) as client:
        url, state = client.create_authorization_url(f"{provider.url}/authorize", code_verifier=VERIFIER, nonce="once")
        assert "Password" in httpx.get(url).text
        answer = httpx.post(url, data={"name": person, "password": password})
        if answer.status_code != 303:
            return ""
        place = answer.headers["Location"]
        assert place.startswith(BACK)
        assert parse_qs(urlsplit(place).query)["state"] == [state]
        return str(place)


def test_a_library_that_others_wrote_logs_somebody_in(provider: IdentityServer) -> None:
    place = login(provider)
    with application(provider) as client:
        found = client.fetch_token(f"{provider.url}/token", authorization_response=place, code_verifier=VERIFIER)
    published = KeySet.import_key_set(httpx.get(f"{provider.url}/keys").json())
    claims = jwt.decode(found["id_token"], published, ["ES256"]).claims
    assert (claims["sub"], claims["nonce"], claims["aud"], claims["iss"]) == ("cleo", "once", CLIENT, provider.url)
    discovered = httpx.get(f"{provider.url}/.well-known/openid-configuration").json()
    assert (discovered["issuer"], discovered["jwks_uri"]) == (provider.url, f"{provider.url}/keys")


def test_who_does_not_know_the_password_is_sent_nowhere(provider: IdentityServer) -> None:
    assert login(provider, password="wrong") == ""
    assert login(provider, person="<script>") == ""


@pytest.mark.parametrize(
    "over",
    [
        {"client_id": "another"}, {"redirect_uri": "https://evil.example/oauth2callback"}, {"response_type": "token"},
        {"scope": "profile"}, {"code_challenge_method": "plain"}, {"code_challenge": "short"},
    ],
)  # fmt: skip
def test_what_an_application_may_not_ask_is_refused_and_sent_nowhere(
    provider: IdentityServer, over: dict[str, str]
) -> None:
    query = {
        "client_id": CLIENT, "redirect_uri": BACK, "response_type": "code", "scope": "openid",
        "code_challenge_method": "S256", "code_challenge": "c" * 43,
    }  # fmt: skip
    assert httpx.get(f"{provider.url}/authorize", params=query).status_code == 200
    answer = httpx.get(f"{provider.url}/authorize", params=query | over)
    assert (answer.status_code, answer.headers.get("Location")) == (400, None)


def test_a_code_counts_once_with_its_verifier_its_secret_and_its_place(provider: IdentityServer) -> None:
    def exchange(place: str, secret: str = provider.secret, **over: str) -> tuple[int, str]:
        (code,) = parse_qs(urlsplit(place).query)["code"]
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": BACK,
            "code_verifier": VERIFIER,
        } | over
        answer = httpx.post(f"{provider.url}/token", data=form, auth=(CLIENT, secret))
        return answer.status_code, answer.json().get("error", "")

    assert exchange(login(provider), secret="guessed") == (401, "invalid_client")
    assert exchange(login(provider), code_verifier="w" * 64) == (400, "invalid_grant")
    assert exchange(login(provider), redirect_uri="https://evil.example") == (400, "invalid_grant")
    assert exchange(login(provider), grant_type="password") == (400, "unsupported_grant_type")
    place = login(provider)
    assert exchange(place) == (200, "")
    assert exchange(place) == (400, "invalid_grant")


def test_a_server_takes_its_word_over_the_wire_and_follows_its_keys(tmp_path: Path, provider: IdentityServer) -> None:
    members = Members.create(tmp_path, services={"explainer": ()})
    settings = members.folder / "hub" / "server.toml"
    rules = PEOPLE.replace(RULES.issuer, provider.url).replace('"keys.json"', f'"{provider.url}/keys"')
    settings.write_text(settings.read_text() + rules)
    clock = Ahead()

    async def scenario() -> None:
        async with serving(members, clock) as edge:
            home = members.home("explainer", edge.address)

            def who(token: str) -> PersonView:
                with Federation.open(home, token=lambda: token) as federation:
                    return federation.who_am_i()

            def use() -> None:
                first = provider.tokens("cleo")
                view = who(first["id_token"])
                assert (view.name, view.role, view.through) == ("cleo@house", "analyst", "explainer")
                assert who(first["access_token"]).name == "cleo@house"
                assert who(provider.tokens("olga")["id_token"]).role == "operator"
                assert provider.keys_asked == 1
                provider.rotate("2026-12", made("EC", 1))
                clock.by = 11.0
                assert who(provider.tokens("anna")["id_token"]).role == "scientist"
                with pytest.raises(Unauthenticated) as refused:
                    who(first["id_token"])
                assert refused.value.code == "people.key"
                with pytest.raises(Exception, match="no role"):
                    who(provider.tokens("nora")["id_token"])

            await asyncio.to_thread(use)

    run(scenario())


def test_keys_are_fetched_from_a_provider_with_a_root_of_its_own_and_from_no_other(tmp_path: Path) -> None:
    members = Members.create(tmp_path)
    (tmp_path / "roots.pem").write_bytes(members.root.root.certificate_pem)
    rules = msgspec.structs.replace(RULES, ca="roots.pem")

    def keys(who: str, rules: PeopleSettings) -> bytes:
        """What is fetched from a provider that shows this member's certificate."""
        identity, context = members.identity(who), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (tmp_path / "own.pem").write_bytes(identity.certificate_pem + identity.key_pem.reveal())
        context.load_cert_chain(tmp_path / "own.pem")
        with identity_server(BACK, tls=context) as provider:
            found = key_source(msgspec.structs.replace(rules, keys=f"{provider.url}/keys"), tmp_path)()
            assert found == provider.provider.key_set()
            return found

    assert keys("hub", rules)
    for who, other in (("hub", RULES), ("olga", rules)):  # the machine's own roots; a certificate for no host
        with pytest.raises(Unavailable, match="cannot be reached"):
            keys(who, other)


class Ahead(SystemClock):
    """The machine's clock, moved on by a test."""

    by = 0.0

    def now(self) -> float:
        return super().now() + self.by


def test_a_provider_that_is_away_or_answers_with_something_else_gives_no_keys(
    provider: IdentityServer, tmp_path: Path
) -> None:
    def keys(path: str) -> bytes:
        return key_source(msgspec.structs.replace(RULES, keys=f"{provider.url}{path}"), tmp_path)()

    assert keys("/keys") == provider.provider.key_set()
    for path in ("/nothing", f"/logout?post_logout_redirect_uri={BACK}"):
        with pytest.raises(Unavailable, match="no keys are there"):
            keys(path)
    provider.stop()
    with pytest.raises(Unavailable, match="cannot be reached"):
        keys("/keys")
