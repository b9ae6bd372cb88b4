"""How a data set's schema may change from one version to the next: only so that what was true of a column stays true.

Every row of an older version fits the newer schema, what is new counting as missing there; a column means what it
meant. Anything else is another data set, and wants another name.
"""

from __future__ import annotations

from collections.abc import Iterator

from aimass.proto.errors import Refused
from aimass.proto.manifest import Category, Column, Image, Label, Mask, Number, Schema, Text

__all__ = ["check_evolution", "refusals"]


def check_evolution(name: str, before: Schema, after: Schema) -> None:
    """Raise `Refused` that names everything in which `after` may not follow `before`."""
    found = tuple(refusals(before, after))
    if found:
        raise Refused(
            f"the schema of {name} may not change so",
            code="dataset.schema_change",
            value="; ".join(found),
            limit="wider bounds, values added at the end, columns added that may be missing, under a higher number",
            cure="Keep to that, or make a data set of another name.",
        )


def refusals(before: Schema, after: Schema) -> Iterator[str]:
    """What speaks against `after` as the schema of the next version."""
    if after == before:
        return
    family, _, number = after.name.partition("/")
    family_before, _, number_before = before.name.partition("/")
    if family != family_before:
        yield f"{after.name} is another schema than {before.name}"
        return
    if int(number) <= int(number_before):
        yield f"{after.name} is not what {before.name} was, and does not have a higher number"
    held = {column.name: column for column in after.columns}
    for column in before.columns:
        if column.name not in held:
            yield f"{column.name} is gone"
        else:
            yield from _narrowed(column, held[column.name])
    if after.label.name != before.label.name:
        yield f"the label is {after.label.name}, and was {before.label.name}"
    else:
        yield from _narrowed(before.label, after.label)
    known = {column.name for column in before.columns}
    for column in after.columns:
        if column.name not in known and _has_to_be_there(column):
            yield f"{column.name} is new and may not be missing"


def _has_to_be_there(column: Column | Label) -> bool:
    return not isinstance(column, Number | Category) or column.required


def _reshaped(before: Image | Mask, after: Image | Mask) -> Iterator[str]:
    if after.shape != before.shape:
        yield f"{before.name} has another shape"
    if isinstance(before, Mask) and isinstance(after, Mask) and after.values[: len(before.values)] != before.values:
        yield f"values of {before.name} are gone, or in another order"


def _narrowed(before: Column | Label, after: Column | Label) -> Iterator[str]:
    """What a cell could be before and cannot be now, or would mean another thing."""
    match before, after:
        case Number(), Number():
            if not after.minimum <= before.minimum < before.maximum <= after.maximum:
                yield f"bounds of {before.name} are narrower"
            if after.unit != before.unit:
                yield f"{before.name} is in {after.unit or 'no unit'}, and was in {before.unit or 'no unit'}"
            if after.missing_values != before.missing_values:
                yield f"other numbers stand for a missing {before.name}"
        case Category(), Category():
            if after.values[: len(before.values)] != before.values:
                yield f"values of {before.name} are gone, or in another order"
            if set(after.missing_values) != set(before.missing_values):
                yield f"other texts stand for a missing {before.name}"
        case ((Image() | Mask()), (Image() | Mask())) if type(before) is type(after):
            yield from _reshaped(before, after)
        case Text(), Text():
            if after.longest < before.longest:
                yield f"{before.name} may not be as long"
        case _:
            yield f"{before.name} is of another kind"
    if _has_to_be_there(after) and not _has_to_be_there(before):
        yield f"{before.name} may not be missing any more"
