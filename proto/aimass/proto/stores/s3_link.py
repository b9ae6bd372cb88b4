"""How a bucket is reached: obstore's clients of one place, their credentials, and their errors by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from obstore.exceptions import BaseError
from obstore.store import S3Store

from aimass.proto.errors import AimassError, BadInput, Unavailable
from aimass.proto.objects import ObjectStore
from aimass.proto.stores.s3_errors import named
from aimass.proto.stores.s3_keys import Keys, keys_of
from aimass.proto.stores.s3_place import Place

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Credential

__all__ = ["Link", "Timeouts"]

_KEYS_LAST: Final = timedelta(minutes=15)
"""Keys of a profile file are read again after this: who rotates them writes new ones there."""
_FORBID: Final = {"x-oss-forbid-overwrite": "true"}
_WHOLE: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds until a connection is given up, and until one that is open and silent is."""

    connect_s: float = 5.0
    silence_s: float = 60.0


class Link:
    """Clients of one place: `once` asks once, `parts` asks for each part of an upload again.

    OSS is not `conditional`: it knows no If-None-Match, and has a header of its own that forbids to overwrite.
    `guarded` sends that; elsewhere it is `once`.
    """

    def __init__(self, place: Place, attempts: int, timeouts: Timeouts, environment: Mapping[str, str]) -> None:
        self.place, self._attempts, self._timeouts, self._environment = place, attempts, timeouts, environment
        self._open(None if place.anonymous else keys_of(place.scheme, environment))

    def _open(self, keys: Keys | None) -> None:
        self._keys = keys
        self.once = self._client(0)
        self.parts = self._client(self._attempts - 1)
        self.guarded = self.once if self.conditional else self._client(0, _FORBID)

    @property
    def conditional(self) -> bool:
        """Whether If-None-Match is how something is created here."""
        return self.place.scheme != "oss"

    @contextmanager
    def errors(self, store: ObjectStore, key: str) -> Iterator[None]:
        """Turn what obstore raises into named errors; its text may quote keys, and goes nowhere."""
        try:
            yield
        except (BaseError, OSError) as error:
            told = named(error, store, key)
            error.args = (told.code,)  # it stays the context of the other, for whoever shows contexts
            raise (self._renewed() if told.code == "storage.expired" and self._newer() else told) from None

    def _newer(self) -> bool:
        return not self.place.anonymous and keys_of(self.place.scheme, self._environment) != self._keys

    def _renewed(self) -> AimassError:
        self._open(keys_of(self.place.scheme, self._environment))
        return Unavailable("the credentials had expired, and new ones are here", code="storage.renewed")

    def _client(self, retries: int, headers: Mapping[str, str] | None = None) -> S3Store:
        place, keys = self.place, self._keys
        config: S3Config = {
            "virtual_hosted_style_request": place.virtual,
            "skip_signature": place.anonymous,
            "disable_bulk_delete": True,
        }
        if place.base:
            config["endpoint"] = place.base
        if place.region:
            config["region"] = place.region
        client: ClientConfig = {
            "allow_http": place.plain,
            "connect_timeout": timedelta(seconds=self._timeouts.connect_s),
            "read_timeout": timedelta(seconds=self._timeouts.silence_s),
            "timeout": _WHOLE,
        }
        if headers:
            client["default_headers"] = dict(headers)
        if bundle := self._environment.get("AWS_CA_BUNDLE"):
            client["root_certificate"] = _certificates(Path(bundle))
        return S3Store(
            place.bucket,
            config=config,
            client_options=client,
            retry_config={"max_retries": retries, "retry_timeout": timedelta(minutes=3)},
            credential_provider=_provider(keys, lambda: keys_of(place.scheme, self._environment)) if keys else None,
        )


def _provider(keys: Keys, again: Callable[[], Keys | None]) -> Callable[[], S3Credential]:
    def provide() -> S3Credential:
        newest = again() or keys
        return {
            "access_key_id": newest.access_key_id,
            "secret_access_key": newest.secret_access_key,
            "token": newest.session_token or None,
            "expires_at": datetime.now(UTC) + _KEYS_LAST,
        }

    return provide


def _certificates(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(
            "the certificates of AWS_CA_BUNDLE cannot be read", code="storage.ca_bundle", value=path
        ) from error
