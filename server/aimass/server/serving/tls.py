"""TLS of a serving process: its certificate from files that may be renewed, and whose certificates it asks for."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from aimass.proto.errors import BadInput, NotFound
from aimass.proto.secret import Secret
from aimass.proto.tls import TlsIdentity
from aimass.proto.values import Value

__all__ = ["TlsFiles", "TlsSettings"]

log = logging.getLogger("aimass.serving")


class TlsSettings(Value, frozen=True):
    """PEM files. With `client_ca` a caller has to show a certificate of that authority."""

    certificate: str = ""
    key: str = ""
    client_ca: str = ""

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("`tls.certificate` and `tls.key` go together")
        if self.client_ca and not self.certificate:
            raise ValueError("`tls.client_ca` needs a certificate of one's own")


class TlsFiles:
    """The files as they are now; a renewed certificate holds from the next handshake on. TLS 1.3 alone."""

    def __init__(self, settings: TlsSettings) -> None:
        """Raises `NotFound` and `BadInput` for files that are none."""
        self._settings = settings
        for path in filter(None, (settings.certificate, settings.key, settings.client_ca)):
            if not Path(path).is_file():
                raise NotFound("there is no such file", code="serve.tls", value=path, cure="Correct [tls].")
        self._stamps = self._stamped()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.set_alpn_protocols(["http/1.1"])
        self._load(self.context)
        if settings.client_ca:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self._load_authority(self.context)
        self._identity = self._read()

    def identity(self) -> TlsIdentity:
        """What is shown now, as gRPC's ports take it."""
        return self._identity

    def look(self) -> None:
        """Read the certificate again if it was written since; the former stays where the new one is none."""
        try:
            stamps = self._stamped()
            if stamps == self._stamps:
                return
            self._stamps = stamps
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # half a pair would spoil the one in use
            self._load(self.context)
            self._identity = self._read()
        except (BadInput, OSError) as error:
            log.warning("the certificate in use stays: %s", error)
        else:
            log.info("the renewed certificate is in use")

    def _read(self) -> TlsIdentity:
        held = self._settings
        authority = Path(held.client_ca).read_bytes() if held.client_ca else b""
        return TlsIdentity(Path(held.certificate).read_bytes(), Secret(Path(held.key).read_bytes()), authority)

    def _stamped(self) -> tuple[int, ...]:
        return tuple(Path(path).stat().st_mtime_ns for path in (self._settings.certificate, self._settings.key))

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._settings.certificate, self._settings.key, password=lambda: "")
        except ssl.SSLError as error:
            raise BadInput(
                "certificate and key cannot be used",
                code="serve.tls",
                value=f"{self._settings.certificate}, {self._settings.key}: {error.reason}",
                cure="Give a PEM certificate chain and its unencrypted key.",
            ) from error

    def _load_authority(self, context: ssl.SSLContext) -> None:
        try:
            context.load_verify_locations(self._settings.client_ca)
        except ssl.SSLError as error:
            raise BadInput(
                "the clients' authority cannot be used", code="serve.tls", value=self._settings.client_ca
            ) from error
