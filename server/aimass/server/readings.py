"""What people read of runs: views, lists, watching, receipts, models. Changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from aimass.privacy.transcript import Receipt
from aimass.proto.storage import Blobs
from aimass.proto.views import ModelView, ReceiptList, ReceiptView, RunSummary, RunView
from aimass.server import run_machine
from aimass.server.engine import Engine
from aimass.server.live import Live, Outbox
from aimass.server.run_views import model_view, run_summary, run_view
from aimass.server.store import Store

__all__ = ["Readings"]

_ALL: Final = 1_000_000


class Readings:
    """The readers' side of the engine and its store."""

    def __init__(self, engine: Engine, store: Store, blobs: Blobs, outbox: Outbox) -> None:
        self._engine, self._store, self._blobs, self._outbox = engine, store, blobs, outbox

    async def run_view(self, run_id: str) -> RunView:
        """A run in full."""
        return await self._view(self._engine.live(run_id), None, {})

    async def _view(self, live: Live, only: Sequence[int] | None, models: dict[str, int]) -> RunView:
        """A run with all its steps, or with `only` some; `models` becomes those that are on the disk, with their bytes.

        Beside what it held before, models of the steps in question are looked for.
        """
        # First the state, then the steps: a state that is final stands beside steps that are all there.
        row, chain = live.row, live.chain
        stored = await self._engine.on_disk(self._store.steps, row.run_id, only)
        await self._engine.on_disk(self._look, row.run_id, _ALL if only is None else len(only), models)
        progress = run_machine.progress(row.run, self._engine.drivers)
        return run_view(row, chain, stored, self._outbox.connected(), progress, sum(models.values()))

    def _look(self, run_id: str, newest: int, models: dict[str, int]) -> None:
        models |= {row.digest: row.bytes for row in self._store.models(run_id, limit=newest)}
        for digest in [digest for digest in models if not self._blobs.has(digest)]:
            del models[digest]

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

    async def watch(self, run_id: str) -> AsyncIterator[RunView]:
        """The run now, then at each change with the steps that changed, until it has ended.

        A change costs what changed and what is kept, however many steps lie behind it.
        """
        live = self._engine.live(run_id)
        changed = asyncio.Event()
        live.watchers.add(changed)
        only: list[int] | None = None
        models: dict[str, int] = {}
        try:
            while True:
                changed.clear()
                seen = live.changes
                view = await self._view(live, only, models)
                yield view
                if view.summary.state.final:
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

    async def models(
        self, run_id: str = "", digest: str = "", limit: int = 100, *, metrics: bool = True
    ) -> tuple[ModelView, ...]:
        """Committed models, newest first, with the metrics of the evaluation that followed unless they are not asked.

        Metrics cost the reading of every step of the models' runs.
        """

        def read() -> tuple[ModelView, ...]:
            rows = self._store.models(run_id, digest, limit)
            stored = {name: self._store.steps(name) if metrics else [] for name in {row.run_id for row in rows}}
            here = {row.digest: self._blobs.has(row.digest) for row in rows}
            return tuple(
                model_view(row, self._engine.live(row.run_id).row, stored[row.run_id], kept=here[row.digest])
                for row in rows
            )

        return await self._engine.on_disk(read)
