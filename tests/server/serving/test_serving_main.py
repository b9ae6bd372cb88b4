"""A serving process over loopback: a registry in a folder, models that answer in this process, callers over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aimass.proto.errors import AimassError, BadInput, NotFound, Refused, Unauthenticated, Unavailable
from aimass.proto.objects import ObjectInfo, ObjectStore, open_objects
from aimass.proto.serving_client import ServingClient
from aimass.proto.values import canonical_json
from aimass.server.serving.dispatch.seam import Loaded, Source
from aimass.server.serving.main import Started, serve
from aimass.server.serving.settings import ServeSettings, load_settings
from aimass.server.serving.tokens import Token, TokenFile, digest_of_token, make_token, write_tokens
from aimass.server.serving.watching.observer import Observer
from tests.support.authorities import Authority
from tests.support.clock import ManualClock
from tests.support.fronts import PATIENTS, ROW, DirectDispatcher
from tests.support.objects import MemoryObjects
from tests.support.registries import PARAMETERS, put_alias, put_version, trusting, version_of


class Place:
    """A registry with a champion, the trust file, and a process that serves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: ObjectStore = open_objects((folder / "registry").as_uri())
        self.digest = put_version(self.store, msgspec.structs.replace(version_of("heart", 1), schema=PATIENTS))
        put_alias(self.store, "heart", "champion", 1, 1, self.digest, "olga")
        (folder / "trust.json").write_bytes(canonical_json(trusting("olga")))
        self.dispatcher = DirectDispatcher({})
        self.clock = ManualClock()

    def settings(self, **fields: Any) -> ServeSettings:
        usual = {
            "models": ["heart"],
            "registry": self.store.url,
            "trust": str(self.folder / "trust.json"),
            "http": "127.0.0.1:0",
            "cache": str(self.folder / "cache"),
            "drain_s": 5.0,
        }
        return load_settings(None, usual | fields, {"XDG_CONFIG_HOME": str(self.folder)})

    @contextlib.asynccontextmanager
    async def _dispatching(self, settings: ServeSettings) -> AsyncIterator[DirectDispatcher]:
        yield self.dispatcher
        await self.dispatcher.close(settings.drain_s)

    def run(self, check: Callable[[Started, asyncio.Event], Awaitable[None]], **fields: Any) -> None:
        """Serve while `check` runs."""

        async def scene() -> None:
            stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
            serving = asyncio.create_task(
                serve(
                    self.settings(**fields),
                    self._dispatching,
                    stop,
                    started.set_result,
                    clock=self.clock,
                    open_store=lambda _: self.store,
                )
            )
            await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
            try:
                await asyncio.wait_for(check(started.result(), stop), 20)
            finally:
                stop.set()
                await serving

        asyncio.run(scene())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def asked(port: int, method: str, path: str, body: object = None, context: ssl.SSLContext | None = None) -> Any:
    """Status and JSON of an answer."""
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    with contextlib.closing(connection):
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())


async def ask(port: int, method: str, path: str, body: object = None, context: ssl.SSLContext | None = None) -> Any:
    return await asyncio.to_thread(asked, port, method, path, body, context)


def test_the_champion_is_verified_loaded_and_answers(place: Place) -> None:
    async def check(started: Started, stop: asyncio.Event) -> None:
        status, told = await ask(started.http_port, "POST", "/predict", dict(ROW))
        assert (status, told["version"], told["label"]) == (200, 1, "yes")
        assert started.url == f"http://127.0.0.1:{started.http_port}"
        assert await ask(started.http_port, "GET", "/readyz") == (200, {"ready": True, "reasons": []})
        shown = await asyncio.to_thread(ServingClient(started.url).status)
        [version] = shown.models[0].versions
        assert (version.version, version.share, version.task) == (1, 1.0, "heart")
        assert shown.decisions[-1].version == 1

    place.run(check)
    [source] = place.dispatcher.sources
    assert source.parameters.read_bytes() == PARAMETERS
    assert place.dispatcher.closed


def test_figures_say_who_answers(place: Place) -> None:
    async def check(started: Started, stop: asyncio.Event) -> None:
        await ask(started.http_port, "POST", "/predict", dict(ROW))
        text = (await asyncio.to_thread(ServingClient(started.url).get, "/metrics")).decode()
        assert 'aimass_http_requests_total{route="predict",status="200"} 1.0' in text
        assert 'aimass_serving_share{model="heart",version="1"} 1.0' in text
        assert "aimass_ready 1.0" in text

    place.run(check)


def test_an_unsigned_model_is_not_served(place: Place) -> None:
    (place.folder / "trust.json").write_bytes(canonical_json(trusting("petra")))
    with pytest.raises(Unauthenticated):
        place.run(nobody_asks)
    assert place.dispatcher.sources == []


def test_parameters_that_are_not_those_that_were_signed_are_not_served(place: Place) -> None:
    version = version_of("heart", 1)
    place.store.put(f"heart/parameters/{version.parameters.digest}.safetensors", PARAMETERS[::-1])
    with pytest.raises(AimassError):
        place.run(nobody_asks)
    assert place.dispatcher.sources == []


def test_a_model_whose_registry_is_away_is_not_ready_and_not_unknown(place: Place) -> None:
    async def check(started: Started, stop: asyncio.Event) -> None:
        assert (await ask(started.http_port, "POST", "/predict", dict(ROW)))[0] == 503
        assert (await ask(started.http_port, "GET", "/v2/models/heart/ready"))[0] == 503
        assert (await ask(started.http_port, "GET", "/v2/models/other/ready"))[0] == 404
        status, told = await ask(started.http_port, "GET", "/readyz")
        why = {"code": "serving.not_ready", "what": "a model does not answer now: `aimass serve status` says which"}
        assert (status, told["reasons"]) == (503, [why])

    place.store = Away(place.store)
    place.run(check)


def test_a_watch_that_has_ended_is_a_reason_to_be_not_ready(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Observer) -> None:
        raise RuntimeError("a fault of ours")

    async def check(started: Started, stop: asyncio.Event) -> None:
        assert await ask(started.http_port, "GET", "/readyz") == (200, {"ready": True, "reasons": []})
        monkeypatch.setattr(Observer, "taken", fail)
        place.clock.advance(1.0)
        status, told = await ask(started.http_port, "GET", "/readyz")
        assert (status, [one["code"] for one in told["reasons"]]) == (503, ["serving.watch_ended"])
        assert (await ask(started.http_port, "POST", "/predict", dict(ROW)))[0] == 200, "what serves stays"

    place.run(check)


class Away(MemoryObjects):
    """A store that nobody reaches."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__()
        self.url = store.url

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        raise Unavailable("away", code="storage.unavailable")

    def read(self, key: str, start: int = 0, size: int | None = None, version: str = "") -> bytes:
        raise Unavailable("away", code="storage.unavailable")


def test_a_stop_while_models_are_loaded_ends_the_start(place: Place) -> None:
    async def hangs(source: Source) -> Loaded:
        loading.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def scene() -> None:
        stop = asyncio.Event()
        serving = asyncio.create_task(
            serve(place.settings(), place._dispatching, stop, started.append, clock=ManualClock())
        )
        await asyncio.wait_for(loading.wait(), 20)
        stop.set()
        await asyncio.wait_for(serving, 20)

    loading, started = asyncio.Event(), list[Started]()
    place.dispatcher.load = hangs  # type: ignore[method-assign]
    asyncio.run(scene())
    assert (place.dispatcher.closed, started) == (True, [])


async def nobody_asks(started: Started, stop: asyncio.Event) -> None:
    raise AssertionError("it started")


def test_a_load_by_name_takes_what_the_alias_points_at_now_and_lets_the_former_go(place: Place) -> None:
    async def check(started: Started, stop: asyncio.Event) -> None:
        digest = put_version(place.store, msgspec.structs.replace(version_of("heart", 2), schema=PATIENTS))
        put_alias(place.store, "heart", "champion", 2, 2, digest, "olga")
        assert await ask(started.http_port, "POST", "/v2/repository/models/heart/load") == (200, {})
        assert (await ask(started.http_port, "POST", "/predict", dict(ROW)))[1]["version"] == 2
        while (await ask(started.http_port, "GET", "/v2/models/heart"))[1]["versions"] != ["2"]:
            pass
        assert (await ask(started.http_port, "POST", "/v2/repository/models/other/load"))[0] == 404
        assert await ask(started.http_port, "POST", "/v2/repository/models/heart/unload") == (200, {})
        assert (await ask(started.http_port, "POST", "/predict", dict(ROW)))[0] == 503
        assert (await ask(started.http_port, "GET", "/v2/health/ready"))[0] == 503

    at_once = {"canary": [], "watch_s": 0.0}
    place.run(check, watch={"rollout": at_once})


def test_a_stop_answers_what_is_open_and_takes_nothing_new(place: Place) -> None:
    async def check(started: Started, stop: asyncio.Event) -> None:
        place.dispatcher.held = []
        open_ = asyncio.create_task(ask(started.http_port, "POST", "/predict", dict(ROW)))
        await place.dispatcher.came.wait()
        stop.set()
        with pytest.raises(OSError, match=r"refused|closed|reset"):
            while True:
                await ask(started.http_port, "GET", "/v2/health/live")
        assert not place.dispatcher.closed
        place.dispatcher.release()
        assert (await open_)[0] == 200

    place.run(check)


def test_a_stop_is_told_to_probes_before_the_port_closes(place: Place) -> None:
    async def check(started: Started, stop: asyncio.Event) -> None:
        stop.set()
        while (await ask(started.http_port, "GET", "/readyz"))[0] == 200:
            pass
        assert (await ask(started.http_port, "POST", "/predict", dict(ROW)))[0] == 200
        place.clock.advance(30.0)
        with pytest.raises(OSError, match=r"refused|closed|reset"):
            while True:
                await ask(started.http_port, "GET", "/v2/health/live")

    place.run(check, leave_s=30.0)


def test_several_processes_share_a_port_where_all_say_so(place: Place) -> None:
    async def check(started: Started, stop: asyncio.Event) -> None:
        other = Place(place.folder / "other")
        port = f"127.0.0.1:{started.http_port}"
        with pytest.raises(Unavailable) as refused:
            await asyncio.to_thread(other.run, nobody_asks, http=port)
        assert "--share-port" in refused.value.cure

        async def both(again: Started, stop: asyncio.Event) -> None:
            assert again.http_port == started.http_port

        await asyncio.to_thread(other.run, both, http=port, share_port=True)

    (place.folder / "other").mkdir()
    place.run(check, share_port=True)


def test_tls_shows_its_certificate_asks_for_callers_and_takes_a_renewed_one(place: Place, tmp_path: Path) -> None:
    servers, callers = Authority(), Authority()
    names = {name: tmp_path / name for name in ("certificate", "key", "client_ca", "root", "mine", "mine_key")}
    names["client_ca"].write_bytes(callers.pem)
    names["root"].write_bytes(servers.pem)

    def renew() -> None:
        key, chain = servers.pair("serving", "127.0.0.1")
        names["key"].write_bytes(key)
        names["certificate"].write_bytes(chain)

    renew()
    key, chain = callers.pair("olga")
    names["mine"].write_bytes(chain)
    names["mine_key"].write_bytes(key)
    bare = ssl.create_default_context(cafile=names["root"])
    mine = ssl.create_default_context(cafile=names["root"])
    mine.load_cert_chain(names["mine"], names["mine_key"])

    async def check(started: Started, stop: asyncio.Event) -> None:
        port = started.http_port
        assert started.url.startswith("https://")
        assert (await ask(port, "POST", "/predict", dict(ROW), mine))[0] == 200
        for context in (bare, None):
            with pytest.raises((OSError, http.client.HTTPException)):
                await ask(port, "GET", "/v2/health/live", context=context)
        first = await asyncio.to_thread(_serial, port, mine)
        renew()
        place.clock.advance(1.0)
        while await asyncio.to_thread(_serial, port, mine) == first:
            pass

    tls = {name: str(names[name]) for name in ("certificate", "key", "client_ca")}
    place.run(check, tls=tls)


def _serial(port: int, context: ssl.SSLContext) -> object:
    bare = socket.create_connection(("127.0.0.1", port), 10)
    with context.wrap_socket(bare, server_hostname="127.0.0.1") as secured:
        return (secured.getpeercert() or {})["serialNumber"]


def test_revoked_tokens_end_while_it_runs(place: Place) -> None:
    secret, path = make_token(lambda size: b"\x01" * size), place.folder / "tokens.json"
    token = Token(name="clinic", digest=digest_of_token(secret.reveal()), may=("see",))
    write_tokens(path, TokenFile(tokens=(token,)))
    (place.folder / "token").write_bytes(secret.reveal() + b"\n")
    (place.folder / "token").chmod(0o600)

    async def check(started: Started, stop: asyncio.Event) -> None:
        client = ServingClient(started.url, place.folder / "token")
        assert (await asyncio.to_thread(client.status)).models[0].name == "heart"
        with pytest.raises(Unauthenticated):
            await asyncio.to_thread(ServingClient(started.url).status)
        write_tokens(path, TokenFile())
        place.clock.advance(1.0)
        with pytest.raises(Unauthenticated):
            while True:
                await asyncio.to_thread(client.status)

    place.run(check, tokens=str(path))


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"models": []}, BadInput, "serve.settings"),
        ({"registry": ""}, BadInput, "serve.settings"),
        ({"trust": ""}, BadInput, "serve.settings"),
        ({"models": ["heart", "heart@2"]}, BadInput, "serve.models"),
        ({"models": ["heart@"]}, BadInput, "registry.reference"),
        ({"http": "0.0.0.0:8080"}, Refused, "serve.open"),
        ({"grpc": "[::]:8081"}, Refused, "serve.open"),
        ({"http": "here"}, BadInput, "wire.address"),
        ({"infer_s": 0}, BadInput, "value.invalid"),
        ({"infer_s": 10.0}, BadInput, "serve.hang"),
        ({"dispatch": {"hang_s": 15.1}}, BadInput, "serve.hang"),
        ({"tls": {"certificate": "a"}}, BadInput, "value.invalid"),
        ({"unknown": 1}, BadInput, "value.invalid"),
    ],
)
def test_settings_that_cannot_be_are_named(
    place: Place, fields: dict[str, Any], error: type[AimassError], code: str
) -> None:
    with pytest.raises(error) as refused:
        place.settings(**fields)
    assert refused.value.code == code


def test_settings_come_from_a_file_the_environment_and_options_in_this_order(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text('models = ["heart"]\nregistry = "file:///a"\ntrust = "t"\nlog = "json"\n[dispatch]\nworkers = 2\n')
    environment = {"AIMASS_SERVE_REGISTRY": "file:///b", "AIMASS_SERVE_HTTP_LIMITS__BODY_BYTES": "99"}
    found = load_settings(path, {"log": "text"}, environment)
    assert (found.registry, found.log, found.dispatch.workers, found.http_limits.body_bytes) == (
        "file:///b",
        "text",
        2,
        99,
    )
    assert load_settings(None, {"models": ["a"], "trust": "t"}, {"AIMASS_REGISTRY": "s3://b"}).registry == "s3://b"


def test_registry_and_trust_file_are_those_of_aimass_model_where_nobody_names_others(tmp_path: Path) -> None:
    folder = tmp_path / "aimass"
    folder.mkdir()
    (folder / "registry.toml").write_text('url = "s3://c"\n')
    (folder / "trust.json").touch()
    found = load_settings(None, {"models": ["a"]}, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert (found.registry, found.trust) == ("s3://c", str(folder / "trust.json"))


def test_a_registry_without_the_model_says_so(place: Place) -> None:
    with pytest.raises(NotFound):
        place.run(nobody_asks, models=["heart@9"])


def test_a_port_that_is_taken_is_named(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        with pytest.raises(Unavailable) as refused:
            place.run(nobody_asks, http=f"127.0.0.1:{held.getsockname()[1]}")
        assert refused.value.code == "serve.port"


def test_commands_reach_a_server_by_its_authority_and_nobody_elses(place: Place, tmp_path: Path) -> None:
    servers = Authority()
    key, chain = servers.pair("serving", "127.0.0.1")
    for name, data in {"key": key, "certificate": chain, "root": servers.pem, "other": Authority().pem}.items():
        (tmp_path / name).write_bytes(data)

    async def check(started: Started, stop: asyncio.Event) -> None:
        found = await asyncio.to_thread(ServingClient(started.url, authority=tmp_path / "root").status)
        assert found.models[0].name == "heart"
        with pytest.raises(Unavailable):
            await asyncio.to_thread(ServingClient(started.url, authority=tmp_path / "other").status)

    place.run(check, tls={"certificate": str(tmp_path / "certificate"), "key": str(tmp_path / "key")})
