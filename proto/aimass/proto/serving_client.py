"""What commands ask of a serving process, over its HTTP port."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import urllib3

from aimass.proto.errors import AimassError, BadInput, Refused, Unauthenticated, Unavailable
from aimass.proto.home import read_key_file
from aimass.proto.loopback import is_loopback
from aimass.proto.serving_views import ServingStatus
from aimass.proto.values import decode_json

__all__ = ["ServingClient"]

_PATIENCE_S: Final = 10.0


class ServingClient:
    """The process at `url`; a token is read from a file, so that it stands on no command line, or is a person's, which
    `bearer` gives at each call and which is shown over TLS or on this machine alone."""

    def __init__(
        self,
        url: str,
        token_file: Path | None = None,
        authority: Path | None = None,
        bearer: Callable[[], str] | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        if not self._url.startswith(("http://", "https://")):
            raise BadInput("not the address of a server", code="serve.url", value=url, limit="http:// or https://")
        if bearer is not None:
            _check_link(self._url)
        self._headers, self._bearer = dict[str, str](), bearer
        if token_file is not None:
            words = read_key_file(token_file).reveal().split()
            self._headers["Authorization"] = f"Bearer {words[0].decode('latin-1') if words else ''}"
        self._pool = urllib3.PoolManager(
            retries=False, timeout=_PATIENCE_S, ca_certs=None if authority is None else str(authority)
        )

    def status(self) -> ServingStatus:
        """Its status; raises a named error where it is away, or does not tell us."""
        return decode_json(ServingStatus, self.get("/status"), "the server's status")

    def get(self, path: str) -> bytes:
        """What stands at a path; raises the named error that was answered."""
        person = {} if self._bearer is None else {"Authorization": f"Bearer {self._bearer()}"}
        try:
            response = self._pool.request("GET", self._url + path, headers=self._headers | person)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                "no serving process answers there",
                code="serve.away",
                value=f"{self._url}: {type(error).__name__}",
                cure="Name its address with --url; with TLS that of its authority with --ca.",
            ) from error
        if response.status != 200:
            raise _refused(response.status, response.data)
        return response.data


def _check_link(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise Refused(
            "a person's token is not shown over a link that others can read",
            code="serve.people_link",
            value=f"{parts.scheme}://{parts.hostname}",
            limit="https://, or http:// on this machine",
            cure="Give that server a certificate, and name its address with https.",
        )


def _refused(status: int, body: bytes) -> AimassError:
    try:
        said = msgspec.json.decode(body)
        what, code = str(said["error"]), str(said.get("code", ""))
    except (msgspec.MsgspecError, TypeError, KeyError):
        what, code = f"the server answered {status}", ""
    kinds: dict[int, type[AimassError]] = {401: Unauthenticated, 403: Refused}
    return kinds.get(status, Unavailable)(what, code=code or "serve.answer")
