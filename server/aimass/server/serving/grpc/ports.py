"""The gRPC server of a serving process: its limits, and the port that it listens on, plain, with TLS or mutual TLS."""

from __future__ import annotations

from typing import Final

from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import inference_pb2_grpc as rpc
from aimass.server.serving.grpc.patience import Patient
from aimass.server.serving.grpc.service import InferenceService
from aimass.server.serving.grpc.settings import GrpcLimits

__all__ = ["GrpcLimits", "inference_server"]

_HEADERS_BYTES: Final = 16 << 10
_PING_MS: Final = 10_000


def inference_server(service: InferenceService, limits: GrpcLimits, *, shared_port: bool = False) -> grpc.aio.Server:
    """A server that answers calls to `service`; one call too many ends with RESOURCE_EXHAUSTED, at once.

    With `shared_port` several processes may listen on one port, and the kernel divides connections among them.
    """
    server = grpc.aio.server(maximum_concurrent_rpcs=limits.calls, options=_options(limits, shared_port=shared_port))
    rpc.add_GRPCInferenceServiceServicer_to_server(service, Patient(server, limits.request_s))
    return server


def _options(limits: GrpcLimits, *, shared_port: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        ("grpc.max_concurrent_streams", limits.streams),
        ("grpc.max_metadata_size", _HEADERS_BYTES),
        ("grpc.max_connection_idle_ms", int(1000 * limits.idle_s)),
        ("grpc.max_connection_age_ms", int(1000 * limits.age_s)),
        ("grpc.max_connection_age_grace_ms", int(1000 * limits.request_s)),
        ("grpc.so_reuseport", int(shared_port)),
        # A connection whose other side is gone without a word is found by a ping that is not answered.
        ("grpc.keepalive_time_ms", int(1000 * min(limits.idle_s, 60.0))),
        ("grpc.keepalive_timeout_ms", _PING_MS),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_MS),
    ]
