"""Which waiting requests go to a worker together, and what of its answer is whose. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from aimass.proto.servable import Array, TensorSpec, check_outputs
from aimass.server.serving.dispatch.blame import Failure
from aimass.server.serving.dispatch.requests import ANY_TIME, Done, Request

__all__ = ["Entry", "expired", "gathered", "least_lately", "outputs_of", "rows_at_once", "take"]


class Entry(msgspec.Struct, eq=False):
    """A request that waits at a version, or is with one of its workers, since `since`.

    It was `asked` for at the first version that tried it. After a worker died of it, or of one beside it, it goes
    `alone`. It is `over` when nobody waits for this version's answer any more. `failures` are those of versions that
    tried it before.
    """

    request: Request
    done: Done
    rows: int
    asked: float
    since: float
    attempts: int = 0
    alone: bool = False
    over: bool = False
    failures: tuple[Failure, ...] = ()


def take(queue: deque[Entry], most_rows: int) -> list[Entry]:
    """The next batch, out of the queue: the first request and those right behind it that can be joined to it.

    A request with more rows than `most_rows` goes alone. What is over is left out.
    """
    batch: list[Entry] = []
    rows = 0
    while queue:
        entry = queue[0]
        if not entry.over:
            if batch and not _fits(batch[0], entry, rows, most_rows):
                break
            batch.append(entry)
            rows += entry.rows
        queue.popleft()
    return batch


def rows_at_once(most_rows: int, row_s: float, batch_s: float) -> int:
    """As many rows as take about `batch_s`, so that who comes meanwhile waits no longer; `row_s` 0 is not known yet."""
    return max(1, min(most_rows, int(batch_s / row_s))) if row_s > 0 else most_rows


def least_lately(row_s: float, sample_s: float) -> float:
    """The shortest time of a row, which a longer one moves by 2 %: a pause of the machine is no property of a model."""
    return min(sample_s, row_s * 1.02) if row_s > 0 else sample_s


def _fits(first: Entry, entry: Entry, rows: int, most_rows: int) -> bool:
    return (
        rows + entry.rows <= most_rows
        and not (first.alone or entry.alone)
        and _same_form(first.request.tensors, entry.request.tensors)
    )


def _same_form(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    if len(one) != len(other):
        return False
    for name, array in one.items():
        beside = other.get(name)
        if beside is None or beside.dtype != array.dtype or beside.shape[1:] != array.shape[1:]:
            return False
    return True


def gathered(batch: Sequence[Entry]) -> dict[str, list[Array]]:
    """Each tensor in its parts, one a request."""
    return {name: [entry.request.tensors[name] for entry in batch] for name in batch[0].request.tensors}


def outputs_of(
    batch: Sequence[Entry], specs: Sequence[TensorSpec], answer: Mapping[str, Array]
) -> Iterator[tuple[Entry, Mapping[str, Array] | str]]:
    """Each request's rows of the outputs that it wants, or what is wrong with the answer for it."""
    rows = sum(entry.rows for entry in batch)
    whole = check_outputs(specs, answer, rows)
    apart = all(len(array) == rows for array in answer.values())  # else it cannot be said whose rows they are
    start = 0
    for entry in batch:
        stop = start + entry.rows
        part = answer if len(batch) == 1 else {name: array[start:stop] for name, array in answer.items()}
        wrong = check_outputs(specs, part, entry.rows) if whole is not None and apart else whole
        yield entry, _wanted(entry, part) if wrong is None else wrong
        start = stop


def _wanted(entry: Entry, outputs: Mapping[str, Array]) -> Mapping[str, Array] | str:
    wanted = entry.request.outputs
    if not wanted:
        return outputs
    absent = next((name for name in wanted if name not in outputs), None)
    return f"no output {absent}" if absent is not None else {name: outputs[name] for name in wanted}


def expired(entries: Sequence[Entry], now: float) -> list[Entry]:
    """Those whose deadline has passed and who still wait."""
    return [
        entry
        for entry in entries
        if not entry.over and entry.request.deadline != ANY_TIME and entry.request.deadline <= now
    ]
