"""The network of the task `heart`."""

from __future__ import annotations

import torch

from aimass.proto.preprocess import Tabular

__all__ = ["Network"]


class Network(torch.nn.Module):
    """The preprocessing and the layers that are trained."""

    def __init__(self, preprocess: Tabular, hidden: int = 32) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.hidden = torch.nn.Linear(preprocess.width, hidden)
        self.dropout = torch.nn.Dropout(0.2)
        self.output = torch.nn.Linear(hidden, 2)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        """Logits [n, 2]."""
        hidden = torch.relu(self.hidden(self.preprocess(numbers, categories)))
        logits: torch.Tensor = self.output(self.dropout(hidden))
        return logits
