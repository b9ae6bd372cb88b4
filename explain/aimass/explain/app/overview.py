"""Asks all services at once what Home tells of them; one that is away or slow costs the others nothing."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, Final, cast

import urllib3

from aimass.explain.app.house import Here
from aimass.explain.app.noticing import ModelState, Overview, ServiceState
from aimass.explain.app.people import RUNS
from aimass.explain.app.sources import Sources
from aimass.explain.app.wording import amount
from aimass.privacy.pki import Role
from aimass.proto.errors import AimassError, NotFound, Unavailable
from aimass.proto.registry.entries import CHAMPION
from aimass.proto.registry.reader import UNVERIFIED
from aimass.proto.views import RunSummary, ServerView

__all__ = ["overview"]

_PATIENCE_S: Final = 3.0
"""How long Home waits for a service; the rest is shown without it."""
_OFTEN_S: Final = 5.0
_MODELS_S: Final = 10.0
_NEWEST: Final = 8
_STATES: Final = 20
_OK: Final = 200
_LONGEST: Final = 300


def overview(here: Here) -> Overview:
    """What there is to tell now; services that do not answer in time count as away."""
    asks = _asks(here)
    waiting = {title: here.house.in_flight.ask(title, one.whose, one.ask) for title, one in asks.items()}
    concurrent.futures.wait(waiting.values(), _PATIENCE_S)
    found, states = dict[str, Any](), list[ServiceState]()
    for title, one in asks.items():
        try:
            found[title] = waiting[title].result(0)
            states.append(ServiceState(title, one.address, one.told(found[title])))
        except AimassError as error:
            states.append(ServiceState(title, one.address, error.sentence(), away=True))
        except (TimeoutError, concurrent.futures.CancelledError):
            says = f"no answer within {_PATIENCE_S:g} s. It is asked again."
            states.append(ServiceState(title, one.address, says, away=True))
    server = cast("tuple[tuple[RunSummary, ...], ServerView | None]", found.get(_SERVER, ((), None)))
    return Overview(server[0], found.get(_REGISTRY, ()), tuple(states), server[1])


_SERVER: Final = "Training server"
_REGISTRY: Final = "Registry"
_DATA: Final = "Data set service"
_ALL: Final = ""
"""Whose a question is that comes to the same whoever asks."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """Where a service is, what asks it, what its answer comes to, and whose alone the answer is."""

    address: str
    ask: Callable[[], Any]
    told: Callable[[Any], str]
    whose: str = _ALL


def _asks(here: Here) -> dict[str, _Asked]:
    """By title. What a role may not see is not asked."""
    sources, whose, found = here.sources, here.person.key, dict[str, _Asked]()
    if sources.has_server:
        address = sources.federation().settings.server
        found[_SERVER] = _Asked(address, lambda: _runs(here), lambda seen: amount(len(seen[0]), "run"), whose)
    if sources.registry_url:
        found[_REGISTRY] = _Asked(
            sources.registry_url, lambda: _models(sources), lambda seen: amount(len(seen), "model")
        )
    if here.person.is_any(RUNS) and sources.has_data_sets:
        address = here.settings.data or sources.federation().settings.data
        found[_DATA] = _Asked(
            address, sources.all_data_sets, lambda seen: amount(len(seen.data_sets), "data set"), whose
        )
    for place, url in enumerate(here.settings.serving):
        title = "Serving" if len(here.settings.serving) == 1 else f"Serving {place + 1}"
        found[title] = _Asked(url, functools.partial(_serving, sources, url, here.settings.serving_authority), str)
    return found


def _runs(here: Here) -> tuple[tuple[RunSummary, ...], ServerView | None]:
    operates = here.person.role is Role.OPERATOR
    sources = here.sources
    status = sources.remembered("server-status", _OFTEN_S, lambda: sources.federation().status()) if operates else None
    return sources.runs(), cast("ServerView | None", status)


def _models(sources: Sources) -> tuple[ModelState, ...]:
    def read() -> object:
        return tuple(_model(sources, name) for name in sources.model_names())

    return cast("tuple[ModelState, ...]", sources.remembered("model-states", _MODELS_S, read))


def _model(sources: Sources, name: str) -> ModelState:
    registry = sources.registry()
    newest = tuple(itertools.islice(registry.every(name), _NEWEST))
    try:
        champion = registry.resolve(f"{name}@{CHAMPION}")
    except NotFound as error:
        if error.code != "registry.no_alias":
            return ModelState(name, error, newest)
        return ModelState(name, None, newest)
    except UNVERIFIED as error:
        return ModelState(name, error, newest)
    return ModelState(name, champion, newest, registry.history(name, CHAMPION, _STATES))


def _serving(sources: Sources, url: str, authority: str) -> str:
    def ask() -> object:
        pool = urllib3.PoolManager(retries=False, timeout=_PATIENCE_S, ca_certs=authority or None)
        try:
            answer = pool.request("GET", f"{url.rstrip('/')}/readyz")
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise Unavailable(
                "no serving process answers there",
                code="serve.away",
                value=type(error).__name__,
                cure="Start it: aimass serve MODEL, or aimass up.",
            ) from error
        if answer.status != _OK:
            says = answer.data[:_LONGEST].decode("utf-8", "replace").strip()
            raise Unavailable("the serving process is not ready", code="serve.not_ready", value=says or answer.status)
        return "ready"

    return str(sources.remembered(f"ready {url}", _OFTEN_S, ask))
