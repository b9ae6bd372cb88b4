"""The one door to grpc: sets what must stand in the environment before the library loads.

gRPC accepts TLS 1.2 unless its cipher list leaves nothing that a P-256 certificate can use below 1.3; the list is read
once, when the library loads. So every module of ours imports `grpc` from here.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from aimass.proto.errors import WrongState

__all__ = ["grpc"]

_CIPHERS: Final = "ECDHE-RSA-AES128-GCM-SHA256"
_VARIABLE: Final = "GRPC_SSL_CIPHER_SUITES"

if "grpc" in sys.modules and os.environ.get(_VARIABLE) != _CIPHERS:
    raise WrongState(
        "grpc was loaded before TLS 1.2 could be ruled out",
        code="wire.grpc_loaded_early",
        cure=f"Import aimass before grpc, or set {_VARIABLE}={_CIPHERS} in the environment.",
    )
os.environ[_VARIABLE] = _CIPHERS
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc  # noqa: E402  (the environment comes first: see above)
import grpc.aio  # noqa: E402
