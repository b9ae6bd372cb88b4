"""Whether a version that could not be brought here is tried again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aimass.privacy.model_trust import FileTrust
from aimass.proto.errors import AimassError
from aimass.proto.registry.entries import Signed
from aimass.proto.registry.trust import Kind
from aimass.proto.values import canonical_json
from aimass.server.serving.watching.releases import again_of
from aimass.server.serving.watching.state import Again
from tests.support.registries import trusting

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
