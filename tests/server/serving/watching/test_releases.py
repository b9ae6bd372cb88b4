"""Versions on their way to this disk: what is kept of them, and whether one that could not come is tried again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aimass.privacy.model_trust import FileTrust, ListedTrust
from aimass.proto.errors import AimassError
from aimass.proto.registry.entries import Signed
from aimass.proto.registry.layout import Reference
from aimass.proto.registry.reader import RegistryReader
from aimass.proto.registry.trust import Kind
from aimass.proto.values import canonical_json
from aimass.server.serving.watching.last_good import LastGood
from aimass.server.serving.watching.releases import Releases, again_of, release_of
from aimass.server.serving.watching.state import Again
from tests.support.objects import MemoryObjects
from tests.support.registries import put_alias, put_version, trusting, version_of

_SIGNED = Signed(document=canonical_json(trusting()), key="0" * 64, signature="0" * 128)  # type: ignore[arg-type]


def open_to_all(path: Path) -> None:
    path.touch()
    path.chmod(0o666)


@pytest.mark.parametrize("spoil", [lambda path: None, Path.mkdir, open_to_all])
def test_a_trust_file_that_cannot_be_used_condemns_no_version(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(tmp_path / "trust.json")
    with pytest.raises(AimassError) as wrong:
        FileTrust(tmp_path / "trust.json").verify(Kind.VERSION, _SIGNED, "heart@1")
    assert again_of(wrong.value, fetching=True) is Again.ALWAYS


def test_a_version_is_kept_whose_documents_went_from_the_registry_while_it_was_tried(tmp_path: Path) -> None:
    store, trust, champion = MemoryObjects(), ListedTrust(trusting("olga")), Reference("heart", "champion")
    for number in (1, 2):
        data = f"parameters {number}".encode()
        digest = put_version(store, version_of("heart", number, data), parameters=data)
        put_alias(store, "heart", "champion", number, number, digest, "olga")
    releases = Releases(champion, store, RegistryReader(store, trust), LastGood(tmp_path, trust))
    release = release_of(releases.resolve())
    releases.prepare(release)
    store.delete("heart/aliases/champion/00000002.json")
    releases.keep(release)
    kept = LastGood(tmp_path, trust).kept(champion)
    assert kept is not None
    assert kept.version.number == 2
