"""The plan of a run with a Flower app, made from the app's folder and the little that a person has to say beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from aimass.proto.apps import CONFIG, App, override
from aimass.proto.elements import dtype_name
from aimass.proto.errors import BadInput
from aimass.proto.flower.records import EMPTY_MODEL
from aimass.proto.hashing import digest_of
from aimass.proto.names import Name, SchemaName
from aimass.proto.plan import FLOWER, Cohort, Plan, SecureSettings, Stage, TaskRef, TrainSettings
from aimass.proto.storage import map_file
from aimass.proto.tensors import Array, encode_numpy, read_arrays
from aimass.proto.values import Scalar, Value, convert, decode_toml

__all__ = ["AppDraft", "app_plan", "initial_arrays", "read_app_draft"]

_ROUNDS: Final = "num-server-rounds"
"""The key that Flower's templates give the number of rounds."""


class AppDraft(Value, frozen=True):
    """What a person may say of a run with an app, in TOML or not at all.

    `name` is the app's without one, and `data_schema` is NAME/1. `rounds` is the most that the app may do, of training,
    of evaluation and of queries each; without it `num-server-rounds` of its configuration. The seed starts `random`,
    numpy and torch on both sides.
    """

    name: Name | None = None
    data_schema: SchemaName | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0
    rounds: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    cohort: Cohort = Cohort(quorum=2)
    secure: SecureSettings | None = None


def read_app_draft(text: str, what: str) -> AppDraft:
    """Decode a person's TOML; raises `BadInput` with the path of the fault."""
    return decode_toml(AppDraft, text, what)


def initial_arrays(path: Path) -> dict[str, Array]:
    """The arrays of anybody's safetensors file, by name; raises `BadInput` for one that holds no first model."""
    arrays = read_arrays(map_file(path))
    if not arrays:
        raise BadInput("the first model holds no array", code="app.initial", value=path)
    if odd := [name for name, array in arrays.items() if dtype_name(array) == "BF16"]:
        raise BadInput(
            "the first model holds bfloat16, which numpy does not have",
            code="app.initial",
            value=", ".join(odd[:5]),
            cure="Store it as float32.",
        )
    return arrays


def app_plan(
    app: App, draft: AppDraft, values: Mapping[str, Scalar], initial: Mapping[str, Array] | None = None
) -> tuple[Plan, bytes]:
    """The plan of a run of `app` with `values` over its configuration, and its first model: `initial` for a bare
    strategy, empty for a ServerApp, which brings its own.

    Raises `BadInput` for a value of a key that the app does not have, and for an app whose rounds nobody says.
    """
    for half, reference in (("clientapp", app.client_app), ("serverapp", app.server_app)):
        if not reference:
            raise BadInput(f"the app has no {half}", code="app.half", value=app.name)
    rounds = draft.rounds or override(app, values).get(_ROUNDS, 0)
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 1:
        raise BadInput(
            "nobody says how many rounds this app may do",
            code="app.rounds",
            value=rounds,
            cure=f"Give --rounds, or `rounds` in the plan: the app has no `{_ROUNDS}` from 1 on in its configuration.",
        )
    model = EMPTY_MODEL if initial is None else encode_numpy(initial)
    noised = draft.secure is not None and draft.secure.noise is not None
    plan = msgspec.structs.asdict(draft) | {
        "name": draft.name or app.name,
        "data_schema": draft.data_schema or f"{app.name}/1",
        "task": TaskRef(name=app.name, digest=app.digest, kind="app"),
        "model": digest_of([model]),
        "stages": (Stage(driver=FLOWER, options={"rounds": rounds} | {CONFIG + key: values[key] for key in values}),),
        # The app trains as it likes; what counts of this is the weight of its updates in a sum.
        "train": TrainSettings(batch_size=1, learning_rate=1.0, steps=1, weight="one" if noised else "rows"),
    }
    del plan["rounds"]
    return convert(Plan, msgspec.to_builtins(plan), f"the plan of {app.name}"), model
