"""Who may call what: a table for each service, role x RPC, that is code, documentation and test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aimass.privacy.pki import Peer, Role
from aimass.proto.errors import Refused

__all__ = ["DATA_SETS", "TABLE", "authorise"]

_P, _O, _S, _A, _M = Role.PARTNER, Role.OPERATOR, Role.SCIENTIST, Role.ANALYST, Role.SERVICE

TABLE: Final[Mapping[str, frozenset[Role]]] = {
    "Connect": frozenset({_P}),
    "Fetch": frozenset({_P, _O, _S, _A}),
    "Difference": frozenset({_P}),
    "Submit": frozenset({_P, _O, _S}),
    "SubmitRun": frozenset({_O, _S}),
    "ListRuns": frozenset({_O, _S, _A}),
    "ShowRun": frozenset({_O, _S, _A}),
    "WatchRun": frozenset({_O, _S, _A}),
    "ChangeRun": frozenset({_O, _S}),
    "ListReceipts": frozenset({_O, _S}),
    "ListModels": frozenset({_O, _S, _A}),
    "ShowModel": frozenset({_O, _S, _A}),
    "ShowManifest": frozenset({_O, _S, _A}),
    "Status": frozenset({_O}),
    "ListEnrolments": frozenset({_O}),
    "InstallTrust": frozenset({_O}),
    "SubmitOffline": frozenset({_O, _S}),
    "ReportRun": frozenset({_O, _S}),
    "ReportStep": frozenset({_O, _S}),
    "ReportEnd": frozenset({_O, _S}),
    "WhoAmI": frozenset({_O, _S, _A}),
    "EndStudy": frozenset({_O, _S}),
    "Check": frozenset({_P, _O, _S, _A, _M}),
    "Watch": frozenset({_P, _O, _S, _A, _M}),
}
"""A scientist sees and changes only runs and studies of their own; an analyst sees runs that have finished. `Check` and
`Watch` are of the gRPC health protocol: whether the server serves, and nothing else. Monitoring gets a certificate of a
service."""


DATA_SETS: Final[Mapping[str, frozenset[Role]]] = {
    "ListDataSets": frozenset({_O, _S}),
    "ShowDataSet": frozenset({_O, _S}),
    "WatchDataSets": frozenset({_O, _S}),
    "RegisterDataSet": frozenset({_O, _S}),
    "OwnDataSet": frozenset({_O, _S}),
    "LeaseShards": frozenset({_O, _S}),
    "RenewLease": frozenset({_O, _S}),
    "ReleaseLease": frozenset({_O, _S}),
    "RepairDataSet": frozenset({_O}),
    "InstallTrust": frozenset({_O}),
    "Check": frozenset({_P, _O, _S, _A, _M}),
    "Watch": frozenset({_P, _O, _S, _A, _M}),
}
"""The data set service. A job is of who began it; a data set's versions are its owner's and operators'."""


def authorise(peer: Peer, rpc: str, table: Mapping[str, frozenset[Role]] = TABLE) -> None:
    """Raise `Refused` unless the table lets `peer` call `rpc`."""
    if peer.role not in table[rpc]:
        raise Refused(
            f"the role {peer.role} may not call {rpc}",
            code="role.refused",
            value=f"{peer.role} {peer.name}",
            limit=", ".join(sorted(table[rpc])),
            cure="Use the certificate of a role that may.",
        )
