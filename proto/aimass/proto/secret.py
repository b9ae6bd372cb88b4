"""A secret that cannot be printed by accident: keys and tokens wear this type until the moment that they are used."""

from __future__ import annotations

import hmac
from typing import Final

__all__ = ["Secret"]


class Secret:
    """Bytes that show as `***`; `reveal` hands them to the one function that needs them."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data: Final = bytes(data)

    def reveal(self) -> bytes:
        """The bytes themselves."""
        return self._data

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._data, other._data)

    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a dictionary

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialised")
