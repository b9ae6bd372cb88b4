"""A trust file names each key once, and is written so that a person can read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimass.privacy.signing import public_key
from aimass.proto.errors import BadInput, Conflict, NotFound, Unauthenticated
from aimass.proto.registry.trust import Signer, TrustFile
from aimass.server.registry.authors import make_key, read_author
from aimass.server.registry.trusting import trusting, with_signer, without_signer, write_trust
from tests.support.registries import key_of


def signer(name: str, key: str = "") -> Signer:
    return Signer(name=name, key=public_key(key_of(key or name)).hex(), may=("publish",))


def test_it_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "trust.json"
    assert trusting(path) == TrustFile()
    trust = with_signer(with_signer(TrustFile(), signer("petra")), signer("olga"))
    write_trust(path, trust)
    assert trusting(path) == trust
    assert [each.name for each in trust.signers] == ["olga", "petra"]


def test_a_key_stands_once_and_its_rights_can_change() -> None:
    trust = with_signer(TrustFile(), signer("olga"))
    more = with_signer(trust, Signer(name="olga", key=signer("olga").key, may=("publish", "promote")))
    assert [each.may for each in more.signers] == [("publish", "promote")]
    with pytest.raises(Conflict, match="under another name"):
        with_signer(trust, signer("petra", "olga"))


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        with_signer(TrustFile(), Signer(name="olga", key="0" * 64, may=("publish",)))


def test_one_key_of_two_or_all_of_a_name_are_removed() -> None:
    trust = with_signer(with_signer(TrustFile(), signer("olga")), signer("olga", "new"))
    old, new = signer("olga").key, signer("olga", "new").key
    assert [each.key for each in without_signer(trust, "olga", old[:8]).signers] == [new]
    assert without_signer(trust, "olga") == TrustFile()
    with pytest.raises(NotFound, match="names nobody so"):
        without_signer(trust, "petra")


def test_a_key_that_was_made_signs_under_its_folders_name(tmp_path: Path) -> None:
    made = make_key(tmp_path / "olga")
    assert read_author(tmp_path / "olga").public == made.public
    assert made.name == "olga"
    with pytest.raises(Conflict):
        make_key(tmp_path / "olga")
    with pytest.raises(BadInput):
        make_key(tmp_path / "No Name")
