"""Whether a version takes what another one takes, and answers in the same form, so that no caller notices. Pure."""

from __future__ import annotations

from aimass.proto.servable import TensorSpec
from aimass.server.serving.dispatch.seam import Loaded

__all__ = ["difference"]


def difference(old: Loaded, new: Loaded) -> str:
    """What a caller of `old` would find changed in `new`, in words; empty where it takes and answers the same.

    An input that may be left out, another datatype, category or output beside those that there were change nothing.
    """
    takes, gives = {spec.name: spec for spec in new.inputs}, {spec.name: spec for spec in new.outputs}
    for was in old.inputs:
        if (now := takes.pop(was.name, None)) is None:
            return f"it has no input {was.name}"
        if what := _narrower(was, now):
            return f"its input {was.name} {what}"
    if more := [spec.name for spec in takes.values() if not spec.optional]:
        return f"it needs an input {more[0]}"
    for was in old.outputs:
        if (now := gives.get(was.name)) is None:
            return f"it has no output {was.name}"
        if (now.datatype, now.shape, now.labels) != (was.datatype, was.shape, was.labels):
            return f"its output {was.name} is {_form(now)}, and not {_form(was)}"
    return ""


def _narrower(was: TensorSpec, now: TensorSpec) -> str:
    """What an input took, and does not take any more."""
    if not _datatypes(was) <= _datatypes(now) or was.shape != now.shape:
        return f"is {_form(now)}, and not {_form(was)}"
    if now.optional < was.optional:
        return "cannot be left out"
    if was.datatype != "BYTES":  # places of the last axis, which have an order
        return f"holds {', '.join(now.labels)} in this order" if now.labels != was.labels else ""
    if now.labels and not was.labels:
        return "takes only some texts"
    gone = [label for label in was.labels if now.labels and label not in now.labels]
    return f"does not know {gone[0]}" if gone else ""


def _datatypes(spec: TensorSpec) -> frozenset[str]:
    return frozenset((spec.datatype, *spec.also))


def _form(spec: TensorSpec) -> str:
    labels = f" of {', '.join(spec.labels)}" if spec.labels else ""
    return f"{'/'.join((spec.datatype, *spec.also))} {list(spec.shape)}{labels}"
