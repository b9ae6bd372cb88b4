"""A Flower app as one partner runs it: its folder written by a test, messages in, replies out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from aimass.client.worker_protocol import FlowerApp, Order
from aimass.proto.contribution import Contribution
from aimass.proto.flower import records
from aimass.proto.plan import EvaluateSettings, TrainSettings
from aimass.proto.tensors import Blob

__all__ = ["app_folder", "arrays", "asked", "blobs", "decoded", "flower_app", "message_blobs", "order_for"]


def app_folder(folder: Path, code: str, module: str = "client_app") -> Path:
    """A folder with the app that `code` makes as `app`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "case"\nversion = "1.0"\n'
        f'[tool.flwr.app.components]\nclientapp = "{module}:app"\n'
        "[tool.flwr.app.config]\nlr = 0.5\n"
    )
    (folder / f"{module}.py").write_text(code)
    return folder


def flower_app(folder: Path, module: str = "client_app", *, secret_sums: bool = False) -> FlowerApp:
    """How a child is told to open it."""
    return FlowerApp(
        folder=str(folder), reference=f"{module}:app", node_id=42, run_id=7, run_config={"lr": 0.5},
        secret_sums=secret_sums,
    )  # fmt: skip


def arrays(**named: Any) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in named.items()})


def asked(record: ArrayRecord | None = None, **config: Any) -> RecordDict:
    """Content as the newer strategies send it."""
    content = RecordDict({"config": ConfigRecord(config)})
    if record is not None:
        content["arrays"] = record
    return content


def message_blobs(message_type: str, content: RecordDict) -> tuple[bytes, bytes]:
    """Model and records of a message, as they come over the wire."""
    model, rest = records.pack(message_type, content)
    return b"".join(model), b"".join(rest)


def order_for(message_type: str, seed: str = "11" * 32, weight: Any = "rows") -> Order:
    return Order(
        kind=records.kind_of(message_type), purpose="", seed=seed,
        train=TrainSettings(batch_size=1, learning_rate=1.0, steps=1, weight=weight), evaluate=EvaluateSettings(),
    )  # fmt: skip


def decoded(contribution: Contribution) -> RecordDict:
    return records.unpack_reply(contribution)


def blobs(message_type: str, content: RecordDict) -> list[Blob]:
    return [Blob(data) for data in message_blobs(message_type, content)]
