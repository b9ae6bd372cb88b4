"""What a house of the lab is made of: a plan whose sums are exact, a child that makes known numbers, a clock, a record."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.client.child import Made
from aimass.client.worker_protocol import Opened
from aimass.proto.contribution import Contribution
from aimass.proto.plan import Cohort, EvaluateSettings, Plan, SecureSettings, Stage, TaskRef, TrainSettings
from aimass.proto.task import locate
from aimass.proto.tensors import Blob

__all__ = [
    "LANES",
    "PHASE_S",
    "POLICY",
    "SCALE",
    "WAIT_S",
    "WEIGHT",
    "Escaped",
    "LabClock",
    "Record",
    "Worker",
    "plan",
    "update",
]

Vector = npt.NDArray[np.float32]
WAIT_S: Final = 30.0
LANES: Final = 4
BITS: Final = 20
SCALE: Final = 1024.0
WEIGHT: Final = 64
PHASE_S: Final = 200.0
POLICY: Final = f"""confinement = []
schemas = {{ "heart/1" = "heart" }}
[[tasks]]
name = "heart"
digest = "{locate("heart").digest}"
"""


class Escaped(AssertionError):
    """An attack was not refused as the specification names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One line of somebody's log."""

    who: str
    code: str
    text: str
    about: str
    step: int | None


class LabClock:
    """The machine's clock; `advance` moves it, and wakes who waited for the time that has come."""

    def __init__(self) -> None:
        self._shift = 0.0
        self._moved = asyncio.Event()

    def now(self) -> float:
        return time.time() + self._shift

    async def sleep(self, seconds: float) -> None:
        until = self.now() + seconds
        while (left := until - self.now()) > 0:
            moved = self._moved
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(moved.wait(), left)

    def advance(self, seconds: float) -> None:
        self._shift += seconds
        self._moved.set()
        self._moved = asyncio.Event()


def update(place: int) -> Vector:
    """A partner's update: multiples of the lanes' step, so that every sum of them is exact."""
    made: Vector = ((np.arange(LANES) + 1 + 37 * place) * (-1) ** place / SCALE).astype(np.float32)
    return made


class Worker:
    """A child that makes what the lab says."""

    opened = Opened(device="none", confinement=("process",), training_rows=1, held_out_rows=1)
    alive = True

    def __init__(self, made: Callable[[], Contribution]) -> None:
        self._made = made

    async def work(self, *_: object) -> Made:
        return Made(memoryview(self._made().encode()), memoryview(b"state"))

    async def stop(self) -> None:
        pass


def plan(partners: Sequence[str], model: bytes, rounds: int = 1, **secure: Any) -> Plan:
    """An averaging run of these partners; lanes hold SCALE to one, without a rounding error."""
    settings: dict[str, Any] = {
        "clip": (2 ** (BITS - 1) - 1) / SCALE,
        "bits": BITS,
        "max_weight": WEIGHT,
        "metrics": (),
        "colluders": 0.1,
        "dropouts": 0.2,
        "min_cohort": 3,
        "phase_s": PHASE_S,
        "attempts": 8,
    }
    return Plan(
        name="lab", task=TaskRef(name="heart", digest=locate("heart").digest), data_schema="heart/1", seed=1,
        model=Blob(model).digest, stages=(Stage(driver="averaging", options={"rounds": rounds}),),
        train=TrainSettings(batch_size=1, learning_rate=0.1, epochs=1, weight="one" if "noise" in secure else "rows"),
        evaluate=EvaluateSettings(every=0),
        cohort=Cohort(partners=tuple(partners), quorum=(settings | secure)["min_cohort"], step_deadline_s=3_000.0, join_deadline_s=3_000.0),
        secure=SecureSettings(**(settings | secure)),
    )  # fmt: skip
