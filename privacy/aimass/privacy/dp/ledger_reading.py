"""Ledgers read and verified without holding them: for the daemon's start, for display, for whoever audits an export."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.dp.events import Event, Mechanism, Unit, events_of, tally
from aimass.privacy.dp.ledger_lines import START, Head, Line
from aimass.privacy.dp.ledger_state import EMPTY, Entry, Ledger, beyond, replay
from aimass.privacy.signing import Label, sign, verify
from aimass.proto.errors import BadInput, IntegrityError, Refused
from aimass.proto.values import Value, canonical_json, decode_canonical_json

__all__ = [
    "Reading",
    "decoded_head",
    "doubts_of",
    "export_ledger",
    "lost_since",
    "read_doubts",
    "read_lines",
    "rolled_back",
    "verified",
    "verify_export",
]

_NO_LEDGER = "0" * 32


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What a file of lines says: its ledger, the hash of each line, the bytes of whole lines, whether more is torn."""

    ledger: Ledger = EMPTY
    heads: tuple[str, ...] = ()
    size: int = 0
    torn: bool = False
    inode: int = 0

    @property
    def last(self) -> str:
        """What the next line is chained to."""
        return self.heads[-1] if self.heads else START

    @property
    def head(self) -> Head:
        """How far the lines go."""
        return Head(ledger=self.ledger.ledger or _NO_LEDGER, lines=len(self.heads), head=self.last)

    def leads_to(self, head: Head) -> bool:
        """Whether these lines begin with those that `head` stands for."""
        return 0 < head.lines <= len(self.heads) and self.heads[head.lines - 1] == head.head

    def older_than(self, head: Head | None) -> bool:
        """Whether a newer copy wrote `head` beside these lines; raises `IntegrityError` where a line was edited."""
        if head is None:
            return len(self.heads) > 1  # the first line's is written before anything is reserved
        if self.leads_to(head) or self.ledger.given_up(head):
            return False
        if head.ledger == self.ledger.ledger and head.lines <= len(self.heads):
            raise _edited(head.lines)
        return True

    def extended(self, line: bytes) -> Reading:
        """After one more line, whose ledger the caller puts in."""
        digest = hashlib.sha256(line).hexdigest()
        return dataclasses.replace(self, heads=(*self.heads, digest), size=self.size + len(line) + 1, torn=False)


class _Export(Value, frozen=True):
    """A ledger to hand to somebody: its lines as they stand, its head, and the partner's signature over the head."""

    format: str
    head: Head
    key: str
    signature: str
    lines: tuple[str, ...]


def read_lines(path: Path) -> Reading:
    """The ledger in `path`, every link of the chain verified; empty where there is none.

    Raises `IntegrityError` that names the first line that was edited.
    """
    if not path.is_file():
        return Reading()
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    return dataclasses.replace(verified(whole), torn=whole != data, inode=path.stat().st_ino)


def verified(data: bytes) -> Reading:
    """The ledger in whole lines."""
    previous, heads, bodies = START, [], []
    for place, text in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            line = decode_canonical_json(Line, text, f"line {place} of the ledger")
        except BadInput as error:
            raise _edited(place) from error
        if line.place != place or line.previous != previous:
            raise _edited(place)
        previous = hashlib.sha256(text).hexdigest()
        heads.append(previous)
        bodies.append(line.body)
    return Reading(replay(bodies), tuple(heads), len(data))


def decoded_head(path: Path) -> Head | None:
    """The head that was noted beside a ledger."""
    return decode_canonical_json(Head, path.read_bytes(), "the ledger's head.json") if path.is_file() else None


def export_ledger(path: Path, identity: Ed25519PrivateKey) -> bytes:
    """The ledger in `path` as one signed document. Rows are in it as keyed hashes alone."""
    reading = read_lines(path)
    lines = path.read_bytes()[: reading.size].decode().split("\n")[:-1]
    head = canonical_json(reading.head)
    return canonical_json(
        _Export(
            format="AIMass ledger v1",
            head=reading.head,
            key=identity.public_key().public_bytes_raw().hex(),
            signature=sign(identity, Label.LEDGER_HEAD, head).hex(),
            lines=tuple(lines),
        )
    )


def verify_export(data: bytes, key: bytes) -> Reading:
    """What an exported ledger says, its chain, head and signature verified with the partner's public key.

    Raises `BadInput`, `Unauthenticated` for another's signature, `IntegrityError` for lines that were edited.
    """
    export = decode_canonical_json(_Export, data, "an exported ledger")
    reading = verified("".join(f"{line}\n" for line in export.lines).encode())
    try:
        signature = bytes.fromhex(export.signature)
    except ValueError as error:
        raise BadInput("a signature is not hexadecimal", code="ledger.export") from error
    verify(key, Label.LEDGER_HEAD, canonical_json(export.head), signature, "the partner")
    if reading.head != export.head:
        raise _edited(len(export.lines))
    return reading


def doubts_of(reading: Reading, noted: Head | None) -> tuple[Head, ...]:
    """Heads that these lines do not lead to: the one `noted` beside them, and those that came back from outside."""
    behind = (noted or reading.head,) if reading.older_than(noted) else ()
    return (*behind, *(head for head in reading.ledger.doubts if head not in behind))


def read_doubts(lines: Path, noted: Path) -> tuple[Reading, tuple[Head, ...]]:
    """A ledger that somebody may be writing, and its doubts; the head beside it is read first, or it might be newer."""
    head = decoded_head(noted)
    reading = read_lines(lines)
    return reading, doubts_of(reading, head)


def lost_since(newer: Ledger, here: Ledger) -> tuple[Event, ...]:
    """What a newer copy counts for and this one does not: of entries that both have what one counts more than the
    other, of all others everything. What this copy counts alone is taken off nothing."""
    common = {number: entry for number, entry in here.entries.items() if _same(entry, newer.entries.get(number))}
    lost: Counter[tuple[Mechanism, Unit]] = Counter()
    for number, entry in newer.entries.items():
        known = tally(common[number].counts) if number in common else {}
        lost.update(tally(beyond(tally(entry.counts), known)))
    for study in newer.studies.values():
        if study.open:
            lost.update(tally(beyond(tally(study.events), study.drawn)))
    return events_of(lost)


def _same(entry: Entry, other: Entry | None) -> bool:
    def origin(each: Entry) -> tuple[object, ...]:
        return each.run_id, each.round, each.purpose, each.reserved, each.since, each.study

    return other is not None and origin(entry) == origin(other)


def rolled_back(head: Head | None, ledger: str) -> Refused:
    """The refusal of an older copy. It may be told to a server, so it says of no number of lines."""
    other = head is not None and head.ledger != ledger
    return Refused(
        "another ledger stood here before" if other else "this copy of the ledger is not the newest that there was",
        code="ledger.E_LEDGER_ROLLBACK",
        value="a ledger without its head.json" if head is None else "lines that do not lead to a head that was sealed",
        limit="the newest copy",
        cure="Restore the newest copy, or say with `aimass client budget accept` that this one is to be gone on with, "
        "and what was spent beyond it.",
    )


def _edited(place: int) -> IntegrityError:
    return IntegrityError(
        "the ledger was edited",
        code="ledger.edited",
        value=f"line {place}",
        cure="Restore it from its newest copy; nothing is debited until it is whole.",
    )
