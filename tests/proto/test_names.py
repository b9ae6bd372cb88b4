"""Names and digests: nothing that merely looks like one passes."""

from __future__ import annotations

import msgspec
import pytest

from aimass.proto.names import Digest, Name, RunId, SchemaName


@pytest.mark.parametrize(
    ("kind", "good"), [(Name, "north-1"), (SchemaName, "heart/1"), (Digest, "0a" * 32), (RunId, "0a" * 16)]
)
def test_a_name_is_taken_as_it_is_and_refused_with_anything_around_it(kind: object, good: str) -> None:
    assert msgspec.convert(good, kind) == good
    for bad in (f"{good}\n", f"\n{good}", f" {good}", f"{good}\x00", f"{good}é", good.upper(), "", f"../{good}"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(bad, kind)
