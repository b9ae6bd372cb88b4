"""The gRPC server of a serving process: its limits, and the port that it listens on, plain, with TLS or mutual TLS."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import inference_pb2_grpc as rpc
from aimass.proto.values import Value
from aimass.server.serving.grpc.service import InferenceService

__all__ = ["GrpcLimits", "inference_server"]

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
_HEADERS_BYTES: Final = 16 << 10
_PING_MS: Final = 10_000


class GrpcLimits(Value, frozen=True):
    """What one process takes: bytes of a message, calls at once, streams of one connection, seconds without a call."""

    message_bytes: Positive = 64 << 20
    calls: Positive = 1_024
    streams: Positive = 256
    idle_s: Seconds = 300.0


def inference_server(service: InferenceService, limits: GrpcLimits, *, shared_port: bool = False) -> grpc.aio.Server:
    """A server that answers calls to `service`; one call too many ends with RESOURCE_EXHAUSTED, at once.

    With `shared_port` several processes may listen on one port, and the kernel divides connections among them.
    """
    server = grpc.aio.server(maximum_concurrent_rpcs=limits.calls, options=_options(limits, shared_port=shared_port))
    rpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    return server


def _options(limits: GrpcLimits, *, shared_port: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        ("grpc.max_concurrent_streams", limits.streams),
        ("grpc.max_metadata_size", _HEADERS_BYTES),
        ("grpc.max_connection_idle_ms", int(1000 * limits.idle_s)),
        ("grpc.so_reuseport", int(shared_port)),
        # A connection whose other side is gone without a word is found by a ping that is not answered.
        ("grpc.keepalive_time_ms", int(1000 * min(limits.idle_s, 60.0))),
        ("grpc.keepalive_timeout_ms", _PING_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_MS),
    ]
