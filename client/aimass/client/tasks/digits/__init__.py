"""Handwritten digits of 8 by 8 pixels: a convolutional network small enough for any test."""

from __future__ import annotations

import torch

from aimass.proto.manifest import Category, Image, Schema
from aimass.proto.task import Task


class Digits(Task):
    """Ten digits from 64 pixels of 0 to 16."""

    schema = Schema(
        name="digits/1",
        columns=(Image(name="image", shape=(8, 8)),),
        label=Category(name="digit", values=tuple("0123456789"), required=True),
    )

    def build(self) -> torch.nn.Module:
        """Two convolutions and one linear layer, some 7,000 parameters."""
        return Network()


class Network(torch.nn.Module):
    """uint8 [n, 1, 8, 8] -> logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.second = torch.nn.Conv2d(8, 16, 3, padding=1)
        self.output = torch.nn.Linear(16 * 2 * 2, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [n, 10]."""
        x = torch.nn.functional.max_pool2d(torch.relu(self.first(images.float() / 16)), 2)
        x = torch.nn.functional.max_pool2d(torch.relu(self.second(x)), 2)
        logits: torch.Tensor = self.output(x.flatten(1))
        return logits


task = Digits()
