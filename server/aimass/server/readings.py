"""What people read of runs: views, lists, watching, receipts, models. Changes nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from aimass.privacy.transcript import Receipt
from aimass.proto.errors import NotFound
from aimass.proto.outcomes import Outcome
from aimass.proto.storage import Blobs
from aimass.proto.views import ModelView, ReceiptList, ReceiptView, RunState, RunSummary, RunView, StepView
from aimass.server import run_machine
from aimass.server.engine import Engine
from aimass.server.live import Live, Outbox
from aimass.server.run_views import by_round, model_view, run_summary, run_view
from aimass.server.store import ModelRow, Store
from aimass.server.store_threads import StoreThreads

__all__ = ["PAGE_STEPS", "Readings"]

_ALL: Final = 1_000_000
PAGE_STEPS: Final = 1_000
_PAGE_BYTES: Final = 8 << 20
"""Of a page's steps: one is a megabyte at most, and a page of a thousand of them would be a gigabyte here."""
_AT_ONCE: Final = 4
"""Readers whose models are looked for together: where their store hangs, readers wait for each other alone."""


@dataclasses.dataclass(slots=True)
class _OnDisk:
    """A run's models that were seen on the disk, with their bytes and the sum of these, after so many deletions."""

    models: dict[str, int] = dataclasses.field(default_factory=dict)
    total: int = 0
    deletions: int = 0

    def look(self, rows: Sequence[ModelRow], has: Callable[[str], bool], deletions: int) -> None:
        """Look for models that are new; for all again where any was deleted since."""
        found = {row.digest: row.bytes for row in rows if row.digest not in self.models}
        if deletions != self.deletions:
            found, self.models, self.total, self.deletions = self.models | found, {}, 0, deletions
        here = {digest: size for digest, size in found.items() if has(digest)}
        self.models |= here
        self.total += sum(here.values())


class Readings:
    """The readers' side of the engine and its store."""

    def __init__(
        self, engine: Engine, store: Store, blobs: Blobs, outbox: Outbox, deletions: Callable[[], int]
    ) -> None:
        """`deletions` says how many models this process has deleted."""
        self._engine, self._store, self._blobs, self._outbox = engine, store, blobs, outbox
        self._deletions = deletions
        self.outcome: Callable[[str], Outcome | None] = lambda _: None
        """What became of a run's model in the registry; it is asked in the disk's thread."""
        self._threads = StoreThreads(_AT_ONCE, "readings")

    async def run_view(self, run_id: str, first: int = 0, most: int = PAGE_STEPS) -> RunView:
        """A run with `most` of its steps from the index `first` on, fewer where they are large."""
        return await self._view(self._engine.live(run_id), None, _OnDisk(), first, most)

    async def _view(self, live: Live, only: Sequence[int] | None, models: _OnDisk, first: int, most: int) -> RunView:
        """A run with its steps, or with `only` some; `models` of the steps in question are looked for."""
        # First the state, then the steps: a state that is final stands beside steps that are all there.
        row, chain = live.row, live.chain
        read = partial(self._store.page, row.run_id, only, first=first, most=most, most_bytes=_PAGE_BYTES)
        stored, more = await self._engine.on_disk(read)
        made = await self._engine.on_disk(self._store.models, row.run_id, "", _ALL if only is None else len(only))
        await self._threads.run(models.look, made, self._blobs.listed, self._deletions())
        progress = run_machine.progress(row.run, self._engine.drivers)
        view = run_view(row, chain, stored, self._outbox.connected(), progress, models.total, live.moved)
        asked = row.run.plan.promote is not None and row.run.state.final
        outcome = await self._engine.on_disk(self.outcome, row.run_id) if asked else None
        return msgspec.structs.replace(view, more=more or len(stored) == most, outcome=outcome)

    def summaries(self, state: str, limit: int, owner: str | None = None) -> tuple[RunSummary, ...]:
        """Runs newest first, of one owner where one is named."""
        chosen = [
            live.row
            for live in reversed(self._engine.lives())
            if (not state or live.row.run.state == state) and owner in (None, live.row.owner)
        ]
        return tuple(
            run_summary(row, run_machine.progress(row.run, self._engine.drivers)) for row in chosen[: limit or 100]
        )

    def owner(self, run_id: str) -> str:
        """Who submitted a run."""
        return self._engine.live(run_id).row.owner

    async def watch(self, run_id: str, most: int = PAGE_STEPS) -> AsyncIterator[RunView]:
        """The run now, then at each change with the steps that changed, until it has ended.

        A change costs what changed and what is kept, however many steps lie behind it. Each view comes in pages of
        `most` steps, fewer where they are large; the last has no `more`.
        """
        live = self._engine.live(run_id)
        changed = asyncio.Event()
        live.watchers.add(changed)
        only: list[int] | None = None
        models = _OnDisk()
        try:
            while True:
                changed.clear()
                seen = live.changes
                first = 0
                view = await self._view(live, only, models, first, most)
                yield view
                while view.more:
                    first = view.steps[-1].index + 1
                    view = await self._view(live, only, models, first, most)
                    yield view
                if view.summary.state.final and not (first and live.since(seen)):
                    return
                await changed.wait()
                only = live.since(seen)
        finally:
            live.watchers.discard(changed)

    async def receipts(self, run_id: str) -> ReceiptList:
        """Every receipt of a run."""
        self._engine.live(run_id)
        rows = await self._engine.on_disk(self._store.receipts, run_id)
        views = [(msgspec.json.decode(row.body, type=Receipt), row) for row in rows]
        return ReceiptList(
            run_id=run_id,
            receipts=tuple(
                ReceiptView(
                    step=row.step,
                    partner=row.partner,
                    outcome=receipt.outcome,
                    contribution=receipt.contribution,
                    body=row.body.decode(),
                    signature=row.signature.hex(),
                )
                for receipt, row in views
            ),
        )

    async def manifest(self, run_id: str) -> bytes:
        """The manifest of a finished run's last model, as it was written; raises `NotFound` where none was."""
        state = self._engine.live(run_id).row.run.state
        written = await self._engine.on_disk(self._store.manifest, run_id)
        if written is None:
            raise NotFound(
                "this run has no model with a manifest",
                code="model.no_manifest",
                value=state,
                limit=RunState.FINISHED,
                cure="Wait until it has finished; runs that finished under an earlier release have none.",
            )
        return written

    async def is_model(self, run_id: str, digest: str) -> bool:
        """Whether a run began with this model, or committed it."""
        first = self._engine.live(run_id).row.run.plan.model
        return digest == first or bool(await self._engine.on_disk(self._store.models, run_id, digest, 1))

    async def models(self, run_id: str = "", digest: str = "", limit: int = 100) -> tuple[ModelView, ...]:
        """Committed models, newest first, with the metrics of the evaluation that followed.

        They cost the reading of every step of the models' runs.
        """

        def read() -> tuple[Sequence[ModelRow], dict[str, dict[int, list[StepView]]]]:
            rows = self._store.models(run_id, digest, limit)
            return rows, {name: by_round(self._store.steps(name)) for name in {row.run_id for row in rows}}

        rows, stored = await self._engine.on_disk(read)
        here = await self._threads.run(lambda: {row.digest: self._blobs.listed(row.digest) for row in rows})
        return tuple(
            model_view(
                row,
                self._engine.live(row.run_id).row,
                stored[row.run_id].get(row.round, ()),
                kept=here[row.digest],
            )
            for row in rows
        )
