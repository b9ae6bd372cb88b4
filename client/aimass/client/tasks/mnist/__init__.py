"""MNIST digits with the network of the FedAvg paper, so that convergence can be compared with what is published."""

from __future__ import annotations

import torch

from aimass.proto.manifest import Category, Image, Schema
from aimass.proto.networks import FedAvgCnn
from aimass.proto.task import Task


class Mnist(Task):
    """Ten digits of 28 by 28 pixels."""

    schema = Schema(
        name="mnist/1",
        columns=(Image(name="image", shape=(28, 28)),),
        label=Category(name="label", values=tuple("0123456789"), required=True),
    )

    def build(self) -> torch.nn.Module:
        """The CNN of McMahan et al. 2017, section 3: 1,663,370 parameters."""
        return FedAvgCnn()


task = Mnist()
