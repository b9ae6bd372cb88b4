"""The space of a search: which settings of a plan are tried, within which limits, and by what they are judged. Pure.

A setting has the name that it has in the plan's file, with dots: `train.learning_rate`, `stages.0.options.rounds`. All
are checked against the plan before anything runs. A setting that matters only where another has some value is none of a
space: search once for each such value.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from aimass.explain.runs.outcomes import Objective
from aimass.explain.tune.places import known_beside, takes
from aimass.proto.dotted import with_settings
from aimass.proto.errors import BadInput
from aimass.proto.plan import PlanDraft
from aimass.proto.values import Scalar, Value, convert

__all__ = ["Goal", "Setting", "Space", "check_space", "read_space"]

Goal = Literal["epsilon", "bytes", "seconds"]
"""What a run may cost little of, beside being good."""
_LEAF: Final = frozenset({"low", "high", "log", "step", "choices"})
_FIXED: Final = {
    "name": "runs of a search are named by it",
    "task": "runs of one task are compared",
    "data_schema": "runs of one task are compared",
    "seed": "the search repeats each setting with its own seeds",
    "needs": "it changes nothing that is computed",
    "promote": "no run of a search is published",
    "study": "the search writes it",
    "cohort.quorum": "runs over other partners cannot be compared",
    "early_stop.metric": "it must be the same for all",
    "privacy.delta": "epsilons at other deltas cannot be compared",
    "privacy.unit": "epsilons of other units cannot be compared",
    "privacy.rows_per_person": "it goes with the unit",
    "secure.noise.delta": "epsilons at other deltas cannot be compared",
}


class Setting(Value, frozen=True):
    """One setting's values: from `low` to `high`, evenly or `log`-evenly, in steps of `step`; or one of `choices`."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: Annotated[float, msgspec.Meta(gt=0)] | None = None
    choices: tuple[Scalar, ...] = ()

    def __post_init__(self) -> None:
        if self.choices:
            self._check_choices()
            return
        if self.low is None or self.high is None:
            raise ValueError("give `low` and `high`, or `choices`")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"the range from {self.low:g} to {self.high:g} is empty: `low` must be below `high`")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("`log` needs a `low` above 0, and no `step`")
        if self.step is not None and self.step > self.high - self.low:
            raise ValueError(f"a `step` of {self.step:g} is longer than the range: it has one value")

    def _check_choices(self) -> None:
        if self.low is not None or self.high is not None or self.log or self.step is not None:
            raise ValueError("`choices` go without `low`, `high`, `log` and `step`")
        if len({(type(one), one) for one in self.choices}) < len(self.choices) or len(self.choices) < 2:
            raise ValueError("`choices` are two or more, each once")

    @property
    def numbers(self) -> tuple[float, ...]:
        """Those that describe its range; none of choices."""
        return tuple(float(one) for one in (self.low, self.high, self.step) if one is not None)


class Space(Value, frozen=True):
    """What a search tries. `metric` of the plan's evaluation is what settings are judged by, as a run has it at its
    end, and `also` what they should cost little of. `settings` are by dotted name."""

    metric: Annotated[str, msgspec.Meta(min_length=1, max_length=127)]
    settings: Annotated[dict[str, Setting], msgspec.Meta(min_length=1, max_length=50)]
    better: Literal["higher", "lower", "usual"] = "usual"
    also: tuple[Goal, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.also)) < len(self.also):
            raise ValueError("`also` names a goal twice")

    @property
    def objective(self) -> Objective:
        """The metric and which way is better; raises `BadInput` where its name does not say it, nor `better`."""
        return Objective.of(self.metric) if self.better == "usual" else Objective(self.metric, self.better)

    def is_whole(self, name: str) -> bool:
        """Whether a range is of whole numbers: where the plan takes no others, or all of its numbers are whole."""
        kinds, written = takes(name), all(one.is_integer() for one in self.settings[name].numbers)
        return "float" not in kinds or ("int" in kinds and written)

    def number(self, name: str, value: float | None) -> float:
        """A number of a range as the plan takes it: whole where the range is."""
        return int(value or 0) if self.is_whole(name) else float(value or 0)


def read_space(text: str, what: str = "the space") -> Space:
    """Decode a person's TOML; raises `BadInput` with the path of the fault.

    `[settings]` may name settings with or without quotes: `train.learning_rate = {...}` is a table in a table.
    """
    try:
        fields = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(f"{what} is not valid TOML: {error}", code="value.toml") from error
    if isinstance(settings := fields.get("settings"), dict):
        fields["settings"] = {name: _setting(name, part, what) for name, part in _flat(settings)}
    space = convert(Space, fields, what)
    try:
        _ = space.objective
    except BadInput as error:
        raise BadInput(
            error.what, code="tune.better", value=space.metric, cure='Say it: better = "higher", or "lower".'
        ) from error
    return space


def _setting(name: str, part: object, what: str) -> object:
    """Read by itself, so that a fault in it names it."""
    return msgspec.to_builtins(convert(Setting, part, f"`{name}` of {what}"))


def _flat(table: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    for key, part in table.items():
        whole = f"{name}.{key}" if name else key
        if isinstance(part, dict) and not (part.keys() & _LEAF):
            yield from _flat(part, whole)
        else:
            yield whole, part


def check_space(space: Space, draft: PlanDraft) -> None:
    """Raise `BadInput` for what `draft` has not, for a value that it could not have, and for what could not be judged.

    Ends of ranges are tried one at a time; two settings that exclude each other are found when they are drawn.
    """
    _check_judged(space, draft)
    for name, setting in space.settings.items():
        if why := next((why for fixed, why in _FIXED.items() if name == fixed or name.startswith(f"{fixed}.")), ""):
            raise BadInput(f"this setting is not for a search: {why}", code="tune.setting", value=name)
        if not takes(name):
            raise BadInput("a plan has no such setting", code="tune.setting", value=name, cure=known_beside(name))
        if not setting.choices:
            _check_range(space, name, setting)
        _check_option(name, draft)
        for value in setting.choices or (space.number(name, end) for end in (setting.low, setting.high)):
            with_settings(draft, {name: value}, f"the plan with {name} = {value}")


def _check_range(space: Space, name: str, setting: Setting) -> None:
    if not takes(name) & {"int", "float"}:
        raise BadInput(
            "this setting is no number", code="tune.range", value=name, cure="Give it `choices`, not `low` and `high`."
        )
    odd = [one for one in setting.numbers if not one.is_integer()] if space.is_whole(name) else []
    if odd:
        raise BadInput("this setting is a whole number", code="tune.range", value=f"{name}: {odd[0]:g}")


def _check_judged(space: Space, draft: PlanDraft) -> None:
    if not draft.evaluate.every:
        raise BadInput(
            "the plan measures nothing, so that nothing can be searched for",
            code="tune.evaluate",
            value="evaluate.every = 0",
            cure="Let it evaluate: `[evaluate] every = 1`.",
        )
    if draft.secure is not None and space.metric not in draft.secure.metrics:
        raise BadInput(
            "the metric does not leave the partners' secure sum",
            code="tune.metric",
            value=space.metric,
            limit=", ".join(draft.secure.metrics),
            cure="Name it in `secure.metrics`, or search by another.",
        )
    if "epsilon" in space.also and draft.privacy is None and (draft.secure is None or draft.secure.noise is None):
        raise BadInput(
            "the plan promises no privacy, so that it has no epsilon to keep low",
            code="tune.epsilon",
            cure="Give it `[privacy]` or `[secure.noise]`, or leave epsilon out of `also`.",
        )


def _check_option(name: str, draft: PlanDraft) -> None:
    """Raise `BadInput` for an option that the plan's stage does not name: its driver alone knows which there are."""
    words = name.split(".")
    if words[0] != "stages" or len(words) != 4 or int(words[1]) >= len(draft.stages):
        return
    options = draft.stages[int(words[1])].options
    if words[3] not in options:
        raise BadInput(
            "the plan's stage does not name this option",
            code="tune.setting",
            value=name,
            limit=", ".join(options) or "none",
            cure="Give it a value in the plan: an option that is not there is not searched.",
        )
