"""What a serving process is told: a TOML file, `AIMASS_SERVE_*` over it, and the command line over both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from aimass.proto.errors import BadInput, Refused
from aimass.proto.logs import LogForm
from aimass.proto.loopback import is_loopback
from aimass.proto.registry.layout import read_reference
from aimass.proto.registry.places import meant_trust, meant_url
from aimass.proto.settings import read_settings
from aimass.proto.values import Value, convert
from aimass.proto.wire import split_address
from aimass.server.people.settings import PeopleSettings
from aimass.server.serving.dispatch.settings import DispatchSettings
from aimass.server.serving.grpc.settings import GrpcLimits
from aimass.server.serving.http.settings import HttpLimits
from aimass.server.serving.input_rules import InputRules
from aimass.server.serving.people import PeopleMay, check_served_people
from aimass.server.serving.request_log import LogRequests
from aimass.server.serving.tls import TlsSettings
from aimass.server.serving.watching.settings import WatchSettings

__all__ = ["PREFIX", "ServeSettings", "WorkerSettings", "is_private", "load_settings"]

PREFIX: Final = "AIMASS_SERVE_"
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class WorkerSettings(Value, frozen=True):
    """What a worker may take: memory (0 is all that the machine has), bytes of one batch, seconds to be ready.

    `preload` are modules that are loaded once for all workers, where they are installed; trees need no torch.
    """

    memory_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    batch_bytes: Annotated[int, msgspec.Meta(ge=1 << 16)] = 64 << 20
    start_s: Seconds = 120.0
    preload: tuple[Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*\Z")], ...] = ("torch",)


class ServeSettings(Value, frozen=True):
    """Models as NAME, NAME@ALIAS or NAME@N; where they are kept and whose signatures count; where callers come.

    No request takes longer than `infer_s`, in which a worker can hang for `dispatch.hang_s` and another can answer. A
    stop is told to probes for `leave_s` before the ports close, so that load balancers look elsewhere, and then waits
    `drain_s` for requests that are under way. `open` lets everybody ask models who reaches an address that is not of
    this machine alone. `people` says whose tokens of an identity provider count over HTTP, and `people_may` for what.
    """

    models: tuple[str, ...] = ()
    registry: str = ""
    trust: str = ""
    http: str = "127.0.0.1:8080"
    grpc: str = ""
    cache: str = "serve-cache"
    tokens: str = ""
    open: bool = False
    share_port: bool = False
    device: str = "cpu"
    infer_s: Seconds = 30.0
    leave_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    drain_s: Seconds = 10.0
    log: LogForm = "text"
    log_requests: LogRequests = "failed"
    watch_listen: str = ""
    http_limits: HttpLimits = HttpLimits()
    grpc_limits: GrpcLimits = GrpcLimits()
    dispatch: DispatchSettings = DispatchSettings()
    worker: WorkerSettings = WorkerSettings()
    input: InputRules = InputRules()
    tls: TlsSettings = TlsSettings()
    watch: WatchSettings = WatchSettings()
    people: PeopleSettings = PeopleSettings()
    people_may: PeopleMay = PeopleMay()


def load_settings(
    path: Path | None, over: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> ServeSettings:
    """Settings from a file, if there is one, the environment and `over`; raises a named error for what cannot be.

    Where they name no registry or trust file, those are meant that `aimass model` means, if they are there.
    """
    text = path.read_text("utf-8") if path is not None else ""
    held = read_settings(ServeSettings, text, str(path or "the environment"), PREFIX, environment)
    fields = msgspec.to_builtins(held) | over
    fields["registry"] = meant_url(fields["registry"], environment)
    if not fields["trust"] and (usual := meant_trust("", environment)).is_file():
        fields["trust"] = str(usual)
    return _checked(convert(ServeSettings, fields, "the command line"))


def is_private(address: str) -> bool:
    """Whether an address is reached from this machine alone."""
    host, _ = split_address(address)
    return is_loopback(host)


def _checked(settings: ServeSettings) -> ServeSettings:
    absent = [
        option
        for option, value in (
            ("MODEL", settings.models),
            ("--registry", settings.registry),
            ("--trust", settings.trust),
        )
        if not value
    ]
    if absent:
        raise BadInput(
            "something is missing without which nothing can be served",
            code="serve.settings",
            value=", ".join(absent),
            cure="For example: aimass serve heart@champion --registry file:///srv/models --trust trust.json",
        )
    if 2 * settings.dispatch.hang_s > settings.infer_s:
        raise BadInput(
            "what a worker hung with could not be given to another within the time that a request has",
            code="serve.hang",
            value=f"dispatch.hang_s {settings.dispatch.hang_s:g}",
            limit=f"half of infer_s {settings.infer_s:g}",
            cure="Lower dispatch.hang_s, or raise infer_s.",
        )
    private = is_private(settings.http)
    check_served_people(settings.people, settings.people_may, private=private, tls=bool(settings.tls.certificate))
    names = [read_reference(model).name for model in settings.models]
    if len(set(names)) != len(names):
        raise BadInput("a model is named twice", code="serve.models", value=", ".join(settings.models))
    for address in filter(None, (settings.http, settings.grpc, settings.watch_listen)):
        split_address(address)
    for address in filter(None, (settings.http, settings.grpc)):
        if not (is_private(address) or settings.tokens or settings.tls.client_ca or settings.open):
            raise Refused(
                "this address can be reached from other machines, and nobody would be asked who they are",
                code="serve.open",
                value=address,
                cure="Make tokens (aimass serve token add NAME), or say --open if everybody may ask.",
            )
    return settings
