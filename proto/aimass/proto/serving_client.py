"""What commands ask of a serving process, over its HTTP port."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import urllib3

from aimass.proto.errors import AimassError, BadInput, Refused, Unauthenticated, Unavailable
from aimass.proto.home import read_key_file
from aimass.proto.serving_views import ServingStatus
from aimass.proto.values import decode_json

__all__ = ["ServingClient"]

_PATIENCE_S: Final = 10.0


class ServingClient:
    """The process at `url`; a token is read from a file, so that it stands on no command line."""

    def __init__(self, url: str, token_file: Path | None = None, authority: Path | None = None) -> None:
        self._url = url.rstrip("/")
        if not self._url.startswith(("http://", "https://")):
            raise BadInput("not the address of a server", code="serve.url", value=url, limit="http:// or https://")
        self._headers = {}
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
        try:
            response = self._pool.request("GET", self._url + path, headers=self._headers)
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


def _refused(status: int, body: bytes) -> AimassError:
    try:
        said = msgspec.json.decode(body)
        what, code = str(said["error"]), str(said.get("code", ""))
    except (msgspec.MsgspecError, TypeError, KeyError):
        what, code = f"the server answered {status}", ""
    kinds: dict[int, type[AimassError]] = {401: Unauthenticated, 403: Refused}
    return kinds.get(status, Unavailable)(what, code=code or "serve.answer")
