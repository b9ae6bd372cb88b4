"""The forms of names and digests that cross between people, files and machines; one place, so that all sides agree."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

__all__ = ["PERSON_MOST", "Digest", "Name", "PersonName", "RunId", "SchemaName"]

Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9-]{0,62}\\Z")]
"""A partner, data set, task, driver or analysis: lower-case ASCII, so that no two names look alike."""

PERSON_MOST: Final = 63
"""Letters of anybody's name."""

PersonName = Annotated[
    str,
    msgspec.Meta(
        pattern="^([a-z0-9][a-z0-9-]*|[A-Za-z0-9][A-Za-z0-9._@-]*@[a-z0-9][a-z0-9-]*)\\Z", max_length=PERSON_MOST
    ),
]
"""A person by the name of the certificate; or, with an @ in it, as an identity provider and the operator name them."""

SchemaName = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9-]{0,62}/[1-9][0-9]{0,3}\\Z")]
"""A schema with its version, such as `heart/1`."""

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
"""A SHA-256 in lower-case hexadecimal."""

RunId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}\\Z")]
"""Sixteen random bytes in lower-case hexadecimal."""
