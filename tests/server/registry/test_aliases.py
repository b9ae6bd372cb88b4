"""Aliases move by numbers: the highest holds, one of two promoters wins, and a rollback goes to what held before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.model_trust import ListedTrust
from aimass.proto.errors import Conflict, NotFound, Refused, WrongState
from aimass.proto.registry.entries import Alias
from aimass.proto.registry.reader import Resolved
from aimass.server.registry.aliases import Aliases, standing
from tests.support.objects import MemoryObjects
from tests.support.registries import author_of, promoting, publication_of, publishing, reading, trusting


def states(versions: list[int]) -> list[Alias]:
    """The history of an alias that named these versions."""
    return [
        Alias(model="m", alias="a", number=n, version=v, version_digest="0" * 64, reason="", at=0.0, by="")
        for n, v in enumerate(versions, 1)
    ]


@pytest.fixture
def store() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def versions(store: MemoryObjects, tmp_path: Path) -> list[Resolved]:
    return [publishing(store).publish(publication_of(tmp_path, seed=seed)) for seed in range(3)]


def test_a_rollback_goes_past_what_was_taken_back() -> None:
    assert [state.version for state in standing(states([1, 2, 3, 2]))] == [1, 2]
    assert [state.version for state in standing(states([1, 2, 3, 2, 3]))] == [1, 2, 3]
    assert [state.version for state in standing(states([1, 2, 1, 2, 1]))] == [1]


@given(st.lists(st.integers(1, 5)))
def test_what_stands_ends_with_what_holds_and_names_no_version_twice(versions: list[int]) -> None:
    stack = [state.version for state in standing(states(versions))]
    assert stack[-1:] == versions[-1:]
    assert len(set(stack)) == len(stack)


def test_an_alias_is_moved_and_rolled_back(store: MemoryObjects, versions: list[Resolved]) -> None:
    aliases = promoting(store, "petra", "olga")
    for version in versions:
        aliases.point("champion", version, f"better:\nby {version.version.number}")
    reader = reading(store, "olga", "petra")
    assert reader.resolve("heart").version.number == 3
    assert aliases.roll_back("heart", "champion", "worse").version == 2
    assert aliases.roll_back("heart", "champion", "worse still").version == 1
    with pytest.raises(NotFound, match="named no other version before"):
        aliases.roll_back("heart", "champion", "and now?")
    told = [(state.version, state.reason, state.by) for state in reader.history("heart", "champion")]
    assert told[2:] == [(3, "better: by 3", "petra"), (2, "worse", "petra"), (1, "worse still", "petra")]


def test_pointing_at_what_it_names_already_writes_nothing(store: MemoryObjects, versions: list[Resolved]) -> None:
    aliases = promoting(store, "petra", "olga")
    first = aliases.point("champion", versions[0], "better")
    assert aliases.point("champion", versions[0], "again") == first


def test_who_decided_on_an_older_state_is_told(store: MemoryObjects, versions: list[Resolved]) -> None:
    aliases = promoting(store, "petra", "olga")
    aliases.point("champion", versions[0], "first", after=0)
    with pytest.raises(Conflict, match="heart@1 by petra: first") as told:
        aliases.point("champion", versions[1], "second", after=0)
    assert told.value.code == "registry.moved"
    assert aliases.point("champion", versions[1], "second", after=1).number == 2


def test_a_stray_last_number_is_named_with_what_to_do(store: MemoryObjects, versions: list[Resolved]) -> None:
    aliases = promoting(store, "petra", "olga")
    aliases.point("champion", versions[0], "first")
    store.put("heart/aliases/champion/99999999.json", b"junk")
    with pytest.raises(WrongState, match=r"heart/aliases/champion/99999999\.json.*delete this object") as told:
        aliases.point("champion", versions[1], "second")
    assert told.value.code == "document.full"
    store.delete("heart/aliases/champion/99999999.json")
    assert aliases.point("champion", versions[1], "second").number == 2


def test_of_many_promoters_and_one_number_one_wins(store: MemoryObjects, versions: list[Resolved]) -> None:
    promoting(store, "petra", "olga").point("champion", versions[0], "first")

    def promote(place: int) -> Alias | str:
        try:
            return promoting(store, "petra", "olga").point("champion", versions[1 + place % 2], str(place), after=1)
        except Conflict as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(promote, range(16)))
    won = [state for state in told if isinstance(state, Alias)]
    assert reading(store, "olga", "petra").resolve("heart").alias in won
    assert {state.number for state in won} == {2}
    assert {code for code in told if isinstance(code, str)} <= {"registry.moved"}


def test_who_may_not_promote_moves_nothing(store: MemoryObjects, versions: list[Resolved]) -> None:
    trust = ListedTrust(trusting("olga", may=["publish"]))
    with pytest.raises(Refused, match="may not promote"):
        Aliases(store, trust, author_of("olga"), lambda: 0.0).point("champion", versions[0], "mine")
    assert reading(store, "olga").aliases("heart") == ()


def test_from_a_promoter_who_is_not_believed_any_more_it_goes_back_to_the_last_who_is(
    store: MemoryObjects, versions: list[Resolved]
) -> None:
    promoting(store, "petra", "olga").point("champion", versions[0], "good")
    promoting(store, "eve", "petra", "olga").point("champion", versions[1], "trust me")
    state = promoting(store, "petra", "olga").roll_back("heart", "champion", "eve was thrown out")
    assert (state.number, state.version) == (3, 1)
    assert reading(store, "olga", "petra").resolve("heart").version.number == 1
