"""What a partner remembers of secure sums for ever: how far it went in each round, and how often on one model.

One append-only file over all runs and servers, a canonical JSON line for each step forward, flushed before what
follows it is sent. A partner that forgot it could sign twice in a round, so it outlives the runs. A torn last line,
from a crash in the middle of writing, is cut off: nothing followed it.

A round counts as soon as a masked input of it may leave: a quorum of others can sum it without this partner's word.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from pathlib import Path

from aimass.privacy.secagg.client_state import History, Limits, Phase, Record, may_follow
from aimass.privacy.secagg.faults import Code, fail
from aimass.proto.durable import Durability, append_line
from aimass.proto.errors import BadInput, IntegrityError
from aimass.proto.names import Digest, Name, RunId
from aimass.proto.values import Value, canonical_json, decode_canonical_json

__all__ = ["Counted", "SumRecords", "read_records"]


@dataclasses.dataclass(frozen=True, slots=True)
class Counted:
    """What inputs are counted for beside run and model: the data set here, and why it is summed over."""

    data_set: str
    purpose: str


class _Line(Value, frozen=True):
    """A record with what it is counted for; digests and `run_id`, that of the round's context, are hexadecimal."""

    run_id: RunId
    round: int
    attempt: int
    phase: str
    ctx: Digest
    model: Digest
    payload: str
    signed: str
    data_set: Name
    purpose: str


class SumRecords:
    """Opened and read; raises `IntegrityError` for records that were edited. Runs share it, each from its thread."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self._path, self._durability = path, durability
        self._lock = threading.Lock()
        self._held: dict[tuple[bytes, int], Record] = {}
        self._given: dict[tuple[bytes, int], tuple[bytes, Counted]] = {}
        """The rounds of which a masked input may have left, each with what it is counted for."""
        self._payloads: set[bytes] = set()
        self._on_model: Counter[tuple[bytes, bytes]] = Counter()
        self._on_data: Counter[tuple[Counted, bytes]] = Counter()
        for number, (record, counted) in enumerate(read_records(path), start=1):
            if not may_follow(record, self.held(record.run_id, record.round)):
                raise _edited(number)
            self._take(record, counted)
        if path.is_file() and (whole := len(_whole(path))) != path.stat().st_size:
            with path.open("r+b") as file:
                file.truncate(whole)

    def know(self, payload_digest: str) -> bool:
        """Whether a masked input of this SHA-256 was recorded: what was sent always is, unless records were lost."""
        return bytes.fromhex(payload_digest) in self._payloads

    def held(self, run_id: bytes, round_: int) -> Record | None:
        """The record of a round; `run_id` is that of its context."""
        return self._held.get((run_id, round_))

    def history(self, run_id: bytes, round_: int, model: bytes, counted: Counted) -> History:
        """What an attempt of this round on this model is admitted or refused by: the counts are of other rounds."""
        with self._lock:
            own = int(self._given.get((run_id, round_)) == (model, counted))
            return History(
                record=self._held.get((run_id, round_)),
                signed_on_model=self._on_model[run_id, model] - own,
                signed_on_data=self._on_data[counted, model] - own,
            )

    def keep(self, record: Record, counted: Counted, limits: Limits) -> None:
        """Make a record durable. It blocks.

        Raises `FaultError` where it may not follow what is held, or would give one input more than `limits` allow:
        another attempt or another run may have gone further since this one was admitted. Raises `OutOfSpace`; nothing
        is kept then.
        """
        with self._lock:
            held = self._held.get((record.run_id, record.round))
            if not may_follow(record, held):
                raise fail(Code.ROUND_CLOSED, "another attempt of this round has gone further", record.attempt)
            if record.payload_digest and (record.run_id, record.round) not in self._given:
                self._check_counts(record, counted, limits)
            append_line(self._path, canonical_json(_line(record, counted)), self._durability, "client.sums")
            self._take(record, counted)

    def _check_counts(self, record: Record, counted: Counted, limits: Limits) -> None:
        for count, most in (
            (self._on_model[record.run_id, record.model_digest], limits.contributions_per_model),
            (self._on_data[counted, record.model_digest], limits.contributions_per_data),
        ):
            if count >= most:
                raise fail(Code.REPEAT_MODEL, "too many inputs on one model", count, most)

    def _take(self, record: Record, counted: Counted) -> None:
        place = record.run_id, record.round
        self._held[place] = record
        self._payloads |= {record.payload_digest} - {b""}
        if record.payload_digest and place not in self._given:
            self._given[place] = record.model_digest, counted
            self._on_model[record.run_id, record.model_digest] += 1
            self._on_data[counted, record.model_digest] += 1


def read_records(path: Path) -> tuple[tuple[Record, Counted], ...]:
    """Every record, in order, and what it is counted for; a torn last line is passed over, and nothing is changed."""
    return tuple(_decoded(line, number) for number, line in enumerate(_whole(path).splitlines(), start=1))


def _whole(path: Path) -> bytes:
    """The lines that are whole."""
    data = path.read_bytes() if path.is_file() else b""
    return data[: data.rfind(b"\n") + 1]


def _decoded(text: bytes, number: int) -> tuple[Record, Counted]:
    try:
        line = decode_canonical_json(_Line, text, f"line {number} of the records of secure sums")
        return _record(line), Counted(line.data_set, line.purpose)
    except (BadInput, ValueError, KeyError) as error:
        raise _edited(number) from error


def _line(record: Record, counted: Counted) -> _Line:
    return _Line(
        run_id=record.run_id.hex(),
        round=record.round,
        attempt=record.attempt,
        phase=record.phase.name.lower(),
        ctx=record.ctx.hex(),
        model=record.model_digest.hex(),
        payload=record.payload_digest.hex(),
        signed=record.signed.hex(),
        data_set=counted.data_set,
        purpose=counted.purpose,
    )


def _record(line: _Line) -> Record:
    return Record(
        run_id=bytes.fromhex(line.run_id),
        round=line.round,
        attempt=line.attempt,
        phase=Phase[line.phase.upper()],
        ctx=bytes.fromhex(line.ctx),
        model_digest=bytes.fromhex(line.model),
        payload_digest=bytes.fromhex(line.payload),
        signed=bytes.fromhex(line.signed),
    )


def _edited(number: int) -> IntegrityError:
    return IntegrityError(
        "the records of secure sums were changed",
        code="secagg.records_edited",
        value=f"line {number}",
        cure="Restore state/secagg.jsonl from a backup; without it this partner could sign twice in one round.",
    )
