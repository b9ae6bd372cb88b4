"""The reporter's side of an offline run's record: whatever breaks, it goes on from the step that the service lacks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from aimass.proto.origin import Origin
from aimass.proto.reports import ReportedRun, StepReport
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import canonical_json
from aimass.proto.views import RunState

__all__ = ["Record", "Service"]


class Service(Protocol):
    """The connection that a record is kept over: `aimass.proto.api.Federation`."""

    @property
    def control(self) -> rpc.ControlStub:
        """What is called."""
        ...

    def ask(
        self, method: Callable[..., Awaitable[pb.Document]], request: object, kind: type[ReportedRun]
    ) -> ReportedRun:
        """The answer to a request."""
        ...

    def upload(self, blob: bytes | memoryview) -> str:
        """Send a model; sent before, it is not sent again."""
        ...


class Record:
    """An offline run as a training service has it. Make it with `begin`."""

    def __init__(self, service: Service, standing: ReportedRun) -> None:
        self._service, self.standing = service, standing

    @staticmethod
    def begin(service: Service, plan: bytes, first: bytes | memoryview, origin: Origin, key: str) -> Record:
        """The record of the run of this plan in its exact bytes, with its `first` model: a new one, or under the same
        `key` the one that stands there."""
        service.upload(first)
        request = pb.ReportRunRequest(plan=plan, key=key, origin=canonical_json(origin))
        return Record(service, service.ask(service.control.ReportRun, request, ReportedRun))

    def step(self, report: StepReport, model: bytes | memoryview = b"") -> None:
        """Tell of a step, with the model that it made, if it made one. Told before, it changes nothing."""
        if report.index < self.standing.next_step:
            return
        if model:
            self._service.upload(model)
        request = pb.ReportStepRequest(run_id=self.standing.run_id, step=canonical_json(report))
        self.standing = self._service.ask(self._service.control.ReportStep, request, ReportedRun)

    def end(self, state: RunState, reason: str) -> None:
        """Tell how the run ended."""
        request = pb.ReportEndRequest(run_id=self.standing.run_id, state=state, reason=reason)
        self.standing = self._service.ask(self._service.control.ReportEnd, request, ReportedRun)
