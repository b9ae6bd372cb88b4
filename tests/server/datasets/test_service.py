"""The data set service over real TLS: what each role may do, what it says, and two of them on one store."""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import pytest

from aimass.proto.data_api import DataSets
from aimass.proto.data_sets import read_data_set, version_key
from aimass.proto.data_views import DataSetList, LeaseView, OwnerView
from aimass.proto.errors import NotFound, Refused
from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import datasets_pb2 as pb
from aimass.proto.v1 import datasets_pb2_grpc as rpc
from aimass.proto.v1 import federation_pb2 as shared
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.wire import error_of
from aimass.server.authorisation import DATA_SETS
from aimass.server.datasets.main import serve
from aimass.server.datasets.placement import Placement, place
from tests.support.data_services import Grid
from tests.support.edge_federation import run
from tests.support.objects import MemoryObjects
from tests.support.stores import Unruly, stored

CONTENTS = tuple(b"shard %d " % number * 50 for number in range(6))
REQUESTS = {
    "ListDataSets": pb.ListDataSetsRequest(),
    "ShowDataSet": pb.DataSetRequest(name="t"),
    "WatchDataSets": pb.ListDataSetsRequest(),
    "RegisterDataSet": pb.RegisterDataSetRequest(),
    "OwnDataSet": pb.OwnDataSetRequest(name="t"),
    "LeaseShards": pb.LeaseShardsRequest(name="t", job="job", most=1, seconds=5),
    "RenewLease": pb.LeaseRequest(name="t", job="job", lease="x", seconds=5),
    "ReleaseLease": pb.ReleaseLeaseRequest(name="t", job="job", lease="x"),
    "RepairDataSet": pb.RepairDataSetRequest(name="t"),
    "InstallTrust": shared.InstallTrustRequest(),
}
EVERYBODYS = {"Check", "Watch"}
PEOPLES = set(REQUESTS) - {"RepairDataSet", "InstallTrust"}
MAY = {"olga": set(REQUESTS), "anna": PEOPLES, "cleo": set(), "north": set(), "grid": set()}


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    """Two services, one federation, and a data set twice over two stores."""
    stores = {
        store.url: store for store in (Unruly(MemoryObjects("memory://one")), Unruly(MemoryObjects("memory://two")))
    }
    home = stores["memory://one"]
    stored(home, "t", CONTENTS)
    place(home, "t", Placement(stores=tuple(stores), copies=2, created_at=1.0))
    return Grid.create(tmp_path, stores)


def test_every_rpc_stands_in_the_table() -> None:
    methods = {method.name for method in pb.DESCRIPTOR.services_by_name["DataSets"].methods}
    assert set(DATA_SETS) == methods | EVERYBODYS
    assert set(REQUESTS) == methods


@pytest.mark.parametrize("who", MAY)
def test_a_role_reaches_the_rpcs_of_its_row_and_no_other(grid: Grid, who: str) -> None:
    async def reached(stub: rpc.DataSetsStub, name: str) -> bool:
        call = getattr(stub, name)(REQUESTS[name])
        try:
            await (call.read() if name == "WatchDataSets" else call)
        except grpc.aio.AioRpcError as error:
            return error_of(error).code != "role.refused"
        finally:
            call.cancel()
        return True

    async def scenario() -> None:
        async with grid.serving("one") as started:
            stub = rpc.DataSetsStub(grid.channel(who, started))
            assert {name for name in REQUESTS if await reached(stub, name)} == MAY[who]

    run(scenario())


def test_what_lacks_is_copied_in_the_background_and_shown_to_who_watches(grid: Grid) -> None:
    async def scenario() -> None:
        async with grid.serving("one") as started:
            call = rpc.DataSetsStub(grid.channel("anna", started)).WatchDataSets(pb.ListDataSetsRequest())
            async for document in call:
                (view,) = decode_json(DataSetList, document.json, "a list").data_sets
                if view.health is not None and view.health.whole:
                    break
            call.cancel()
            assert view.health is not None
            assert view.health.good == 2 * len(CONTENTS)
            assert len(list(grid.stores["memory://two"].list("t/shards/"))) == len(CONTENTS)

    run(scenario())


def test_who_watches_over_http_sees_figures_and_whether_it_is_ready(grid: Grid) -> None:
    def asked(port: int, path: str) -> str:
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return bytes(answer.read()).decode()

    async def scenario() -> None:
        async with grid.serving("one") as started:
            await grid.until_whole("anna", started)
            assert '"ready": true' in await asyncio.to_thread(asked, started.watch_port, "/readyz")
            figures = await asyncio.to_thread(asked, started.watch_port, "/metrics")
            for line in (
                "aimass_ready 1.0",
                "aimass_dataset_leads 1.0",
                'aimass_dataset_under_replicated{data_set="t"} 0.0',
                f'aimass_dataset_copies_mended_total{{outcome="copied"}} {float(len(CONTENTS))}',
            ):
                assert line in figures.splitlines()
            grid.stores["memory://one"].away = True
            assert "storage.unavailable" in await asyncio.to_thread(asked, started.watch_port, "/readyz")
            # What is asked is answered all the same, by the store that is there.
            stub = rpc.DataSetsStub(grid.channel("anna", started))
            assert (await stub.ShowDataSet(pb.DataSetRequest(name="t"))).json
            grid.stores["memory://one"].away = False

    run(scenario())


def test_a_job_is_of_who_began_it_and_both_services_know_its_leases(grid: Grid) -> None:
    async def scenario() -> None:
        async with grid.serving("one") as one, grid.serving("two") as two:
            anna, bert, other = (
                rpc.DataSetsStub(grid.channel(who, at)) for who, at in (("anna", one), ("bert", two), ("anna", two))
            )
            lease = decode_json(LeaseView, (await anna.LeaseShards(REQUESTS["LeaseShards"])).json, "a lease")
            assert [shard.number for shard in lease.shards] == [1]
            second = decode_json(LeaseView, (await other.LeaseShards(REQUESTS["LeaseShards"])).json, "a lease")
            assert [shard.number for shard in second.shards] == [2]
            done = pb.ReleaseLeaseRequest(name="t@1", job="job", lease=lease.lease, done=[1])
            for call in (bert.LeaseShards(REQUESTS["LeaseShards"]), bert.ReleaseLease(done)):
                with pytest.raises(grpc.aio.AioRpcError) as told:
                    await call
                assert error_of(told.value).code == "lease.owner"
            await anna.ReleaseLease(pb.ReleaseLeaseRequest(name="t@1", job="job", lease=lease.lease, done=[1]))

    run(scenario())


def test_nobody_holds_all_watches(grid: Grid) -> None:
    async def scenario() -> None:
        async with grid.serving("one") as started:
            anna, bert = (rpc.DataSetsStub(grid.channel(who, started)) for who in ("anna", "bert"))
            watches = [anna.WatchDataSets(pb.ListDataSetsRequest()) for _ in range(8)]
            for watch in watches:
                await watch.read()
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await anna.WatchDataSets(pb.ListDataSetsRequest()).read()
            assert error_of(told.value).code == "dataset.watches"
            watches.append(bert.WatchDataSets(pb.ListDataSetsRequest()))
            await watches[-1].read()
            for watch in watches:
                watch.cancel()

    run(scenario())


def test_a_data_set_that_was_made_at_the_store_is_no_scientists_to_register(grid: Grid) -> None:
    async def scenario() -> None:
        async with grid.serving("one") as started:
            anna, olga = (rpc.DataSetsStub(grid.channel(who, started)) for who in ("anna", "olga"))
            held = read_data_set(grid.stores["memory://one"].read(version_key("t", 1)), "a version")
            request = pb.RegisterDataSetRequest(manifest=canonical_json(msgspec.structs.replace(held, version=2)))
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await anna.RegisterDataSet(request)
            assert error_of(told.value).code == "dataset.owner"
            document = await olga.OwnDataSet(pb.OwnDataSetRequest(name="t", to="anna"))
            assert decode_json(OwnerView, document.json, "an owner").owner == "anna"
            await anna.RegisterDataSet(request)

    run(scenario())


def test_one_of_two_works_in_the_background_and_the_other_takes_over(grid: Grid) -> None:
    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as second:
            async with grid.serving("one") as one:
                await grid.until_whole("anna", one)
                two = await second.enter_async_context(grid.serving("two"))
                assert not grid.terms("two")
            # It has laid down its term; damage that comes now is mended by the other.
            assert grid.terms("one")[-1].until < time.time()
            key = next(grid.stores["memory://two"].list("t/shards/")).key
            grid.stores["memory://two"].delete(key)
            await grid.until(lambda: grid.stores["memory://two"].head(key))
            assert grid.terms("two")
            await grid.until_whole("anna", two)

    run(scenario())


def test_a_member_that_is_revoked_is_refused_at_the_next_call(grid: Grid) -> None:
    async def scenario() -> None:
        async with grid.serving("one") as started:
            stub = rpc.DataSetsStub(grid.channel("anna", started))
            watching = stub.WatchDataSets(pb.ListDataSetsRequest())
            await watching.read()
            grid.members.bundle = grid.members.root.revoke("anna")
            operator = rpc.DataSetsStub(grid.channel("olga", started))
            await operator.InstallTrust(shared.InstallTrustRequest(bundle=grid.members.bundle))
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await stub.ListDataSets(pb.ListDataSetsRequest())
            assert isinstance(error_of(told.value), Refused)
            with pytest.raises(grpc.aio.AioRpcError):
                while await watching.read() is not grpc.aio.EOF:
                    pass

    run(scenario())


def test_a_bundle_without_the_services_own_certificate_is_refused(grid: Grid) -> None:
    async def scenario() -> None:
        async with grid.serving("one") as started:
            operator = rpc.DataSetsStub(grid.channel("olga", started))
            bundle = grid.members.root.revoke("data-one")
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await operator.InstallTrust(shared.InstallTrustRequest(bundle=bundle))
            assert error_of(told.value).code == "trust.server_certificate"

    run(scenario())


def test_who_may_not_serve_does_not(grid: Grid, tmp_path: Path) -> None:
    """A certificate for monitoring has no host, and a person's is no service's."""
    for name in ("grid", "anna"):
        folder = grid.folder_of(name)
        (folder / "data.toml").write_bytes((grid.folder_of("data-one") / "data.toml").read_bytes())

        async def scenario(folder: Path = folder) -> None:
            with pytest.raises(Refused) as told:
                await serve(folder, asyncio.Event(), lambda started: None, open_store=grid.stores.__getitem__)
            assert told.value.code == "dataset.certificate"

        run(scenario())


def test_the_sdk_says_the_same(grid: Grid) -> None:
    async def scenario() -> None:
        async with grid.serving("one") as started:
            await asyncio.to_thread(ask, f"127.0.0.1:{started.port}")

    def ask(address: str) -> None:
        with DataSets(address, grid.identity("olga")) as service:
            assert service.repair("t", deep=True).whole
            assert [view.name for view in service.all().data_sets] == ["t"]
            assert next(iter(service.watch())).data_sets[0].health is not None
            manifest = service.manifest("t@1")
            assert service.register(manifest).versions == (1,)
            lease = service.lease("t", "job", most=4, seconds=60)
            assert service.renew(lease, 90).until > lease.until
            assert service.release(lease, done=[1, 2]).done == 2
            with pytest.raises(NotFound):
                service.manifest("other")

    run(scenario())
