"""`aimass client budget accept | another | export | verify`: a person's word on a ledger, and ledgers for others."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aimass.proto.console import emit, plain, write_output

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from aimass.privacy.dp.events import Event

__all__ = ["accept", "another", "export", "verify"]


def accept(args: argparse.Namespace) -> int:
    """Go on with an older copy of a ledger; the daemon does it where it runs."""
    from aimass.client.local_link import ask_daemon
    from aimass.proto.errors import Unavailable
    from aimass.proto.values import canonical_json

    lost = _lost(args)
    try:
        told = canonical_json(lost).decode()
        ask_daemon(args, command="accept-ledger", data_set=args.data_set, lost=told)
    except Unavailable:
        _accept_here(args, lost)
    emit(args, {"data_set": args.data_set, "accepted": True, "counted_as_lost": [plain(event) for event in lost]})
    return 0


def _accept_here(args: argparse.Namespace, lost: tuple[Event, ...]) -> None:
    """Without a daemon: whatever the receipts tell is compared first, as the daemon's start would."""
    from contextlib import closing

    from aimass.client.ledger_heads import LedgerHeads
    from aimass.client.ledgers import Ledgers
    from aimass.client.partner import policy_in
    from aimass.client.withdrawal import receipts
    from aimass.proto.clock import SystemClock
    from aimass.proto.durable import UNINTERRUPTED

    with closing(Ledgers(args.dir / "state" / "ledgers", UNINTERRUPTED, SystemClock())) as ledgers:
        heads = LedgerHeads(ledgers, _identity(args), bytes)
        heads.received(policy_in(args.dir), receipts(args.dir))
        ledgers.accept(args.data_set, lost)


def _lost(args: argparse.Namespace) -> tuple[Event, ...]:
    """What the newer copy had spent beyond the one that is here."""
    from aimass.privacy.dp.events import Event, events_of, tally
    from aimass.proto.values import decode_json

    if args.from_export is not None:
        return _beyond(args)
    if args.lost is not None:
        return events_of(tally(decode_json(tuple[Event, ...], args.lost.read_bytes(), str(args.lost))))
    return ()


def _beyond(args: argparse.Namespace) -> tuple[Event, ...]:
    """By an export of the newer copy, which must be as new as any head that is known."""
    from aimass.privacy.dp.ledger_file import HEAD, LINES
    from aimass.privacy.dp.ledger_reading import lost_since, read_doubts, verify_export
    from aimass.privacy.signing import public_key
    from aimass.proto.errors import BadInput, Refused

    newer = verify_export(args.from_export.read_bytes(), public_key(_identity(args)))
    if newer.ledger.data_set != args.data_set:
        raise BadInput(
            "the export is another data set's", code="budget.export", value=newer.ledger.data_set, limit=args.data_set
        )
    folder = _folder(args)
    here, doubts = read_doubts(folder / LINES, folder / HEAD)
    if missed := [head.lines for head in doubts if not newer.leads_to(head)]:
        raise Refused(
            "the export is older than the copy that was lost",
            code="budget.export_older",
            value=f"line {newer.head.lines}",
            limit=f"line {max(missed)}",
            cure="Take a newer export, or say with --lost FILE what was spent: journal and receipts tell.",
        )
    return lost_since(newer.ledger, here.ledger)


def another(args: argparse.Namespace) -> int:
    """Two data sets have rows in common and are not the same; the daemon keeps this word where it runs."""
    from aimass.client.local_link import ask_daemon
    from aimass.proto.errors import Unavailable

    try:
        ask_daemon(args, command="another-data-set", data_set=args.data_set, other=args.other)
    except Unavailable:
        _another_here(args)
    emit(args, {"data_set": args.data_set, "another_than": args.other})
    return 0


def _another_here(args: argparse.Namespace) -> None:
    from aimass.client.row_sketch import check_here
    from aimass.proto.errors import NotFound
    from aimass.proto.manifest import read_shard_manifest

    path = args.dir / "data" / f"{args.data_set}.toml"
    if not path.is_file():
        raise NotFound("no such data set here", code="data.absent", value=path, cure="aimass client data add.")
    check_here(args.dir, read_shard_manifest(path.read_text("utf-8"), str(path)), [args.other])


def export(args: argparse.Namespace) -> int:
    """Write a ledger as one signed document."""
    from aimass.privacy.dp.ledger_file import LINES
    from aimass.privacy.dp.ledger_reading import export_ledger
    from aimass.proto.errors import NotFound

    path = _folder(args) / LINES
    if not path.is_file():
        raise NotFound("this data set has no ledger", code="budget.none", value=args.data_set)
    write_output(args.file, export_ledger(path, _identity(args)), 0o600)
    emit(args, {"data_set": args.data_set, "file": str(args.file)})
    return 0


def verify(args: argparse.Namespace) -> int:
    """What an exported ledger says, if the partner signed it."""
    from aimass.client.budget_cli import standing_rows
    from aimass.privacy.dp.accounting import Accountant
    from aimass.privacy.dp.ledger_reading import verify_export
    from aimass.privacy.signing import public_key
    from aimass.proto.errors import BadInput, Unauthenticated

    try:
        key = bytes.fromhex(args.key) if args.key else public_key(_identity(args))
    except ValueError as error:
        raise BadInput(
            "a key is 64 hexadecimal digits", code="budget.key", value=args.key,
            cure="`aimass client roster show` has the identity of each partner.",
        ) from error  # fmt: skip
    try:
        reading = verify_export(args.file.read_bytes(), key)
    except Unauthenticated as error:
        raise Unauthenticated(
            "this partner did not sign the export", code=error.code, value=key.hex(),
            cure="Name with --key the identity of the partner that did: `aimass client roster show` has it.",
        ) from error  # fmt: skip
    ledger = reading.ledger
    emit(
        args,
        {
            "data_set": ledger.data_set,
            "ledger": ledger.ledger,
            "lines": reading.head.lines,
            "head": reading.head.head,
            "signed_by": key.hex(),
            "entries": len(ledger.entries),
            "in_doubt": bool(ledger.doubts),
            "budgets": standing_rows(ledger, Accountant()),
        },
    )
    return 0


def _folder(args: argparse.Namespace) -> Path:
    from aimass.proto.names import Name
    from aimass.proto.values import convert

    folder: Path = args.dir / "state" / "ledgers" / convert(Name, args.data_set, "the name of a data set")
    return folder


def _identity(args: argparse.Namespace) -> Ed25519PrivateKey:
    from aimass.privacy.keys import load_keys

    return load_keys(args.dir / "keys").identity
