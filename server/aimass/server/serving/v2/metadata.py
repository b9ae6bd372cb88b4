"""What a server says of itself and of its models: health, metadata, the repository's index.

Open Inference Protocol, version 2, "Server Metadata", "Model Metadata"; Triton, "Model Repository Extension".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.servable import TensorSpec
from aimass.proto.values import Scalar, decode_json
from aimass.server.serving.dispatch.seam import Loaded, ModelState

__all__ = [
    "EXTENSIONS",
    "PLATFORM",
    "SERVER_NAME",
    "IndexEntry",
    "decode_index_request",
    "decode_repository_request",
    "index_entries",
    "index_json",
    "live_json",
    "model_json",
    "model_ready_json",
    "ready_json",
    "refuse_overrides",
    "server_json",
    "versions_of",
]

SERVER_NAME: Final = "aimass"
PLATFORM: Final = "aimass"
EXTENSIONS: Final = ("binary_tensor_data", "model_repository", "parameters", "schedule_policy")
"""What this server has beyond the protocol, by Triton's names; of `schedule_policy` the parameter `timeout`."""


class IndexEntry(msgspec.Struct, frozen=True):
    """A version of a model as the index lists it; without a version where none is in memory."""

    name: str
    version: str
    state: str
    reason: str


class _IndexRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ready: bool = False


class _RepositoryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    parameters: dict[str, Scalar] = {}


def live_json(*, live: bool) -> bytes:
    """Whether the server can be spoken to."""
    return msgspec.json.encode({"live": live})


def ready_json(*, ready: bool) -> bytes:
    """Whether all models are ready."""
    return msgspec.json.encode({"ready": ready})


def model_ready_json(model: str, *, ready: bool) -> bytes:
    """Whether one model is ready."""
    return msgspec.json.encode({"name": model, "ready": ready})


def server_json(release: str) -> bytes:
    """The server's metadata."""
    return msgspec.json.encode({"name": SERVER_NAME, "version": release, "extensions": EXTENSIONS})


def model_json(loaded: Loaded, versions: Sequence[str]) -> bytes:
    """A model's metadata: what one version takes and answers, and which others may be asked by number."""
    return msgspec.json.encode(
        {
            "name": loaded.model,
            "versions": versions,
            "platform": PLATFORM,
            "inputs": [_tensor(one) for one in loaded.inputs],
            "outputs": [_tensor(one) for one in loaded.outputs],
        }
    )


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    """Name, datatype and shape; what the protocol has no place for stands under `parameters`."""
    said = {"also": spec.also, "optional": spec.optional, "labels": spec.labels}
    parameters = {name: value for name, value in said.items() if value}
    tensor = {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
    return {**tensor, "parameters": parameters} if parameters else tensor


def versions_of(state: ModelState) -> list[str]:
    """The versions of a model that are in memory, as text, the oldest first."""
    return [str(number) for number in sorted(one.version for one in state.versions)]


def index_entries(models: Iterable[ModelState], *, ready: bool = False) -> list[IndexEntry]:
    """The index: an entry for each version in memory, and one for a model that has none; with `ready` only those."""
    entries = [
        IndexEntry(one.name, version, one.state, one.reason) for one in models for version in versions_of(one) or [""]
    ]
    return [one for one in entries if one.state == "READY"] if ready else entries


def index_json(entries: Iterable[IndexEntry]) -> bytes:
    """The index as JSON."""
    return msgspec.json.encode(list(entries))


def decode_index_request(body: bytes) -> bool:
    """Whether only ready models are asked for; an empty body asks for all."""
    return decode_json(_IndexRequest, body, "the request").ready if body else False


def decode_repository_request(body: bytes) -> None:
    """Check a request to load or unload; an empty body is one.

    Raises `BadInput` for parameters that would load something else than the registry's: `config`, `file:…`.
    """
    parameters = decode_json(_RepositoryRequest, body, "the request").parameters if body else {}
    refuse_overrides(parameters)


def refuse_overrides(names: Iterable[str]) -> None:
    """Raises `BadInput` for parameters of a load that bring a configuration or files of their own."""
    if found := sorted(name for name in names if name == "config" or name.startswith("file:")):
        raise BadInput(
            "a model is loaded as its registry has it",
            code="v2.load_parameters",
            value=", ".join(found),
            cure="Publish what is to be served, and load it without these parameters.",
        )
