"""The data set service for people and programs: a typed client, beside `aimass.proto.api` for the aggregation server.

    with DataSets.open("scientist", "data.example.org:8445") as service:
        while (lease := service.lease("adult", "embedding", most=8, seconds=300)).lease:
            for shard in lease.shards:
                ...
            service.release(lease, done=[shard.number for shard in lease.shards])

Calls block, and raise the service's named error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from aimass.proto.bearer import Token
from aimass.proto.connection import Connection
from aimass.proto.data_sets import DataSetManifest, read_data_set
from aimass.proto.data_views import DataSetHealth, DataSetList, DataSetView, LeaseView, OwnerView, TrustView
from aimass.proto.errors import BadInput
from aimass.proto.grpc_env import grpc
from aimass.proto.home import load_home, tls_identity
from aimass.proto.tls import TlsIdentity
from aimass.proto.v1 import datasets_pb2 as pb
from aimass.proto.v1 import datasets_pb2_grpc as rpc
from aimass.proto.v1 import federation_pb2 as shared
from aimass.proto.values import canonical_json, decode_json

__all__ = ["DataSets"]


class DataSets(Connection):
    """A connection to a data set service; a context manager. Make it with `DataSets.open`."""

    def __init__(self, address: str, identity: TlsIdentity, token: Token | None = None) -> None:
        super().__init__(address, identity, token)
        self._stub = rpc.DataSetsStub(self._channel)

    @staticmethod
    def open(home: str | Path, address: str = "", token: Token | None = None) -> DataSets:
        """Connect as the person whose folder this is, to `address` or to `data` of its `client.toml`.

        With a `token` as a service that brings a person: see `Federation.open`.
        """
        folder = Path(home)
        place = address or load_home(folder).data
        if not place:
            raise BadInput(
                "where is the data set service?",
                code="dataset.address",
                cure='Give HOST:PORT, or write data = "HOST:PORT" into client.toml.',
            )
        return DataSets(place, tls_identity(folder), token)

    def all(self) -> DataSetList:
        """Every data set, with its health."""
        return self.ask(self._stub.ListDataSets, pb.ListDataSetsRequest(), DataSetList)

    def manifest(self, name: str) -> DataSetManifest:
        """A version, `NAME@3`, or the newest."""
        document = self._document(self._stub.ShowDataSet, pb.DataSetRequest(name=name))
        return read_data_set(document, "the service's answer")

    def watch(self) -> Iterator[DataSetList]:
        """Every data set now, and at each change, until the link breaks: then `Unavailable`."""
        call = self._await(self._watching())
        try:
            while (document := self._await(call.read())) is not grpc.aio.EOF:
                yield decode_json(DataSetList, document.json, "the service's answer")
        finally:
            with contextlib.suppress(RuntimeError):  # the connection was closed first
                self._loop.call_soon_threadsafe(call.cancel)

    def register(self, manifest: DataSetManifest) -> DataSetView:
        """Commit a version whose shards are stored."""
        request = pb.RegisterDataSetRequest(manifest=canonical_json(manifest))
        return self.ask(self._stub.RegisterDataSet, request, DataSetView)

    def owner(self, name: str, to: str = "") -> OwnerView:
        """Whose a data set is; with `to` it is this person's from now on."""
        return self.ask(self._stub.OwnDataSet, pb.OwnDataSetRequest(name=name, to=to), OwnerView)

    def lease(self, name: str, job: str, *, most: int, seconds: float) -> LeaseView:
        """At most `most` shards that nobody else works on for this job; none, with an empty `lease`, where none is free
        now: the others are done, or lent and may come back."""
        request = pb.LeaseShardsRequest(name=name, job=job, most=most, seconds=seconds)
        return self.ask(self._stub.LeaseShards, request, LeaseView)

    def renew(self, lease: LeaseView, seconds: float) -> LeaseView:
        """The same shards for longer; raises `NotFound` where the lease has ended, and others have them."""
        request = pb.LeaseRequest(name=lease.data_set, job=lease.job, lease=lease.lease, seconds=seconds)
        return self.ask(self._stub.RenewLease, request, LeaseView)

    def release(self, lease: LeaseView, done: Sequence[int] = ()) -> LeaseView:
        """Give a lease back; shards that are not `done`, by number, are lent to others."""
        request = pb.ReleaseLeaseRequest(name=lease.data_set, job=lease.job, lease=lease.lease, done=done)
        return self.ask(self._stub.ReleaseLease, request, LeaseView)

    def repair(self, name: str, *, deep: bool) -> DataSetHealth:
        """Look at all copies now, with `deep` at every byte, and mend what is to be mended."""
        request = pb.RepairDataSetRequest(name=name, deep=deep)
        document = self._document(self._stub.RepairDataSet, request, long=True)
        return decode_json(DataSetHealth, document, "the service's answer")

    def install_trust(self, bundle: bytes) -> TrustView:
        """Install a bundle that the root signed."""
        return self.ask(self._stub.InstallTrust, shared.InstallTrustRequest(bundle=bundle), TrustView)

    async def _watching(self) -> grpc.aio.UnaryStreamCall:
        return self._stub.WatchDataSets(pb.ListDataSetsRequest())
