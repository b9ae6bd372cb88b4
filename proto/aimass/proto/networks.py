"""Networks that several tasks share, with what they are compared against; they need torch, and only tasks load them."""

from __future__ import annotations

import torch

__all__ = ["FedAvgCnn"]


class FedAvgCnn(torch.nn.Module):
    """The CNN of McMahan et al. 2017, section 3: 1,663,370 parameters.

    Two 5x5 convolutions (32 and 64 channels, each with 2x2 max pooling), 512 units, ten logits.
    """

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
