"""Search for the nearest row that reaches a goal: all changes of one feature and of two, then the best of more.

Values are those that were seen, so every row found has its cells within observed ranges. Fewer changes come first
(sparse: Wachter et al. 2018 penalise their number), then the sum of |change| / observed range (Gower 1971).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.lpi.cells import alike
from aimass.explain.lpi.game import Game
from aimass.explain.lpi.goals import Goal
from aimass.explain.models import Predict
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work

__all__ = ["Found", "Search", "changed_groups", "nearest"]

Floats = npt.NDArray[np.float64]
_BEAM: Final = 200
_PAIRS: Final = 300_000
"""So many rows of two changes are all tried; of more, those that begin with the best of one change."""


@dataclasses.dataclass(frozen=True)
class Search:
    """`values` of each feature are tried at most, evenly of those seen; `ways` of different features are told."""

    immutable: tuple[str, ...] = ()
    most_changes: int = 3
    values: int = 40
    ways: int = 3


@dataclasses.dataclass(frozen=True)
class Found:
    """Rows [features] that reach the goal, the nearest first, with their distances; `asked` rows were tried."""

    rows: tuple[Floats, ...]
    distances: tuple[float, ...]
    asked: int
    says: str


@dataclasses.dataclass(frozen=True)
class _Moves:
    """Changes of one group each: `group` [k] and the whole row's cells [k, features] after it."""

    group: npt.NDArray[np.int64]
    cells: Floats


def nearest(predict: Predict, game: Game, cells: Floats, goal: Goal, search: Search, work: Work) -> Found:
    """The rows nearest to `cells` [features] that reach `goal`, with as few changes as any that were tried."""
    kept = {game.reference.place(name) for name in search.immutable}
    columns = [() if kept & set(group.columns) else group.columns for group in game.groups]
    moves = _moves(game.reference, cells, columns, search.values)
    all_pairs = len(moves.group) ** 2 <= _PAIRS
    asked, open_ = 0, [_Open(cells, frozenset())]
    most = min(search.most_changes, len(set(moves.group.tolist())))
    for changes in range(1, most + 1):
        keep = _PAIRS // max(1, len(moves.group)) if changes == 1 else _BEAM
        tried = _tried(predict, game.reference, goal, cells, _steps(open_, moves, cells, work), keep)
        asked, open_ = asked + tried.asked, tried.open
        work.tell(changes / (most + 1), f"rows with {changes} changed")
        if tried.reached:
            near = sorted(tried.reached.values(), key=lambda one: one[0])[: search.ways]
            finer = [_refined(predict, game.reference, row, cells, goal) for _, row in near]
            order = sorted(((float(_distances(game.reference, row[None], cells)[0]), row) for row in finer), key=_first)
            says = _said(search, changes, asked, all_pairs=all_pairs)
            return Found(tuple(row for _, row in order), tuple(far for far, _ in order), asked, says)
    return Found((), (), asked, _said(search, most, asked, all_pairs=all_pairs))


@dataclasses.dataclass(frozen=True)
class _Open:
    """A row that has `groups` changed and does not reach the goal yet."""

    cells: Floats
    groups: frozenset[int]


@dataclasses.dataclass(frozen=True)
class _Tried:
    """Of `asked` rows the nearest of each set of groups that `reached` the goal, and the most promising of all."""

    asked: int
    reached: dict[frozenset[int], tuple[float, Floats]]
    open: list[_Open]


def _tried(
    predict: Predict,
    reference: Rows,
    goal: Goal,
    cells: Floats,
    steps: Iterator[tuple[Floats, list[frozenset[int]]]],
    keep: int,
) -> _Tried:
    asked, reached = 0, dict[frozenset[int], tuple[float, Floats]]()
    best: list[tuple[float, _Open]] = []
    for rows, groups in steps:
        asked += len(rows)
        margins, far = goal.margin(predict(rows)), _distances(reference, rows, cells)
        for place in np.flatnonzero(margins > 0).tolist():
            if groups[place] not in reached or far[place] < reached[groups[place]][0]:
                reached[groups[place]] = (float(far[place]), rows[place].copy())
        promising = np.argsort(-margins, kind="stable")[:keep].tolist()
        best += [(-float(margins[place]), _Open(rows[place].copy(), groups[place])) for place in promising]
        best = sorted(best, key=_first)[:keep]
    return _Tried(asked, reached, [one for _, one in best])


def _first(pair: tuple[float, object]) -> float:
    return pair[0]


def changed_groups(game: Game, one: Floats, cells: Floats) -> list[int]:
    """The groups in which two rows differ."""
    same = alike(one, cells)
    return [place for place, group in enumerate(game.groups) if not same[list(group.columns)].all()]


def _said(search: Search, changes: int, asked: int, *, all_pairs: bool) -> str:
    pairs = ""
    if changes >= 2:
        pairs = " and of two" if all_pairs else " and the most promising of two"
    if changes > 2:
        pairs += f" to {changes}" if not all_pairs else f", the most promising of {changes}"
    return (
        f"all changes of one feature{pairs} to values that were seen, at most {search.values} of each: {asked:,} rows. "
        "A nearer row between or beyond these values is possible."
    )


def _moves(reference: Rows, cells: Floats, columns: Sequence[Sequence[int]], most: int) -> _Moves:
    groups, rows = [np.zeros(0, np.int64)], [np.zeros((0, len(cells)))]
    for place, some in enumerate(columns):
        seen = reference.values[:, list(some)]
        seen = np.unique(seen[~np.isnan(seen).any(axis=1)], axis=0) if len(some) else seen[:0]
        seen = seen[~(seen == cells[list(some)]).all(axis=1)]
        if len(seen) > most:
            seen = seen[np.unique(np.linspace(0, len(seen) - 1, most).round().astype(int))]
        changed = np.tile(cells, (len(seen), 1))
        changed[:, list(some)] = seen
        groups.append(np.full(len(seen), place))
        rows.append(changed)
    return _Moves(np.concatenate(groups), np.concatenate(rows))


def _steps(
    open_: Sequence[_Open], moves: _Moves, cells: Floats, work: Work
) -> Iterator[tuple[Floats, list[frozenset[int]]]]:
    """Each open row with all moves of groups that it has not changed yet."""
    touched = ~alike(moves.cells, cells)
    for one in open_:
        work.check()
        free = ~np.isin(moves.group, list(one.groups))
        if free.any():
            rows = np.where(touched[free], moves.cells[free], one.cells)
            yield rows, [one.groups | {group} for group in moves.group[free].tolist()]


def _refined(predict: Predict, reference: Rows, row: Floats, cells: Floats, goal: Goal) -> Floats:
    """The row with each changed number as near to what it was as values were seen that still reach the goal."""
    for place, feature in enumerate(reference.features):
        if feature.kind != "number" or np.isnan(cells[place]) or row[place] == cells[place]:
            continue
        seen = np.unique(reference.values[:, place])
        low, high = sorted((cells[place], row[place]))
        between = seen[(seen > low) & (seen < high)]
        nearer = np.tile(row, (len(between), 1))
        nearer[:, place] = between
        good = between[goal.margin(predict(nearer)) > 0] if len(between) else between
        if len(good):
            row = row.copy()
            row[place] = good[np.abs(good - cells[place]).argmin()]
    return row


def _distances(reference: Rows, rows: Floats, cells: Floats) -> Floats:
    """float64 [n]: a number counts by its change in widths of the observed range, anything else as 1."""
    found = np.zeros(len(rows))
    for place, feature in enumerate(reference.features):
        found += _distance(feature, reference.values[:, place], rows[:, place], cells[place])
    return found


def _distance(feature: Feature, seen: Floats, now: Floats, was: np.float64) -> Floats:
    known = seen[~np.isnan(seen)]
    width = float(np.ptp(known)) if len(known) else 0.0
    if feature.kind == "category" or np.isnan(was) or width == 0.0:
        return (~alike(now, np.full(len(now), was))).astype(np.float64)
    return np.abs(now - was) / width
