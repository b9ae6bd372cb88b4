"""Differences between a run's models: each made once, however many partners ask, and kept while it is asked for.

They stand beside the blobs. Nothing refers to them: what a restart finds is deleted, and made again where it is wanted.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from aimass.proto.difference import encode
from aimass.proto.durable import UNINTERRUPTED, Durability, make_folder, remove_file, write_parts
from aimass.proto.errors import AimassError, OutOfSpace
from aimass.proto.storage import Blobs, map_file
from aimass.proto.tensors import Blob

__all__ = ["Made", "ModelDifferences", "Pair"]

log = logging.getLogger("aimass.server")
_MOST: Final = 8
"""Differences to one model: each costs a pass over two models, and who holds yet another fetches it whole."""
_WORTH: Final = 0.9
"""A difference that is larger than so much of the model is none: applying it would cost more than it spares."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Digests of the model that a partner holds and of the one that it is to have."""

    held: str
    wanted: str


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """A difference: its digest and bytes, one map for all readers, and the size of the model that it stands for."""

    pair: Pair
    digest: str
    data: memoryview
    stands_for: int


class ModelDifferences:
    """One for a server. They are made one after the other, in a thread. What the disk had no room for is tried again
    when it is asked for again."""

    def __init__(
        self,
        folder: Path,
        blobs: Blobs,
        durability: Durability = UNINTERRUPTED,
        room: Callable[[], None] = lambda: None,
    ) -> None:
        """`room` raises where the disk is nearly full: then none is made."""
        self._folder, self._blobs, self._durability, self._room = make_folder(folder), blobs, durability, room
        self._making: dict[Pair, asyncio.Future[Made | None]] = {}
        self._one_at_a_time = asyncio.Lock()
        for path in folder.iterdir():
            path.unlink()

    async def made(self, pair: Pair) -> Made | None:
        """The difference of a pair, made now if it was not; None where there is none that is worth it."""
        making = self._making.get(pair)
        if making is None:
            if sum(other.wanted == pair.wanted for other in self._making) >= _MOST:
                return None
            making = self._making[pair] = asyncio.ensure_future(self._in_turn(pair))
        return await asyncio.shield(making)

    async def _in_turn(self, pair: Pair) -> Made | None:
        async with self._one_at_a_time:
            try:
                return await asyncio.to_thread(self._make, pair)
            except OutOfSpace as error:
                self._making.pop(pair, None)
                log.info("no difference of two models for now: %s", error)
                return None

    def find(self, digest: str) -> Made | None:
        """The difference of this digest, if it was made."""
        done = (making.result() for making in self._making.values() if making.done())
        return next((made for made in done if made is not None and made.digest == digest), None)

    def keep(self, find_wanted: Callable[[], Collection[str]]) -> None:
        """Delete what leads to another model than these, which are looked for where there is something to delete; who
        reads it now reads on."""
        wanted = find_wanted() if self._making else ()
        for pair in [pair for pair in self._making if pair.wanted not in wanted]:
            self._making.pop(pair).add_done_callback(lambda _, pair=pair: self._delete(pair))  # type: ignore[misc]

    def _delete(self, pair: Pair) -> None:
        if pair not in self._making:
            remove_file(self._path(pair))

    def _path(self, pair: Pair) -> Path:
        return self._folder / f"{pair.held}-{pair.wanted}"

    def _make(self, pair: Pair) -> Made | None:
        try:
            self._room()
            held, wanted = Blob(self._blobs.open(pair.held)), Blob(self._blobs.open(pair.wanted))
            path, whole = self._path(pair), len(wanted.data)
            digest = write_parts(path, encode(held, wanted), self._durability, "server.difference", synced=False)
            if path.stat().st_size > _WORTH * whole:
                path.unlink()
                return None
            return Made(pair, digest, map_file(path), whole)
        except OutOfSpace:
            raise
        except (AimassError, OSError) as error:
            log.info("no difference of two models: %s", error)
            return None
