"""What a partner remembers of secure sums: rules R1 to R7 hold over restarts, runs and threads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from aimass.client.secure_records import Counted, SumRecords
from aimass.privacy.secagg.client_state import History, Limits, Phase, Record
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import IntegrityError, OutOfSpace
from tests.support.killing import FullTwice

RUN, OTHER = bytes(16), bytes([1] * 16)
MODEL, NEXT = b"m" * 32, b"n" * 32
HEART = Counted("heart", "train")
LIMITS = Limits(contributions_per_model=2, contributions_per_data=3)
FIRST = Record(RUN, 4, 0, Phase.ADVERTISED, b"c" * 32, MODEL)


def at(folder: Path) -> SumRecords:
    return SumRecords(folder / "secagg.jsonl", UNINTERRUPTED)


def masked(record: Record) -> Record:
    return dataclasses.replace(record, phase=Phase.MASKED, payload_digest=b"p" * 32)


def signed(record: Record) -> Record:
    return dataclasses.replace(masked(record), phase=Phase.SIGNED, signed=b"s" * 64)


def attempt(number: int, record: Record = FIRST) -> Record:
    return dataclasses.replace(record, attempt=number, ctx=bytes([number]) * 32)


def sign(records: SumRecords, run: bytes, round_: int, model: bytes = MODEL, counted: Counted = HEART) -> None:
    first = Record(run, round_, 0, Phase.ADVERTISED, b"c" * 32, model)
    for record in (first, masked(first), signed(first)):
        records.keep(record, counted, LIMITS)


def refused(records: SumRecords, record: Record, counted: Counted = HEART) -> Code:
    with pytest.raises(FaultError) as caught:
        records.keep(record, counted, LIMITS)
    return caught.value.fault.code


def test_what_was_kept_is_what_the_next_process_reads(tmp_path: Path) -> None:
    records = at(tmp_path)
    for record in (FIRST, masked(FIRST), signed(FIRST)):
        records.keep(record, HEART, LIMITS)
        again = at(tmp_path)
        assert again.held(RUN, 4) == record
        assert again.history(RUN, 5, MODEL, HEART) == records.history(RUN, 5, MODEL, HEART)
    assert again.history(RUN, 4, MODEL, HEART) == History(signed(FIRST), 0, 0)
    assert again.history(RUN, 5, MODEL, HEART) == History(None, 1, 1)
    assert again.held(RUN, 5) is None


def test_a_torn_last_line_is_cut_off_and_what_follows_is_whole(tmp_path: Path) -> None:
    records, path = at(tmp_path), tmp_path / "secagg.jsonl"
    records.keep(FIRST, HEART, LIMITS)
    whole = path.read_bytes()
    records.keep(masked(FIRST), HEART, LIMITS)
    path.write_bytes(path.read_bytes()[:-20])
    again = at(tmp_path)
    assert path.read_bytes() == whole
    assert again.held(RUN, 4) == FIRST
    again.keep(masked(FIRST), HEART, LIMITS)
    assert at(tmp_path).held(RUN, 4) == masked(FIRST)


def test_records_that_were_edited_stop_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "secagg.jsonl"
    sign(at(tmp_path), RUN, 0)
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged in (
        [b"junk\n", *lines],
        [lines[0].replace(b"advertised", b"happy")],
        [lines[0].replace(b'"attempt":0', b'"attempt": 0')],
        [lines[0].replace(MODEL.hex().encode(), b"m" * 64)],
        [*reversed(lines)],
        [lines[2], lines[2].replace(b'"attempt":0', b'"attempt":1')],
    ):
        path.write_bytes(b"".join(damaged))
        with pytest.raises(IntegrityError) as caught:
            at(tmp_path)
        assert caught.value.code == "secagg.records_edited"


def test_attempts_of_a_round_increase_and_end_with_the_one_that_was_signed(tmp_path: Path) -> None:
    records = at(tmp_path)
    records.keep(attempt(1), HEART, LIMITS)
    assert refused(records, attempt(0)) is Code.ROUND_CLOSED
    assert refused(records, dataclasses.replace(attempt(1), ctx=b"x" * 32)) is Code.ROUND_CLOSED
    records.keep(masked(attempt(1)), HEART, LIMITS)
    assert refused(records, attempt(1)) is Code.ROUND_CLOSED
    records.keep(attempt(3), HEART, LIMITS)
    assert refused(records, signed(attempt(1))) is Code.ROUND_CLOSED
    records.keep(signed(attempt(3)), HEART, LIMITS)
    assert refused(records, attempt(4)) is Code.ROUND_CLOSED
    assert refused(records, dataclasses.replace(signed(attempt(3)), signed=b"t" * 64)) is Code.ROUND_CLOSED
    assert refused(at(tmp_path), attempt(4)) is Code.ROUND_CLOSED
    records.keep(dataclasses.replace(FIRST, round=5), HEART, LIMITS)


def test_a_run_signs_so_often_on_a_model_and_another_run_or_model_has_counts_of_its_own(tmp_path: Path) -> None:
    records = at(tmp_path)
    sign(records, RUN, 0)
    sign(records, RUN, 1)
    assert records.history(RUN, 2, MODEL, HEART).signed_on_model == 2
    assert records.history(OTHER, 2, MODEL, HEART) == History(None, 0, 2)
    assert records.history(RUN, 2, NEXT, HEART) == History(None, 0, 0)
    sign(records, RUN, 2, NEXT)
    sign(records, OTHER, 0)
    assert at(tmp_path).history(OTHER, 1, MODEL, HEART) == History(None, 1, 3)


def test_a_signature_that_is_kept_twice_counts_once(tmp_path: Path) -> None:
    records = at(tmp_path)
    for _ in range(3):
        records.keep(signed(FIRST), HEART, LIMITS)
    assert records.history(RUN, 5, MODEL, HEART) == History(None, 1, 1)
    assert at(tmp_path).history(RUN, 5, MODEL, HEART) == History(None, 1, 1)


def test_a_data_set_is_signed_for_so_often_on_a_model_for_one_purpose_over_all_runs(tmp_path: Path) -> None:
    records = at(tmp_path)
    for number in range(3):
        sign(records, bytes([number] * 16), 0)
    assert refused_at_last(records, HEART) is Code.REPEAT_MODEL
    for other in (Counted("lungs", "train"), Counted("heart", "evaluate")):
        assert records.history(bytes([9] * 16), 0, MODEL, other).signed_on_data == 0
        sign(records, bytes([10 + len(other.data_set + other.purpose)] * 16), 0, counted=other)


def refused_at_last(records: SumRecords, counted: Counted) -> Code:
    """An input may not leave that is one too many: another run may have gone further since this one was admitted."""
    first = Record(b"z" * 16, 0, 0, Phase.ADVERTISED, b"c" * 32, MODEL)
    records.keep(first, counted, LIMITS)
    code = refused(records, masked(first), counted)
    assert records.held(b"z" * 16, 0) == first
    return code


def test_an_input_counts_once_it_may_leave_since_others_can_sum_it_without_this_partners_signature(
    tmp_path: Path,
) -> None:
    """T of U2 sign, not all of them: a server that never asks this partner to sign has its input all the same."""
    records = at(tmp_path)
    for number in range(2):
        first = dataclasses.replace(FIRST, round=number)
        records.keep(first, HEART, LIMITS)
        records.keep(masked(first), HEART, LIMITS)
    third = dataclasses.replace(FIRST, round=2)
    assert at(tmp_path).history(RUN, 2, MODEL, HEART) == History(None, 2, 2)
    records.keep(third, HEART, LIMITS)
    assert refused(records, masked(third)) is Code.REPEAT_MODEL


def test_attempts_of_one_round_count_once(tmp_path: Path) -> None:
    limits = dataclasses.replace(LIMITS, contributions_per_model=1)
    records = at(tmp_path)
    for number in range(3):
        assert records.history(RUN, 4, MODEL, HEART).signed_on_model == 0
        records.keep(attempt(number), HEART, limits)
        records.keep(masked(attempt(number)), HEART, limits)
    records.keep(signed(attempt(2)), HEART, limits)
    assert at(tmp_path).history(RUN, 5, MODEL, HEART) == History(None, 1, 1)


def test_two_attempts_that_were_admitted_side_by_side_do_not_both_give_the_last_input(tmp_path: Path) -> None:
    records, runs = at(tmp_path), [bytes([number] * 16) for number in range(4)]
    firsts = [Record(run, 0, 0, Phase.ADVERTISED, b"c" * 32, MODEL) for run in runs]
    for first in firsts:
        records.keep(first, HEART, LIMITS)
    for first in firsts[:3]:
        records.keep(masked(first), HEART, LIMITS)
    assert refused(records, masked(firsts[3])) is Code.REPEAT_MODEL


def test_a_record_that_finds_no_room_is_not_held_either(tmp_path: Path) -> None:
    records = SumRecords(tmp_path / "secagg.jsonl", FullTwice())
    for _ in range(2):
        with pytest.raises(OutOfSpace):
            records.keep(FIRST, HEART, LIMITS)
        assert records.held(RUN, 4) is None
    records.keep(FIRST, HEART, LIMITS)
    assert at(tmp_path).held(RUN, 4) == FIRST
