"""MNIST digits with the network of the FedAvg paper, so that convergence can be compared with what is published."""

from __future__ import annotations

import torch

from aimass.proto.manifest import Category, Image, Schema
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
        return Network()


class Network(torch.nn.Module):
    """Two 5x5 convolutions (32, 64 channels, each with 2x2 max pooling), 512 units, ten logits."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 32, 5, padding=2)
        self.second = torch.nn.Conv2d(32, 64, 5, padding=2)
        self.hidden = torch.nn.Linear(64 * 7 * 7, 512)
        self.output = torch.nn.Linear(512, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [n, 1, 28, 28] -> logits [n, 10]."""
        x = torch.nn.functional.max_pool2d(torch.relu(self.first(images.float() / 255)), 2)
        x = torch.nn.functional.max_pool2d(torch.relu(self.second(x)), 2)
        logits: torch.Tensor = self.output(torch.relu(self.hidden(x.flatten(1))))
        return logits


task = Mnist()
