"""The Open Inference Protocol over gRPC: each call a few lines between its codec and the dispatcher.

KServe, "Open Inference Protocol", version 2, gRPC; Triton, "Model Repository Extension".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from aimass.proto.grpc_env import grpc
from aimass.proto.servable import TensorSpec
from aimass.proto.v1 import inference_pb2 as pb
from aimass.proto.v1 import inference_pb2_grpc as rpc
from aimass.server.serving.catalogue import Repository
from aimass.server.serving.dispatch.seam import Dispatching
from aimass.server.serving.grpc.calls import Admission, GrpcMeters, answered
from aimass.server.serving.grpc.codec import decode_request, encode_response
from aimass.server.serving.models import is_ready, outputs_of, state_of
from aimass.server.serving.ranges import InputCheck, unchecked
from aimass.server.serving.request_log import RequestLog
from aimass.server.serving.v2.bridge import to_request, to_response, version_of
from aimass.server.serving.v2.metadata import (
    EXTENSIONS,
    PLATFORM,
    SERVER_NAME,
    index_entries,
    refuse_overrides,
    versions_of,
)

__all__ = ["SERVICES", "InferenceService"]

SERVICES: Final = frozenset({"", pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name})
"""What the gRPC port may be asked about by the gRPC health protocol."""


class InferenceService(rpc.GRPCInferenceServiceServicer):
    """Health, metadata, inference and the repository."""

    def __init__(
        self,
        dispatcher: Dispatching,
        repository: Repository,
        admission: Admission,
        meters: GrpcMeters,
        now: Callable[[], float],
        infer_s: float,
        release: str,
        ready: Callable[[], bool],
        request_log: RequestLog | None = None,
        check: InputCheck = unchecked,
    ) -> None:
        """`now` is the dispatcher's clock, and no request may take longer than `infer_s`."""
        self._dispatcher, self._repository = dispatcher, repository
        self.admission, self.meters = admission, meters
        self.request_log = request_log or RequestLog()
        self._now, self._infer_s, self._release, self._ready = now, infer_s, release, ready
        self._check = check

    @answered(None)
    async def ServerLive(  # noqa: N802
        self, message: pb.ServerLiveRequest, context: grpc.aio.ServicerContext
    ) -> pb.ServerLiveResponse:
        """Whether the server can be spoken to."""
        return pb.ServerLiveResponse(live=True)

    @answered(None)
    async def ServerReady(  # noqa: N802
        self, message: pb.ServerReadyRequest, context: grpc.aio.ServicerContext
    ) -> pb.ServerReadyResponse:
        """Whether all models are ready."""
        return pb.ServerReadyResponse(ready=self._ready())

    @answered(None)
    async def ServerMetadata(  # noqa: N802
        self, message: pb.ServerMetadataRequest, context: grpc.aio.ServicerContext
    ) -> pb.ServerMetadataResponse:
        """The server's name, release and extensions."""
        return pb.ServerMetadataResponse(name=SERVER_NAME, version=self._release, extensions=EXTENSIONS)

    @answered("infer", "name")
    async def ModelReady(  # noqa: N802
        self, message: pb.ModelReadyRequest, context: grpc.aio.ServicerContext
    ) -> pb.ModelReadyResponse:
        """Whether one model would answer now."""
        version = version_of(message.name, message.version)
        return pb.ModelReadyResponse(ready=is_ready(self._dispatcher, message.name, version))

    @answered("infer", "name")
    async def ModelMetadata(  # noqa: N802
        self, message: pb.ModelMetadataRequest, context: grpc.aio.ServicerContext
    ) -> pb.ModelMetadataResponse:
        """What a model takes and answers."""
        loaded = self._dispatcher.loaded(message.name, version_of(message.name, message.version))
        return pb.ModelMetadataResponse(
            name=loaded.model,
            versions=versions_of(state_of(self._dispatcher, message.name)),
            platform=PLATFORM,
            inputs=_tensors(loaded.inputs),
            outputs=_tensors(loaded.outputs),
        )

    @answered("infer", "model_name")
    async def ModelInfer(  # noqa: N802
        self, message: pb.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> pb.ModelInferResponse:
        """A model's outputs for the inputs of the message."""
        model, version = message.model_name, version_of(message.model_name, message.model_version)
        loaded = self._dispatcher.loaded(model, version)
        asked = decode_request(message)
        waits = (self._infer_s, asked.timeout_s, context.time_remaining())
        deadline = self._now() + min(wait for wait in waits if wait is not None)
        request = to_request(model, version, asked, loaded.inputs, loaded.outputs, deadline)
        warnings = self._check(loaded.model, loaded.version, request.tensors)
        answer = await self._dispatcher.infer(request)
        outputs = outputs_of(self._dispatcher, answer, loaded)
        return encode_response(to_response(answer, asked, outputs, warnings), asked)

    @answered("infer")
    async def RepositoryIndex(  # noqa: N802
        self, message: pb.RepositoryIndexRequest, context: grpc.aio.ServicerContext
    ) -> pb.RepositoryIndexResponse:
        """All models that the caller may ask, with their versions in memory."""
        caller = self.admission.known(context, "infer", "")
        shown = [state for state in self._dispatcher.models() if caller.may_ask(state.name)]
        entries = index_entries(shown, ready=message.ready)
        return pb.RepositoryIndexResponse(
            models=[
                pb.RepositoryIndexResponse.ModelIndex(
                    name=one.name, version=one.version, state=one.state, reason=one.reason
                )
                for one in entries
            ]
        )

    @answered("manage", "model_name")
    async def RepositoryModelLoad(  # noqa: N802
        self, message: pb.RepositoryModelLoadRequest, context: grpc.aio.ServicerContext
    ) -> pb.RepositoryModelLoadResponse:
        """Bring a model's newest good version into memory."""
        refuse_overrides(message.parameters)
        await self._repository.load(message.model_name)
        return pb.RepositoryModelLoadResponse()

    @answered("manage", "model_name")
    async def RepositoryModelUnload(  # noqa: N802
        self, message: pb.RepositoryModelUnloadRequest, context: grpc.aio.ServicerContext
    ) -> pb.RepositoryModelUnloadResponse:
        """Let a model answer no more."""
        await self._repository.unload(message.model_name)
        return pb.RepositoryModelUnloadResponse()


def _tensors(specs: Iterable[TensorSpec]) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    return [
        pb.ModelMetadataResponse.TensorMetadata(name=one.name, datatype=one.datatype, shape=one.shape) for one in specs
    ]
