"""What people read of runs: views, lists, watching, receipts, models. Changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from aimass.privacy.transcript import Receipt
from aimass.proto.storage import Blobs
from aimass.proto.values import canonical_json
from aimass.proto.views import ModelView, ReceiptList, ReceiptView, RunSummary, RunView
from aimass.server import run_machine
from aimass.server.engine import Engine
from aimass.server.live import Outbox
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
        live = self._engine.live(run_id)
        # First the state, then the steps: a state that is final stands beside steps that are all there.
        row, chain = live.row, live.chain
        stored = await self._engine.on_disk(self._store.steps, run_id)
        disk_bytes = await self._engine.on_disk(self._disk_bytes, run_id)
        progress = run_machine.progress(row.run, self._engine.drivers)
        return run_view(row, chain, stored, self._outbox.connected(), progress, disk_bytes)

    def _disk_bytes(self, run_id: str) -> int:
        models = {row.digest: row.bytes for row in self._store.models(run_id, limit=_ALL)}
        return sum(size for digest, size in models.items() if self._blobs.has(digest))

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
        """The run now, then at each change with the steps that changed, until it has ended."""
        live = self._engine.live(run_id)
        changed = asyncio.Event()
        live.watchers.add(changed)
        seen: dict[int, bytes] = {}
        try:
            while True:
                changed.clear()
                view = await self.run_view(run_id)
                fresh = tuple(step for step in view.steps if seen.get(step.index) != canonical_json(step))
                seen |= {step.index: canonical_json(step) for step in fresh}
                yield msgspec.structs.replace(view, steps=fresh)
                if view.summary.state.final:
                    return
                await changed.wait()
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

    async def models(self, run_id: str = "", digest: str = "", limit: int = 100) -> tuple[ModelView, ...]:
        """Committed models, newest first, with the metrics of the evaluation that followed."""
        rows = await self._engine.on_disk(self._store.models, run_id, digest, limit)
        stored = {name: await self._engine.on_disk(self._store.steps, name) for name in {row.run_id for row in rows}}
        here = {row.digest: await self._engine.on_disk(self._blobs.has, row.digest) for row in rows}
        return tuple(
            model_view(row, self._engine.live(row.run_id).row, stored[row.run_id], kept=here[row.digest])
            for row in rows
        )
