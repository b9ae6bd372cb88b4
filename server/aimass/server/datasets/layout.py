"""Where what keeps data sets available stands in a store, beside what `aimass.proto.data_sets` lays out."""

from __future__ import annotations

from typing import Final

__all__ = [
    "jobs_prefix",
    "leader_prefix",
    "lease_prefix",
    "owner_key",
    "owners_prefix",
    "placement_prefix",
    "quarantine_key",
    "report_key",
]

SERVICE: Final = "_service"
"""What belongs to the service and to no data set; no data set's name begins so."""


def placement_prefix(name: str) -> str:
    """The numbered document of a data set's placement."""
    return f"{name}/placement"


def quarantine_prefix(name: str) -> str:
    """Everything that was put aside."""
    return f"{name}/quarantine/"


def quarantine_key(name: str, sha256: str, found: str) -> str:
    """Where bytes that were found under the name of a shard are kept; their own digest, or what is known of them."""
    return f"{quarantine_prefix(name)}{sha256}/{found or 'unread'}.parquet"


def leader_prefix() -> str:
    """The numbered document of who leads."""
    return f"{SERVICE}/leader"


def jobs_prefix(person: str) -> str:
    """The numbered document of the jobs that a person has begun."""
    return f"{SERVICE}/jobs/{person}"


def lease_prefix(name: str, version: int, job: str) -> str:
    """The numbered document of one job's leases of a version's shards."""
    return f"{SERVICE}/leases/{name}/{version:08}/{job}"


def owner_key(name: str, first: str) -> str:
    """Whose a data set is, `first` being the digest of its first version's document."""
    return f"{SERVICE}/owners/{name}/{first}.json"


def owners_prefix(name: str, first: str) -> str:
    """The numbered document of to whom a data set was handed on since."""
    return owner_key(name, first).removesuffix(".json")


def report_key(name: str) -> str:
    """The last survey of a data set."""
    return f"{SERVICE}/reports/{name}.json"
