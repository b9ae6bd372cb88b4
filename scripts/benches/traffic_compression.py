"""Bytes up of the MNIST CNN's update (McMahan et al. 2017, section 3), for each way to send it."""

from __future__ import annotations

from aimass.client.tasks.mnist import task
from aimass.proto.methods import UPDATE, training_groups
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob, Layout, TensorSpec
from scripts.benches.row import Row

__all__ = ["measure"]


def measure(*, quick: bool) -> list[Row]:  # noqa: ARG001  (every topic has it)
    """Megabytes of one partner's update as it is."""
    shapes = training_groups("plain", Blob(first_model(task, 1)).layout)[UPDATE]
    layout = Layout.of(TensorSpec(name, dtype, shape) for name, (dtype, shape) in shapes.items())
    return [Row.of("MNIST CNN, plain: up", [layout.total_bytes / 1e6], "MB", None, "lower")]
