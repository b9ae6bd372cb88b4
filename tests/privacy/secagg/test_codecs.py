"""Every message: there and back, and no byte or bit of it without a meaning."""

from __future__ import annotations

import dataclasses
import math
import struct
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.secagg import messages
from aimass.privacy.secagg.codec import Reader, bitmap, bitmap_bytes, ids_bytes, u16, u32, u64
from aimass.privacy.secagg.context import MAX_MEMBERS, RoundContext, decode_context
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.parameters import Profile
from tests.support import secagg_v7
from tests.support.secagg import flip
from tests.support.secagg_vectors import DECODERS

PLAY: Any = secagg_v7.play()
SAMPLES: dict[str, bytes] = {
    **{kind: bytes.fromhex(next(iter(by.values()))) for kind, by in PLAY["messages"].items() if kind in DECODERS},
    "context": secagg_v7.context().data,
    "seed": messages.SeedReveal(bytes(32), 1, bytes(32)).data,
    "abort": messages.Abort(bytes(32), Code.TIMEOUT, (1, 2)).data,
}

DIGEST = st.binary(min_size=32, max_size=32)
SIGNATURE = st.binary(min_size=64, max_size=64)
ID = st.integers(0, 2**32 - 1)
SORTED_IDS = st.sets(ID, max_size=6).map(lambda ids: tuple(sorted(ids)))
BOX = st.binary(min_size=92, max_size=92)


def by_id(values: st.SearchStrategy[Any], most: int = 5) -> st.SearchStrategy[tuple[tuple[int, Any], ...]]:
    return st.dictionaries(ID, values, max_size=most).map(lambda held: tuple(sorted(held.items())))


def members(n: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.integers(0, n - 1)).map(lambda held: tuple(sorted(held)))


AD = st.builds(messages.Advertise, ID, DIGEST, DIGEST, DIGEST, SIGNATURE)
POSITIVE = st.floats(min_value=1e-300, max_value=1e300)
CONTEXT = st.builds(
    RoundContext,
    run_id=st.binary(min_size=16, max_size=16),
    round=st.integers(0, 2**32 - 1),
    attempt=st.integers(0, 2**16 - 1),
    model_digest=DIGEST,
    plan_digest=DIGEST,
    layout_digest=DIGEST,
    roster_digest=DIGEST,
    server_key=DIGEST,
    profile=st.sampled_from(Profile),
    gamma_ppm=st.integers(0, 999_999),
    delta_ppm=st.integers(0, 999_999),
    min_cohort=st.integers(0, 2**16 - 1),
    bits=st.integers(1, 64),
    lanes=st.integers(1, 2**40 - 1),
    clip=POSITIVE,
    scale=POSITIVE,
    ids=SORTED_IDS,
    dp_digest=DIGEST,
)


@given(CONTEXT)
def test_a_context_comes_back_as_it_was_and_two_contexts_have_two_hashes(context: RoundContext) -> None:
    assert decode_context(context.data) == context
    assert len(context.data) == 257 + 4 * len(context.ids)
    assert decode_context(context.data).ctx == context.ctx
    assert dataclasses.replace(context, round=context.round ^ 1).ctx != context.ctx


@given(st.integers(1, 40), st.data())
def test_every_message_comes_back_as_it_was(n: int, data: st.DataObject) -> None:
    small = st.integers(0, 2**16 - 1)
    drawn: list[tuple[Any, Any]] = [
        (data.draw(AD), messages.Advertise.decode),
        (
            messages.RosterMessage(
                data.draw(DIGEST), data.draw(small), data.draw(small), data.draw(small), data.draw(small),
                tuple(sorted(data.draw(st.lists(AD, max_size=3, unique_by=lambda ad: ad.id)), key=lambda ad: ad.id)),
            ),
            messages.RosterMessage.decode,
        ),
        (messages.SeedReveal(data.draw(DIGEST), data.draw(ID), data.draw(DIGEST)), messages.SeedReveal.decode),
        (
            messages.SeedSet(data.draw(DIGEST), tuple(data.draw(DIGEST) for _ in range(n))),
            lambda raw: messages.SeedSet.decode(raw, n),
        ),
        (
            messages.ShareDelivery(data.draw(DIGEST), data.draw(members(n)), data.draw(by_id(BOX)), n),
            lambda raw: messages.ShareDelivery.decode(raw, n),
        ),
        (
            messages.MaskedInput(
                data.draw(DIGEST), data.draw(ID), data.draw(DIGEST), data.draw(st.integers(0, 2**64 - 1)),
                data.draw(DIGEST), data.draw(SIGNATURE),
            ),
            messages.MaskedInput.decode,
        ),
        (
            messages.SurvivorRequest(
                data.draw(DIGEST), data.draw(members(n)),
                tuple(messages.Proof(i, *rest) for i, rest in data.draw(by_id(st.tuples(DIGEST, SIGNATURE)))), n,
            ),
            lambda raw: messages.SurvivorRequest.decode(raw, n),
        ),
        (
            messages.SurvivorSignature(data.draw(DIGEST), data.draw(ID), data.draw(SIGNATURE)),
            messages.SurvivorSignature.decode,
        ),
        (messages.UnmaskRequest(data.draw(DIGEST), data.draw(by_id(SIGNATURE))), messages.UnmaskRequest.decode),
        (
            messages.Unmask(
                data.draw(DIGEST), data.draw(ID),
                tuple(messages.Revealed(i, *rest) for i, rest in data.draw(by_id(st.tuples(st.integers(0, 1), DIGEST)))),
            ),
            messages.Unmask.decode,
        ),
        (
            messages.Abort(data.draw(DIGEST), data.draw(st.sampled_from(Code)), data.draw(SORTED_IDS)),
            messages.Abort.decode,
        ),
    ]  # fmt: skip
    for message, decode in drawn:
        assert decode(message.data) == message
        assert decode(message.data).data == message.data


@given(st.integers(0, 5), st.data())
def test_share_keys_come_back_as_they_were(k: int, data: st.DataObject) -> None:
    boxes = data.draw(st.dictionaries(ID, BOX, min_size=k, max_size=k).map(lambda held: tuple(sorted(held.items()))))
    commits = tuple((data.draw(DIGEST), data.draw(DIGEST)) for _ in range(k + 1))
    message = messages.ShareKeys(
        data.draw(DIGEST), data.draw(ID), data.draw(DIGEST), boxes, commits, data.draw(SIGNATURE)
    )
    assert messages.ShareKeys.decode(message.data, k) == message
    assert len(message.data) == 132 + 160 * k + 64


def decoded(kind: str, data: bytes) -> Any:
    """The message, or the name of the fault."""
    try:
        return DECODERS[kind](data)
    except FaultError as error:
        return error.fault.code


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_no_truncation_of_a_message_is_the_same_message(kind: str) -> None:
    """Where members stand in a row, fewer of them are another message, which its signatures or sets refuse."""
    whole = DECODERS[kind](SAMPLES[kind])
    for size in range(len(SAMPLES[kind])):
        found = decoded(kind, SAMPLES[kind][:size])
        if isinstance(found, Code):
            assert found in (Code.ENCODING, Code.SHARE_SET, Code.VERSION)
        else:
            assert kind in ("delivery", "survivors", "quorum", "unmask")
            assert found != whole


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_every_trailing_byte_is_refused(kind: str) -> None:
    for byte in range(256):
        with pytest.raises(FaultError):
            DECODERS[kind](SAMPLES[kind] + bytes((byte,)))


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_every_flipped_bit_is_refused_or_gives_another_message_with_these_very_bytes(kind: str) -> None:
    whole = DECODERS[kind](SAMPLES[kind])
    for bit in range(8 * len(SAMPLES[kind])):
        data = flip(SAMPLES[kind], bit)
        try:
            found: Any = DECODERS[kind](data)
        except FaultError:
            continue
        assert found != whole
        assert found.data == data


@pytest.mark.parametrize("kind", sorted(DECODERS))
@given(data=st.binary(max_size=400))
def test_any_bytes_are_a_message_in_its_one_encoding_or_a_named_fault(kind: str, data: bytes) -> None:
    found = decoded(kind, data)
    assert isinstance(found, Code) or found.data == data


# ------------------------------------------------------------------- parts


@given(st.integers(1, 200), st.data())
def test_a_bitmap_is_the_one_encoding_of_its_set(n: int, data: st.DataObject) -> None:
    held = data.draw(members(n))
    raw = bitmap(held, n)
    assert len(raw) == bitmap_bytes(n)
    assert Reader(raw, "a set").members(n) == held
    for extra in range(n, 8 * bitmap_bytes(n)):
        with pytest.raises(FaultError):
            Reader(flip(raw, extra), "a set").members(n)


@given(SORTED_IDS)
def test_ids_come_back_in_order_alone(ids: tuple[int, ...]) -> None:
    assert Reader(ids_bytes(ids), "ids").ids(10) == ids
    if len(ids) > 1:
        for wrong in (ids[::-1], (*ids, ids[-1])):
            with pytest.raises(FaultError):
                Reader(ids_bytes(wrong), "ids").ids(10)
    if ids:
        with pytest.raises(FaultError):
            Reader(ids_bytes(ids), "ids").ids(len(ids) - 1)


def test_a_count_of_members_beyond_its_limit_is_refused_before_they_are_read() -> None:
    head = secagg_v7.context().data[:-16]
    with pytest.raises(FaultError, match=str(MAX_MEMBERS)):
        decode_context(head + u32(MAX_MEMBERS + 1))
    with pytest.raises(FaultError, match="too long"):
        messages.RosterMessage.decode(bytes(40) + u32(MAX_MEMBERS + 1))


@pytest.mark.parametrize(("write", "limit"), [(u16, 2**16), (u32, 2**32), (u64, 2**64)])
def test_numbers_that_do_not_fit_are_never_cut(write: Any, limit: int) -> None:
    assert int.from_bytes(write(limit - 1), "big") == limit - 1
    for value in (-1, limit):
        with pytest.raises(struct.error):
            write(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0])
@pytest.mark.parametrize("name", ["clip", "scale"])
def test_a_context_whose_scale_is_no_positive_number_is_refused(name: str, value: float) -> None:
    with pytest.raises(FaultError):
        decode_context(dataclasses.replace(secagg_v7.context(), **cast("Any", {name: value})).data)


@pytest.mark.parametrize(
    "changes", [{"bits": 0}, {"bits": 65}, {"lanes": 0}, {"lanes": 2**40}, {"gamma_ppm": 10**6}, {"delta_ppm": 10**6},
                {"graph_rule": 1}], ids=str,
)  # fmt: skip
def test_a_context_with_impossible_sizes_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(FaultError):
        decode_context(dataclasses.replace(secagg_v7.context(), **changes).data)  # type: ignore[arg-type]
