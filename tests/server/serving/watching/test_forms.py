"""Whether callers of a version would notice that another one answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aimass.proto.servable import TensorSpec
from aimass.server.serving.dispatch.seam import Loaded
from aimass.server.serving.watching.forms import difference

_AGE = TensorSpec("age", "FP64", (-1, 1), also=("FP32",))
_SEX = TensorSpec("sex", "BYTES", (-1, 1), labels=("f", "m"))
_SAID = TensorSpec("said", "BYTES", (-1, 1))
_ROWS = TensorSpec("rows", "FP32", (-1, 2), optional=True, labels=("age", "height"))
_CHANCES = TensorSpec("probabilities", "FP64", (-1, 2), labels=("no", "yes"))
_LABEL = TensorSpec("label", "BYTES", (-1,))


def _loaded(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] = (_CHANCES, _LABEL)) -> Loaded:
    return Loaded("heart", 1, "0" * 64, inputs, outputs, 1, 0, 1.0)


_OLD = _loaded(_AGE, _SEX, _SAID, _ROWS)


@pytest.mark.parametrize(
    "new",
    [
        _OLD,
        _loaded(_ROWS, _SAID, _SEX, _AGE),
        _loaded(replace(_AGE, also=("FP32", "INT64")), _SEX, _SAID, _ROWS),
        _loaded(replace(_AGE, optional=True), _SEX, _SAID, _ROWS),
        _loaded(_AGE, replace(_SEX, labels=("x", "m", "f")), _SAID, _ROWS),
        _loaded(_AGE, replace(_SEX, labels=()), _SAID, _ROWS),
        _loaded(_AGE, _SEX, _SAID, _ROWS, TensorSpec("more", "FP64", (-1, 1), optional=True)),
        _loaded(_AGE, _SEX, _SAID, _ROWS, outputs=(_LABEL, _CHANCES, TensorSpec("why", "BYTES", (-1,)))),
    ],
)
def test_callers_do_not_notice_what_is_wider_or_stands_elsewhere(new: Loaded) -> None:
    assert difference(_OLD, new) == ""


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (_loaded(_SEX, _SAID, _ROWS), "it has no input age"),
        (
            _loaded(replace(_AGE, also=()), _SEX, _SAID, _ROWS),
            "its input age is FP64 [-1, 1], and not FP64/FP32 [-1, 1]",
        ),
        (_loaded(_AGE, replace(_SEX, labels=("m",)), _SAID, _ROWS), "its input sex does not know f"),
        (_loaded(_AGE, _SEX, replace(_SAID, labels=("a",)), _ROWS), "its input said takes only some texts"),
        (_loaded(_AGE, _SEX, _SAID), "it has no input rows"),
        (_loaded(_AGE, _SEX, _SAID, replace(_ROWS, optional=False)), "its input rows cannot be left out"),
        (
            _loaded(_AGE, _SEX, _SAID, replace(_ROWS, labels=("height", "age"))),
            "its input rows holds height, age in this order",
        ),
        (_loaded(_AGE, _SEX, _SAID, _ROWS, TensorSpec("more", "FP64", (-1, 1))), "it needs an input more"),
        (_loaded(*_OLD.inputs, outputs=(_LABEL,)), "it has no output probabilities"),
        (
            _loaded(*_OLD.inputs, outputs=(replace(_CHANCES, labels=("yes", "no")), _LABEL)),
            "its output probabilities is FP64 [-1, 2] of yes, no, and not FP64 [-1, 2] of no, yes",
        ),
    ],
)
def test_what_callers_would_notice_is_named(new: Loaded, says: str) -> None:
    assert difference(_OLD, new) == says
