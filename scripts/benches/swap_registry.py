"""The registry of the swap bench: versions of the small network, right and bad ones, written as anybody with the
store's keys could: the documents are signed by who may, or by a stranger."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save

from aimass.privacy.model_trust import signed
from aimass.privacy.signing import public_key
from aimass.proto.numbered import Numbered
from aimass.proto.objects import ObjectStore
from aimass.proto.plan import TaskRef
from aimass.proto.registry.entries import CHAMPION, Alias, HeldOut, ModelVersion, Part, Signed, SmokeInputs, Spent
from aimass.proto.registry.layout import alias_prefix, parameters_key, report_key, versions_prefix
from aimass.proto.registry.trust import Kind, Signer, TrustFile
from aimass.proto.task import load, locate
from aimass.proto.values import Value, canonical_json, decode_json
from scripts.benches import dense_task
from scripts.benches.swap_schedule import Fault

__all__ = ["FAULTY", "FAULTY_TASK", "Publisher", "trust_file"]

FAULTY: Final = "faulty"
_LATE_CALLS: Final = 300
_HOW: Final = {"nan": 0.0, "hang": 1.0, "crash": 2.0}
FAULTY_TASK: Final[Mapping[str, str]] = {
    "__init__.py": '''"""The same network, which goes wrong after some calls: its parameters say how and when."""

import os
import time

from dense import Dense


class Faulty(Dense):
    def build(self):
        from faulty.network import Faulty

        return Faulty()

    def servable(self, parameters, device="cpu"):
        return Erring(super().servable(parameters, device), *parameters.arrays()["fault"].tolist())


class Erring:
    def __init__(self, right, how, after):
        self.right, self.how, self.left = right, how, after
        self.inputs, self.outputs = right.inputs, right.outputs

    def infer(self, tensors):
        self.left -= 1
        answer = self.right.infer(tensors)
        if self.left >= 0:
            return answer
        if self.how == 0:
            return {name: one * float("nan") for name, one in answer.items()}
        if self.how == 1:
            time.sleep(3600)
        os._exit(1)


task = Faulty()
''',
    "network.py": '''"""Its network: the fault is a parameter, so that it is part of the digest."""

import torch
from dense.network import Network


class Faulty(Network):
    def __init__(self):
        super().__init__()
        self.register_buffer("fault", torch.zeros(2))
''',
}


def trust_file(owner: Ed25519PrivateKey) -> bytes:
    """A trust file that believes one key in all things."""
    signer = Signer(name="owner", key=public_key(owner).hex(), may=("publish", "promote"))
    return canonical_json(TrustFile(signers=(signer,)))


@dataclasses.dataclass(frozen=True, slots=True)
class Publisher:
    """Writes a model into a store, under a key."""

    store: ObjectStore
    name: str
    key: Ed25519PrivateKey

    def good(self, seed: int) -> int:
        """Publish the network of a seed; its number."""
        state = dense_task.chance_parameters(seed)
        return self._publish(state, dense_task.TASK, save(state), seed)

    def bad(self, fault: Fault, seed: int) -> int:
        """Publish the network of a seed with a fault; its number."""
        state = dense_task.chance_parameters(seed)
        how = fault.removeprefix("late_")
        if how in _HOW:
            calls = _LATE_CALLS if fault.answers_at_first else 0
            return self._publish(state, FAULTY, save(state | {"fault": np.array([_HOW[how], calls], np.float32)}), seed)
        if fault is Fault.OTHER_TASK:
            return self._publish(state, "heart", save(state), seed)
        blob = save(state)
        number = self._publish(state, dense_task.TASK, blob, seed)
        if fault is not Fault.STRANGER:
            self._spoil(blob, half=fault is Fault.HALF_FILE)
        return number

    def promote(self, number: int, reason: str, key: Ed25519PrivateKey | None = None) -> None:
        """Have the champion be a version from now on, signed by another key where one is given."""
        versions = Numbered(self.store, versions_prefix(self.name))
        data = versions.read(number)
        digest = hashlib.sha256(_document(data)).hexdigest()
        aliases = Numbered(self.store, alias_prefix(self.name, CHAMPION))
        newest = aliases.newest()
        alias = Alias(
            model=self.name, alias=CHAMPION, number=newest.number + 1 if newest else 1, version=number,
            version_digest=digest, reason=reason, at=time.time(), by="bench",
        )  # fmt: skip
        aliases.commit(alias.number, signed(key or self.key, Kind.ALIAS, alias))

    def _publish(self, state: Mapping[str, npt.NDArray[np.float32]], task: str, blob: bytes, seed: int) -> int:
        parameters, smoke = _part(blob), canonical_json(_smoke(state, seed))
        self.store.put(parameters_key(self.name, parameters.digest), blob)
        self.store.put(report_key(self.name, _part(smoke).digest), smoke)
        versions = Numbered(self.store, versions_prefix(self.name))
        source = locate(task)
        version = ModelVersion(
            name=self.name, number=max(versions.numbers(), default=0) + 1,
            task=TaskRef(name=task, digest=source.digest), schema=load(source).schema,
            parameters=parameters, smoke=_part(smoke), created_at=time.time(), by="bench",
            held_out=HeldOut(reason="made by chance"), privacy=Spent(reason="made by chance"),
        )  # fmt: skip
        versions.commit(version.number, signed(self.key, Kind.VERSION, version))
        return version.number

    def _spoil(self, blob: bytes, *, half: bool) -> None:
        """Put other bytes where a version's parameters stand."""
        key = parameters_key(self.name, hashlib.sha256(blob).hexdigest())
        self.store.put(key, blob[: len(blob) // 2] if half else blob[:-1] + bytes([blob[-1] ^ 1]))


def _part(data: bytes) -> Part:
    return Part(digest=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _document(envelope: bytes) -> bytes:
    return bytes(decode_json(Signed, envelope, "a version").document)


def _smoke(state: Mapping[str, npt.NDArray[np.float32]], seed: int) -> Value:
    rows = dense_task.some_rows(4, seed)
    columns = {name: tuple(rows[:, place].tolist()) for place, name in enumerate(dense_task.COLUMNS)}
    expected = tuple((value,) for value in dense_task.predicted(state, rows).tolist())
    return SmokeInputs(columns=columns, expected=expected, tolerance=1e-3)
