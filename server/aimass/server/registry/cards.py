"""Model cards: a version told for people, as markdown that says nothing which its document does not.

The order follows Mitchell et al. 2019, "Model Cards for Model Reporting", as far as a registry knows the answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from aimass.proto.manifest import Category, Column, Image, Label, Mask, Number
from aimass.proto.registry.entries import ModelVersion
from aimass.proto.registry.wording import interval_text, privacy_text

__all__ = ["card_of"]

_MOST: Final = 50
"""Columns that are told by name."""
_VALUES: Final = 12
"""Values of one column, each by its first `_LETTERS`: a card stays far below what a version may hold."""
_LETTERS: Final = 40


def card_of(version: ModelVersion) -> str:
    """The card of a version, which has none yet."""
    parts = (_head(version), _metrics(version), _inputs(version), _privacy(version), _lineage(version))
    return "\n".join(line for part in parts for line in part)


def _head(version: ModelVersion) -> Iterator[str]:
    published = datetime.fromtimestamp(version.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield f"# {version.name}, version {version.number}"
    yield ""
    yield f"Published {published} by {version.by}. Licence: {version.licence or 'none was stated'}."
    yield ""
    yield f"- {version.task.kind.capitalize()}: {version.task.name}, `{version.task.digest}`"
    yield f"- Parameters: `{version.parameters.digest}`, {version.parameters.bytes:,} bytes of safetensors"
    if version.base is not None:
        yield f"- On the base {version.base.name}, `{version.base.digest}`, which is not part of them"
    yield ""


def _metrics(version: ModelVersion) -> Iterator[str]:
    held_out = version.held_out
    yield "## How good it is"
    yield ""
    if not version.metrics:
        yield "Nothing was measured."
    else:
        rows = f"rows with the digest `{held_out.digest}`" if held_out.digest else held_out.reason or "nobody stated it"
        yield f"Measured on held-out data: {rows}."
        yield ""
        yield "| metric | mean (95 % interval) | rows |"
        yield "| --- | --- | --- |"
        for name, found in sorted(version.metrics.items()):
            yield f"| {_cell(name)} | {interval_text(found)} | {found.rows:,.0f} |"
    yield ""


def _inputs(version: ModelVersion) -> Iterator[str]:
    yield "## What it takes, and what it says"
    yield ""
    if version.schema is None:
        yield "Its code does not declare a schema: it cannot be served."
    else:
        yield f"Schema {version.schema.name}, `{version.schema.digest}`."
        yield ""
        yield "| column | kind | values |"
        yield "| --- | --- | --- |"
        for column in version.schema.columns[:_MOST]:
            yield _column(column)
        if (more := len(version.schema.columns) - _MOST) > 0:
            yield f"| and {more} more | | |"
        yield ""
        label = version.schema.label
        yield f"It predicts {label.name}: {_values(label)}."
    yield ""


def _column(column: Column) -> str:
    return f"| {column.name} | {type(column).__name__.lower()} | {_values(column)} |"


def _values(column: Column | Label) -> str:
    match column:
        case Number():
            return f"{column.minimum:g} to {column.maximum:g}{' ' + _cell(column.unit) if column.unit else ''}"
        case Category():
            named = ", ".join(_cell(value) for value in column.values[:_VALUES])
            more = len(column.values) - _VALUES
            return named if more <= 0 else f"{named} and {more} more"
        case Mask():
            return f"each of {' x '.join(map(str, column.shape))} pixels as {', '.join(map(_cell, column.values))}"
        case Image():
            return " x ".join(map(str, column.shape)) + " pixels"
        case _:
            return f"at most {column.longest:,} characters"


def _cell(text: str) -> str:
    """A value that neither ends a table's cell nor begins markup."""
    return "".join(f"\\{letter}" if letter in "\\|`*_[]<>#" else letter for letter in " ".join(text[:_LETTERS].split()))


def _privacy(version: ModelVersion) -> Iterator[str]:
    yield "## Privacy, and who contributed"
    yield ""
    yield f"- Differential privacy: {privacy_text(version.privacy)}"
    if (who := version.contributors) is not None:
        yield f"- {who.members:,} {who.kind} contributed, at least {who.fewest:,} in every round"
    else:
        yield "- Who contributed is not known"
    yield ""


def _lineage(version: ModelVersion) -> Iterator[str]:
    yield "## Where it comes from"
    yield ""
    if (run := version.run) is not None:
        over = f" over {run.data_set}" if run.data_set else ""
        yield f"- Run {run.name}, `{run.run_id}`{over}: {run.rounds:,} rounds"
        yield f"- Head of its history: `{run.transcript_head or 'none'}`"
    else:
        yield "- Published from a file: no run says how it was made"
    if (parent := version.parent) is not None:
        yield f"- Made from version {parent.number}, `{parent.digest}`"
    if version.smoke is not None:
        yield "- Tried before it is served on rows that are nobody's, against what it said of them here"
    yield ""
