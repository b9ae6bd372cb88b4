"""What a Hadoop file system says, as named errors: both ways to a cluster name Java's exceptions by their class."""

from __future__ import annotations

import re
from typing import Final

from aimass.proto.errors import AimassError, BadInput, OutOfSpace, Refused, Unauthenticated, Unavailable, printable
from aimass.proto.objects import ObjectStore, exists, unknown

__all__ = ["HdfsError", "named"]

_PASSING: Final = frozenset(
    {
        "AlreadyBeingCreatedException",
        "ConnectException",
        "ConnectTimeoutException",
        "EOFException",
        "InterruptedIOException",
        "IOException",
        "NoRouteToHostException",
        "ObserverRetryOnActiveException",
        "RecoveryInProgressException",
        "RetriableException",
        "SafeModeException",
        "ServerNotActiveException",
        "SocketException",
        "SocketTimeoutException",
        "StandbyException",
        "UnknownHostException",
    }
)
"""The same may go well soon. A bare IOException is of a data node, for the most part, that lost its neighbours."""
_FULL: Final = frozenset(
    {
        "ClusterStorageCapacityExceededException",
        "DiskOutOfSpaceException",
        "DSQuotaExceededException",
        "NSQuotaExceededException",
        "QuotaByStorageTypeExceededException",
        "QuotaExceededException",
    }
)
_DENIED: Final = frozenset({"AccessControlException", "AuthorizationException", "SecurityException"})
_NO_ROOM: Final = re.compile(r"could only be (written|replicated) to 0\b|No space left on device|Disk quota exceeded")
_TOKEN: Final = re.compile(r"InvalidToken|token .*(expired|can't be found in cache)|is expired", re.DOTALL)
_NO_LOGIN: Final = re.compile(
    r"Authentication required|SIMPLE authentication is not enabled|Client cannot authenticate"
)
_ONE_IS_A_FOLDER: Final = "must both be directories"


class HdfsError(Exception):
    """A Java exception: the simple name of its class, and its message, of which only the first line is kept."""

    def __init__(self, java: str, message: str) -> None:
        self.java, self.message = java, printable((message or "").partition("\n")[0], 300)
        super().__init__(f"{java}: {self.message}")

    @property
    def absent(self) -> bool:
        """Whether nothing stands at the path, for it or what should be a folder above it is not there."""
        return self.java in {"FileNotFoundException", "ParentNotDirectoryException"}


def named(error: HdfsError, store: ObjectStore, key: str) -> AimassError:
    """The error that a caller reads for what the cluster said about `key`."""
    value = f"{error} for {key} at {store.url}"
    if error.java == "FileNotFoundException":
        return unknown(store, key)
    if _ONE_IS_A_FOLDER in error.message or error.java == "ParentNotDirectoryException":
        return BadInput("one key would be a folder of another", code="storage.folder", value=f"{key} at {store.url}")
    if error.java == "FileAlreadyExistsException":
        return exists(store, key)
    if error.java == "SafeModeException":
        return Unavailable(
            "the name node is in safe mode, and changes nothing",
            code="storage.unavailable",
            value=value,
            cure="It leaves it by itself once it has started; hdfs dfsadmin -safemode get says.",
        )
    if error.java in _FULL or _NO_ROOM.search(error.message):
        return OutOfSpace(
            "the store is full", code="storage.full", value=value, cure="Free space there, or raise its quota."
        )
    return _of_rights(error, value) or _of_the_rest(error, value)


def _of_rights(error: HdfsError, value: str) -> AimassError | None:
    if _TOKEN.search(str(error)):
        return Unauthenticated(
            "the delegation token for this store is not valid any more",
            code="storage.expired",
            value=value,
            cure="Fetch another; AIMASS_HDFS_TOKEN_FILE is read again for each request.",
        )
    if _NO_LOGIN.search(error.message):
        return Unauthenticated(
            "the store asks who we are, and does not take a bare user name",
            code="storage.no_credentials",
            value=value,
            cure="Give a delegation token by AIMASS_HDFS_TOKEN_FILE, or use hdfs:// after kinit.",
        )
    if error.java in _DENIED:
        return Refused(
            "the store does not let us",
            code="storage.denied",
            value=value,
            cure="Give the user of HADOOP_USER_NAME the right to read and write in that folder.",
        )
    return None


def _of_the_rest(error: HdfsError, value: str) -> AimassError:
    if error.java in _PASSING:
        return Unavailable("the store does not answer as it should", code="storage.unavailable", value=value)
    return Refused("the store refuses the request", code="storage.refused", value=value)
