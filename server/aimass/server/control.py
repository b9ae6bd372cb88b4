"""RPC to engine and back for people and their programs: the Control service."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Final

from aimass.privacy.pki import Peer, Role
from aimass.proto.errors import AimassError, BadInput, LimitExceeded, Refused
from aimass.proto.grpc_env import grpc
from aimass.proto.origin import Origin
from aimass.proto.reports import StepReport
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import EnrolmentList, ModelList, ModelView, PersonView, RunList, RunState, RunView
from aimass.proto.wire import abort
from aimass.server.engine import Engine
from aimass.server.enrolment import EnrolmentDesk
from aimass.server.gate import Gate
from aimass.server.guarded import guarded
from aimass.server.offline.desk import OfflineDesk
from aimass.server.readings import PAGE_STEPS, Readings
from aimass.server.reports import Reports
from aimass.server.retention import Housekeeping
from aimass.server.status import ServerStatus
from aimass.server.submission import Submission
from aimass.server.trust import TrustHolder

__all__ = ["ControlService"]

log = logging.getLogger("aimass.server")
_ALL: Final = 1_000_000
_MOST_REPORT: Final = 1 << 20
"""Bytes of a step's report: runs are read a thousand steps at a time."""


def _document(value: object) -> pb.Document:
    return pb.Document(json=canonical_json(value))


def _state(word: str) -> str:
    """`word` as a run's state, or nothing for all; raises `BadInput` for any other."""
    if word and word not in set(RunState):
        raise BadInput("no run is ever in this state", code="run.state_word", value=word, limit=", ".join(RunState))
    return word


def _own_key(key: str, peer: Peer) -> str:
    """An idempotency key as its owner's: nobody meets another's."""
    if not 8 <= len(key) <= 128:
        raise BadInput("an idempotency key has 8 to 128 characters", code="run.key", value=len(key))
    return f"{peer.name}:{key}"


class ControlService(rpc.ControlServicer):
    """People and their programs."""

    def __init__(
        self,
        engine: Engine,
        submission: Submission,
        readings: Readings,
        housekeeping: Housekeeping,
        trust: TrustHolder,
        desk: EnrolmentDesk,
        gate: Gate,
        status: ServerStatus,
        reports: Reports,
        offline: OfflineDesk,
    ) -> None:
        self._reports, self._offline = reports, offline
        self._engine, self._submission, self._readings = engine, submission, readings
        self._housekeeping = housekeeping
        self._trust, self._desk, self._status = trust, desk, status
        self.gate = gate

    async def _visible(self, peer: Peer, view: RunView) -> RunView:
        """Raise `Refused` where a scientist asks for another's run, or an analyst for one that has not finished."""
        if peer.role is Role.SCIENTIST and view.summary.owner != peer.name:
            raise Refused("this run belongs to somebody else", code="run.not_yours", value=view.summary.run_id)
        if peer.role is Role.ANALYST and view.summary.state is not RunState.FINISHED:
            raise Refused("this run has not finished", code="run.not_finished", value=view.summary.run_id)
        return view

    @guarded
    async def SubmitRun(self, request: pb.SubmitRunRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """A new run."""
        run_id = await self._submission.submit(request.plan, _own_key(request.key, peer), peer.name)
        return _document(await self._readings.run_view(run_id))

    @guarded
    async def SubmitOffline(self, request: pb.SubmitOfflineRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """An offline run that this server sees to."""
        key, schedule = _own_key(request.key, peer), request.schedule or "averaging"
        run_id = await self._offline.submit(request.plan, key, request.data_set, peer.name, schedule)
        return _document(await self._readings.run_view(run_id))

    @guarded
    async def ReportRun(self, request: pb.ReportRunRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """The record of an offline run: a new one, or the one that stands under this key."""
        origin = decode_json(Origin, request.origin, "the origin")
        return _document(await self._reports.begin(request.plan, _own_key(request.key, peer), origin, peer.name))

    @guarded
    async def ReportStep(self, request: pb.ReportStepRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """A step of an offline run."""
        self._check_own(peer, request.run_id)
        if len(request.step) > _MOST_REPORT:
            raise LimitExceeded(
                "larger than a step's report may be", code="report.size", value=len(request.step), limit=_MOST_REPORT
            )
        return _document(await self._reports.step(request.run_id, decode_json(StepReport, request.step, "the step")))

    @guarded
    async def ReportEnd(self, request: pb.ReportEndRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """How an offline run ended."""
        self._check_own(peer, request.run_id)
        return _document(await self._reports.end(request.run_id, request.state, request.reason))

    def _check_own(self, peer: Peer, run_id: str) -> None:
        """Raise `Refused` where somebody else reports a run: its record is its owner's word. Of a run whose driver this
        server sees to it is the driver's, and nobody's else."""
        if self._readings.owner(run_id) != peer.name:
            raise Refused("this run belongs to somebody else", code="run.not_yours", value=run_id)
        offline = self._engine.live(run_id).row.run.offline
        if offline is not None and offline.job is not None:
            raise Refused(
                "this server sees to this run itself, and takes no reports of it",
                code="report.own_driver",
                value=run_id,
                cure="Report a run that computes elsewhere under a key of its own.",
            )

    @guarded
    async def ListRuns(self, request: pb.ListRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """Runs that the caller may see."""
        state = RunState.FINISHED if peer.role is Role.ANALYST else _state(request.state)
        owner = peer.name if peer.role is Role.SCIENTIST else None
        return _document(RunList(runs=self._readings.summaries(state, request.limit, owner)))

    @guarded
    async def ShowRun(self, request: pb.RunRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """A run in full."""
        view = await self._readings.run_view(request.run_id, request.first_step, request.most_steps or PAGE_STEPS)
        return _document(await self._visible(peer, view))

    async def WatchRun(  # noqa: N802
        self, request: pb.RunRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.Document]:
        """A run at each change."""
        try:
            peer = await self.gate.admit(context, "WatchRun")
            await self._visible(peer, await self._readings.run_view(request.run_id, most=1))
            async for view in self._readings.watch(request.run_id, request.most_steps or PAGE_STEPS):
                yield _document(view)
        except AimassError as error:
            log.info("WatchRun refused: %s", error)
            await abort(context, error)

    @guarded
    async def ChangeRun(self, request: pb.ChangeRunRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """Pause, resume, stop; readmit a partner; or prune: keep the first, last and best model of an ended run."""
        await self._visible(peer, await self._readings.run_view(request.run_id, most=1))
        if request.change == "readmit":
            await self._engine.readmit(request.run_id, request.partner, peer.name)
        elif request.change == "prune":
            await self._housekeeping.prune(request.run_id)
        else:
            await self._engine.change(request.run_id, request.change, peer.name)
        return _document(await self._readings.run_view(request.run_id, most=request.most_steps or PAGE_STEPS))

    @guarded
    async def EndStudy(self, request: pb.EndStudyRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """No run of a study begins any more: its partners free what was reserved and not spent."""
        return _document(await self._submission.end_study(request.study, peer))

    @guarded
    async def ListReceipts(self, request: pb.RunRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """Receipts of a run."""
        await self._visible(peer, await self._readings.run_view(request.run_id, most=1))
        return _document(await self._readings.receipts(request.run_id))

    async def _models(self, peer: Peer, run_id: str = "", digest: str = "") -> tuple[ModelView, ...]:
        models = await self._readings.models(run_id=run_id, digest=digest, limit=_ALL)
        if peer.role is Role.SCIENTIST:
            return tuple(model for model in models if self._readings.owner(model.run_id) == peer.name)
        if peer.role is Role.ANALYST:
            finished = {run.run_id for run in self._readings.summaries(RunState.FINISHED, 1_000_000)}
            return tuple(model for model in models if model.run_id in finished)
        return models

    @guarded
    async def ListModels(self, request: pb.ListRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """Committed models."""
        models = await self._models(peer, run_id=request.run_id)
        return _document(ModelList(models=models[: request.limit or 100]))

    @guarded
    async def ShowModel(self, request: pb.ModelRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """One model."""
        models = await self._models(peer, digest=request.digest)
        if not models:
            raise Refused(
                "no such model that you may see",
                code="model.unknown",
                value=request.digest,
                cure="aimass model list shows those that you may; others belong to runs of somebody else.",
            )
        return _document(models[0])

    @guarded
    async def ShowManifest(self, request: pb.RunRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """The manifest of a finished run's last model."""
        await self._visible(peer, await self._readings.run_view(request.run_id, most=1))
        return pb.Document(json=await self._readings.manifest(request.run_id))

    @guarded
    async def Status(self, request: pb.StatusRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """The server at a glance."""
        return _document(self._status.view())

    @guarded
    async def WhoAmI(self, request: pb.StatusRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """Whom this server takes the caller for."""
        return _document(PersonView(name=peer.name, role=peer.role.value, through=peer.via, until=peer.not_after))

    @guarded
    async def ListEnrolments(self, request: pb.StatusRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """Requests that wait for the root holder."""
        return _document(EnrolmentList(requests=self._desk.pending()))

    @guarded
    async def InstallTrust(self, request: pb.InstallTrustRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """A bundle that the root signed."""
        self._trust.install(request.bundle)
        return _document(self._status.view())
