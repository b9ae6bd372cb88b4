"""Spark's executors as the crew of an offline run: what they make comes back with answers, or by the run's store."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence

from aimass.proto.durable import UNINTERRUPTED, write_parts
from aimass.proto.errors import IntegrityError
from aimass.proto.objects import ObjectStore, open_objects
from aimass.proto.values import canonical_json, decode_json
from aimass.server.aggregation.sums import added_metrics
from aimass.server.offline.far_sums import Apart, Piece, SummedPieces, pieces_of, sum_of
from aimass.server.offline.journal import Journal
from aimass.server.offline.site import InStore, Parcel, opened_parcel, spool_of, update_key
from aimass.server.reduction import Reduced
from aimass.server.simulation.partner import Asked, Made
from aimass.server.simulation.spark import Spark

__all__ = ["Executors", "totals"]


class Executors:
    """See `Crew`."""

    def __init__(self, opens: InStore, master: str, options: Mapping[str, str], journal: Journal) -> None:
        self._objects, self._url, self._work = journal.objects, journal.url, opens.work
        self._apart: dict[tuple[int, str], Apart] = {}
        self._stored: set[int] = set()
        """Steps of which something came by the store, or was left there by a task that was done again."""
        self._spark = Spark(opens, master, "aimass offline run", options, self.deliver)

    def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
        """See `Crew`."""
        yield from self._spark.work(asked)

    @property
    def cores(self) -> int:
        """Tasks that run at once."""
        return self._spark.cores

    def deliver(self, asked: Asked, made: Made, data: bytes) -> Made:
        """Take what came back with an answer: nothing where the executor wrote into the spool itself."""
        if not data:
            return made
        parcel, content = opened_parcel(data)
        if parcel is not Parcel.WHOLE:
            self._stored.add(asked.step.index)
        match parcel:
            case Parcel.WHOLE:
                self._spool(asked.step.index, made, [content])
            case Parcel.APART:
                self._apart[asked.step.index, made.partner] = decode_json(Apart, content, "an executor's answer")
            case Parcel.STORED:
                self._fetch(asked.step.index, made)
        return made

    def _spool(self, index: int, made: Made, parts: Sequence[bytes] | Iterator[bytes]) -> None:
        path = spool_of(self._work, index) / made.file
        found = write_parts(path, parts, UNINTERRUPTED, "offline.contribution", synced=False)
        if found != made.digest:
            raise IntegrityError(
                "a contribution changed on its way from an executor",
                code="offline.contribution",
                value=f"{made.partner}: {found[:16]}",
                limit=made.digest[:16],
                cure="Look at the store and the network; then --resume.",
            )

    def _fetch(self, index: int, made: Made) -> None:
        key = update_key(index, made.file)
        self._spool(index, made, self._objects.stream(key))
        self._objects.delete(key)

    def reduced(self, index: int, made: Sequence[Made]) -> Reduced | None:
        """See `Crew`: contributions that all stay in the store are added up by executors."""
        held = [self._apart.get((index, one.partner)) for one in made]
        self._apart = {place: one for place, one in self._apart.items() if place[0] != index}
        apart = [one for one in held if one is not None]
        if len(apart) < len(held):  # some were small enough to come with their answers: then all are added here
            for one, far in zip(made, held, strict=True):
                if far is not None:
                    self._fetch(index, one)
            self._clear(index)
            return None
        pieces = pieces_of(apart[0])
        adds = _Adds(self._url, index, tuple(apart))
        digests = self._spark.each(adds, [canonical_json(piece) for piece in pieces])
        path = spool_of(self._work, index) / "sums"
        write_parts(path, totals(self._objects, index, pieces, digests), UNINTERRUPTED, "offline.sums", synced=False)
        self._clear(index)
        figures = {one.partner: dict(far.figures) for one, far in zip(made, apart, strict=True)}
        return Reduced(SummedPieces(apart, path), added_metrics(one.measured() for one in apart), figures)

    def _clear(self, index: int) -> None:
        if index in self._stored:
            self._stored.remove(index)
            for info in list(self._objects.list(update_key(index, ""))):
                self._objects.delete(info.key)

    def close(self) -> None:
        """Stop the session."""
        self._spark.close()


@dataclasses.dataclass(frozen=True, slots=True)
class _Adds:
    """On an executor: a piece in, its sum to the store, and the sum's digest out."""

    url: str
    index: int
    contributions: tuple[Apart, ...]

    def __call__(self, row: bytes) -> bytes:
        piece = decode_json(Piece, row, "a piece")
        store: ObjectStore = open_objects(self.url)
        data = sum_of(store, self.contributions, piece).tobytes()
        store.put(_sum_key(self.index, piece), data)
        return hashlib.sha256(data).digest()


def totals(store: ObjectStore, index: int, pieces: Sequence[Piece], digests: Sequence[bytes]) -> Iterator[bytes]:
    """The sums of `pieces` as executors put them; raises `IntegrityError` for one that has not its digest."""
    for piece, digest in zip(pieces, digests, strict=True):
        data = store.read(_sum_key(index, piece))
        if hashlib.sha256(data).digest() != digest:
            raise IntegrityError(
                "a sum in the run's store is not what an executor made",
                code="offline.sum",
                value=_sum_key(index, piece),
                cure="Nothing of this step was used: see who writes to the store, then --resume.",
            )
        yield data


def _sum_key(index: int, piece: Piece) -> str:
    return update_key(index, f"sum-{piece.place:012}")
