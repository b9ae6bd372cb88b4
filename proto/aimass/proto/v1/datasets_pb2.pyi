from aimass.proto.v1 import federation_pb2 as _federation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ListDataSetsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DataSetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RegisterDataSetRequest(_message.Message):
    __slots__ = ("manifest",)
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    def __init__(self, manifest: _Optional[bytes] = ...) -> None: ...

class OwnDataSetRequest(_message.Message):
    __slots__ = ("name", "to")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    name: str
    to: str
    def __init__(self, name: _Optional[str] = ..., to: _Optional[str] = ...) -> None: ...

class LeaseShardsRequest(_message.Message):
    __slots__ = ("name", "job", "most", "seconds")
    NAME_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    job: str
    most: int
    seconds: float
    def __init__(self, name: _Optional[str] = ..., job: _Optional[str] = ..., most: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class LeaseRequest(_message.Message):
    __slots__ = ("name", "job", "lease", "seconds")
    NAME_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    job: str
    lease: str
    seconds: float
    def __init__(self, name: _Optional[str] = ..., job: _Optional[str] = ..., lease: _Optional[str] = ..., seconds: _Optional[float] = ...) -> None: ...

class ReleaseLeaseRequest(_message.Message):
    __slots__ = ("name", "job", "lease", "done")
    NAME_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    name: str
    job: str
    lease: str
    done: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., job: _Optional[str] = ..., lease: _Optional[str] = ..., done: _Optional[_Iterable[int]] = ...) -> None: ...

class RepairDataSetRequest(_message.Message):
    __slots__ = ("name", "deep")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEEP_FIELD_NUMBER: _ClassVar[int]
    name: str
    deep: bool
    def __init__(self, name: _Optional[str] = ..., deep: _Optional[bool] = ...) -> None: ...
