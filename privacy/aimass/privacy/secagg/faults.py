"""Everything that can go wrong in an attempt, by the name under which all sides log it, and who is blamed for it."""

from __future__ import annotations

import dataclasses
import enum
from typing import Final

from aimass.proto.errors import (
    AimassError,
    BadInput,
    DeadlinePassed,
    IntegrityError,
    LimitExceeded,
    Refused,
    Unauthenticated,
    VersionRefused,
    WrongState,
)

__all__ = ["Code", "Fault", "FaultError", "fail"]


class Code(enum.StrEnum):
    """The names of faults; the error's code is `secagg.` and the name."""

    VERSION = "E_VERSION"
    SERVER_SIG = "E_SERVER_SIG"
    ROSTER = "E_ROSTER"
    MODEL_DIGEST = "E_MODEL_DIGEST"
    PLAN = "E_PLAN"
    POLICY = "E_POLICY"
    OVERFLOW = "E_OVERFLOW"
    ROUND_CLOSED = "E_ROUND_CLOSED"
    REPEAT_MODEL = "E_REPEAT_MODEL"
    BUDGET = "E_BUDGET"
    ENCODING = "E_ENCODING"
    ADV_SIG = "E_ADV_SIG"
    PK_INVALID = "E_PK_INVALID"
    PK_DUPLICATE = "E_PK_DUPLICATE"
    EQUIVOCATION = "E_EQUIVOCATION"
    OWN_KEYS = "E_OWN_KEYS"
    PARAM_MISMATCH = "E_PARAM_MISMATCH"
    TOO_FEW = "E_TOO_FEW"
    SEED_REVEAL = "E_SEED_REVEAL"
    SEED_INCOMPLETE = "E_SEED_INCOMPLETE"
    CTX_MISMATCH = "E_CTX_MISMATCH"
    SHARE_SIG = "E_SHARE_SIG"
    SHARE_SET = "E_SHARE_SET"
    NEIGHBOURS = "E_NEIGHBOURS"
    SHARE_DECRYPT = "E_SHARE_DECRYPT"
    SHARE_RANGE = "E_SHARE_RANGE"
    INPUT_LEN = "E_INPUT_LEN"
    INPUT_U1 = "E_INPUT_U1"
    INPUT_SIG = "E_INPUT_SIG"
    LATE = "E_LATE"
    U2_SET = "E_U2_SET"
    INP_PROOF = "E_INP_PROOF"
    ALREADY_SIGNED = "E_ALREADY_SIGNED"
    QUORUM_SIG = "E_QUORUM_SIG"
    QUORUM = "E_QUORUM"
    UNMASK_SET = "E_UNMASK_SET"
    BOTH_SHARES = "E_BOTH_SHARES"
    SHARE_COMMIT = "E_SHARE_COMMIT"
    RECON_FEW = "E_RECON_FEW"
    RECON_MISMATCH = "E_RECON_MISMATCH"
    SUM_CHECK = "E_SUM_CHECK"
    NONFINITE = "E_NONFINITE"
    ROUNDING = "E_ROUNDING"
    STATE = "E_STATE"
    RESTARTED = "E_RESTARTED"
    TIMEOUT = "E_TIMEOUT"


_CLASSES: Final[dict[type[AimassError], frozenset[Code]]] = {
    VersionRefused: frozenset({Code.VERSION}),
    Unauthenticated: frozenset(
        {
            Code.SERVER_SIG,
            Code.ROSTER,
            Code.ADV_SIG,
            Code.SHARE_SIG,
            Code.INPUT_SIG,
            Code.INP_PROOF,
            Code.QUORUM_SIG,
            Code.QUORUM,
            Code.SHARE_DECRYPT,
        }
    ),
    Refused: frozenset({Code.MODEL_DIGEST, Code.PLAN, Code.POLICY, Code.OVERFLOW, Code.PARAM_MISMATCH}),
    WrongState: frozenset(
        {
            Code.ROUND_CLOSED,
            Code.REPEAT_MODEL,
            Code.EQUIVOCATION,
            Code.CTX_MISMATCH,
            Code.LATE,
            Code.ALREADY_SIGNED,
            Code.STATE,
            Code.RESTARTED,
            Code.TOO_FEW,
            Code.NEIGHBOURS,
            Code.SEED_INCOMPLETE,
        }
    ),
    LimitExceeded: frozenset({Code.BUDGET}),
    IntegrityError: frozenset({Code.RECON_FEW, Code.RECON_MISMATCH, Code.SUM_CHECK, Code.SHARE_COMMIT}),
    DeadlinePassed: frozenset({Code.TIMEOUT}),
}
"""The class of each fault decides its gRPC status; what is not here is a `BadInput`: encodings, sets and lengths."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """What failed, and the roster ids that it is laid to: `blamed` is not proven guilty where two are named."""

    code: Code
    what: str
    value: object = None
    limit: object = None
    blamed: tuple[int, ...] = ()

    def error(self) -> AimassError:
        """As it crosses the wire and stands in logs."""
        kind = next((kind for kind, codes in _CLASSES.items() if self.code in codes), BadInput)
        return kind(self.what, code=f"secagg.{self.code}", value=self.value, limit=self.limit)


class FaultError(Exception):
    """Carries a `Fault` out of a check, to the machine that ends the attempt with it."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(f"{fault.code}: {fault.what}")


def fail(code: Code, what: str, value: object = None, limit: object = None, blamed: tuple[int, ...] = ()) -> FaultError:
    """The exception for a fault; raise it."""
    return FaultError(Fault(code, what, value, limit, blamed))
