"""Flower's public names. flwr loads grpc, so it comes through here, behind our own door to that."""

# isort: off
from __future__ import annotations

import aimass.proto.grpc_env  # noqa: F401
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, Metadata, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
# isort: on

__all__ = [
    "Array",
    "ArrayRecord",
    "ClientApp",
    "ConfigRecord",
    "Context",
    "Error",
    "Grid",
    "Message",
    "Metadata",
    "MetricRecord",
    "RecordDict",
    "ServerApp",
]
