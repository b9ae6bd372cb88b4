"""Which endpoint a path names: patterns of segments, of which `{name}` stands for any one; no socket, no state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from aimass.proto.errors import AimassError, NotFound
from aimass.server.serving.access import Caller
from aimass.server.serving.http.connection import Cancel, Reply
from aimass.server.serving.http.messages import Request
from aimass.server.serving.tokens import May

__all__ = ["Call", "Endpoint", "MethodRefused", "Route", "Routes"]


class Call(msgspec.Struct, frozen=True):
    """A request, the model that it means and the version that its path names ("" where there is none), and who asks."""

    request: Request
    model: str
    version: str
    caller: Caller


Endpoint = Callable[[Call, Reply], Cancel | None]
"""Answers a call now or later; raises the named error that is its answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """A pattern such as `/v2/models/{model}/infer`. `may` is what a caller has to be allowed to; None is for all.

    `meant` says which model a path without one means, so that a caller is admitted to that one; "" where none is.
    """

    name: str
    method: str
    pattern: str
    may: May | None
    endpoint: Endpoint
    meant: Callable[[], str] | None = None


class MethodRefused(AimassError):
    """The path is there, for other methods."""

    kind = "refused"

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__("this path has another method", code="http.method", value=method, limit=", ".join(allowed))
        self.allowed = allowed


_KEPT: Final = 4_096
_Found = tuple[Mapping[str, Route], Mapping[str, str]]


class Routes:
    """Routes by path and method; what was found for a path is kept, since most callers ask the same few."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._patterns: dict[tuple[str, ...], dict[str, Route]] = {}
        for route in routes:
            self._patterns.setdefault(_segments(route.pattern), {})[route.method] = route
        self._found: dict[str, _Found] = {}

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route and what stands for its names; raises `NotFound` or `MethodRefused`."""
        found = self._found.get(path)
        if found is None:
            found = self._match(path)
            if len(self._found) < _KEPT:
                self._found[path] = found
        by_method, names = found
        route = by_method.get("GET" if method == "HEAD" else method)
        if route is None:
            raise MethodRefused(method, tuple(sorted(by_method)))
        return route, names

    def _match(self, path: str) -> _Found:
        parts = _segments(path)
        for pattern, by_method in self._patterns.items():
            if len(pattern) == len(parts) and all(
                want == have or (want[:1] == "{" and have) for want, have in zip(pattern, parts, strict=True)
            ):
                return by_method, {
                    want[1:-1]: have for want, have in zip(pattern, parts, strict=True) if want[:1] == "{"
                }
        raise NotFound("there is no such path", code="http.path", value=path, cure="/docs shows what there is.")


def _segments(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/"))
