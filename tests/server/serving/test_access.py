"""Who may ask what: tokens, their file, and callers without one."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from aimass.proto.errors import AimassError, BadInput, Conflict, NotFound, Refused, Unauthenticated
from aimass.server.serving.access import Access, Whence, bearer
from aimass.server.serving.rates import Rates, TooOften
from aimass.server.serving.tokens import (
    Token,
    TokenBook,
    TokenFile,
    added,
    digest_of_token,
    make_token,
    read_tokens,
    revoked,
    write_tokens,
)

SECRET = make_token(lambda size: b"\x07" * size)


def token(name: str = "clinic", **fields: object) -> Token:
    return Token(name=name, digest=digest_of_token(SECRET.reveal()), **fields)  # type: ignore[arg-type]


class Listed:
    def __init__(self, *tokens: Token) -> None:
        self._held = {each.digest: each for each in tokens}

    def find(self, token: bytes) -> Token | None:
        return self._held.get(digest_of_token(token))


def admitted(held: Token, may: str, model: str, now: float = 0.0, said: bytes | None = None) -> str:
    access = Access(Listed(held), private=True)
    return access.admit(SECRET.reveal() if said is None else said, "", may, model, now).name  # type: ignore[arg-type]


def test_a_token_admits_its_owner_to_its_models_and_nothing_else() -> None:
    held = token(models=("heart",), may=("infer",))
    assert admitted(held, "infer", "heart") == "clinic"
    assert admitted(held, "infer", "") == "clinic"
    for may, model in [("infer", "lung"), ("see", ""), ("manage", "heart")]:
        with pytest.raises(Refused) as refused:
            admitted(held, may, model)
        assert refused.value.code == "serve.scope"
    assert admitted(token(may=("manage",)), "manage", "anything") == "clinic"


def test_a_token_ends_when_it_was_said_to() -> None:
    held = token(expires=100.0)
    assert admitted(held, "infer", "heart", now=99.9) == "clinic"
    with pytest.raises(Unauthenticated):
        admitted(held, "infer", "heart", now=100.0)


@pytest.mark.parametrize("said", [b"", b"aimass_", SECRET.reveal()[:-1], SECRET.reveal() + b"a", b"\xff"])
def test_any_other_token_is_nobodys(said: bytes) -> None:
    with pytest.raises(Unauthenticated) as refused:
        admitted(token(), "infer", "heart", said=said)
    assert SECRET.reveal().decode() not in str(refused.value)


def test_where_there_are_tokens_one_is_needed() -> None:
    with pytest.raises(Unauthenticated) as refused:
        Access(Listed(token()), private=True).admit(None, "somebody", "infer", "heart", 0.0)
    assert refused.value.code == "serve.no_token"


def test_without_tokens_only_callers_at_this_machine_manage_and_see() -> None:
    private, public = Access(None, private=True), Access(None, private=False)
    assert private.admit(None, "", "manage", "heart", 0.0).name == "anybody"
    assert public.admit(None, "north", "infer", "heart", 0.0).name == "north"
    elsewhere: list[tuple[Access, Whence]] = [(public, "here"), (private, "passed on")]
    for access, whence in elsewhere:
        for may in ("manage", "see"):
            with pytest.raises(Refused):
                access.admit(None, "north", may, "heart", 0.0, whence)


def test_without_tokens_a_private_port_answers_to_its_own_names_alone() -> None:
    for access, certified in [
        (Access(None, private=True, open=True), ""),
        (Access(None, private=False), ""),
        (Access(None, private=True), "north"),
    ]:
        assert access.admit(None, certified, "infer", "heart", 0.0, "other name").may_ask("heart")
        with pytest.raises(Refused):
            access.admit(None, certified, "see", "", 0.0, "other name")
    with pytest.raises(Refused) as refused:
        Access(None, private=True).admit(None, "", "infer", "heart", 0.0, "other name")
    assert refused.value.code == "serve.host"
    assert admitted(token(), "infer", "heart") == "clinic"  # with tokens the token says it, under whatever name


@pytest.mark.parametrize(
    ("header", "found"),
    [(b"Bearer abc", b"abc"), (b"bearer  abc ", b"abc"), (b"Basic abc", None), (b"Bearer", None), (None, None)],
)
def test_a_token_travels_as_the_standard_says(header: bytes | None, found: bytes | None) -> None:
    assert bearer(header) == found


def test_the_file_holds_no_token_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    write_tokens(path, added(read_tokens(path, absent=True), token()))
    assert SECRET.reveal() not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert read_tokens(path) == TokenFile(tokens=(token(),))


def test_names_are_taken_once_and_revoked_by_name() -> None:
    held = added(TokenFile(), token())
    with pytest.raises(Conflict):
        added(held, token())
    with pytest.raises(NotFound):
        revoked(held, "other")
    assert revoked(held, "clinic") == TokenFile()


def test_a_book_reads_its_file_again_when_it_changes(tmp_path: Path) -> None:
    path, failures = tmp_path / "tokens.json", list[AimassError]()
    write_tokens(path, added(TokenFile(), token()))
    book = TokenBook(path, failures.append)
    assert book.find(SECRET.reveal()) == token()
    write_tokens(path, TokenFile())
    assert book.find(SECRET.reveal()) is not None
    book.look()
    assert book.find(SECRET.reveal()) is None


def test_a_file_that_cannot_be_read_admits_nobody_and_is_told_once(tmp_path: Path) -> None:
    path, failures = tmp_path / "tokens.json", list[AimassError]()
    write_tokens(path, added(TokenFile(), token()))
    book = TokenBook(path, failures.append)
    path.write_text("{")
    book.look()
    book.look()
    assert (book.find(SECRET.reveal()), len(failures)) == (None, 1)
    path.unlink()
    book.look()
    assert [failure.code for failure in failures] == ["value.invalid", "serve.tokens"]
    write_tokens(path, added(TokenFile(), token()))
    book.look()
    assert book.find(SECRET.reveal()) == token()
    path.write_text("{")
    with pytest.raises(BadInput):
        TokenBook(path, failures.append)


def test_tokens_are_of_chance() -> None:
    numbers = itertools.count()
    made = {make_token(lambda size: next(numbers).to_bytes(size, "big")).reveal() for _ in range(100)}
    assert len(made) == 100
    assert all(text.startswith(b"aimass_") and len(text) == 50 for text in made)


def test_a_caller_may_ask_so_often_and_others_are_not_affected() -> None:
    rates = Rates(2.0)
    for _ in range(2):
        rates.take("north", 10.0)
    for _ in range(3):
        with pytest.raises(TooOften) as refused:
            rates.take("north", 10.0)
    assert refused.value.retry_after_s == pytest.approx(0.5)
    rates.take("south", 10.0)
    rates.take("north", 10.5)


def test_who_asks_is_remembered_in_bounded_memory() -> None:
    rates = Rates(1.0, callers=3)
    for number in range(1_000):
        rates.take(f"caller {number}", float(number))
    assert len(rates._held) == 3


def test_no_rate_is_no_limit() -> None:
    rates = Rates(0.0)
    for _ in range(1_000):
        rates.take("north", 0.0)
