"""A task for heart on a tiny frozen base: its first layer."""

from __future__ import annotations

from pathlib import Path

import torch

from aimass.client.tasks.heart import Heart
from aimass.client.tasks.heart.network import Network
from aimass.proto.bases import base_in
from aimass.proto.frozen import freeze
from aimass.proto.preprocess import Tabular

WIDTH = 8


class Based(Heart):
    """What is trained is the last layer."""

    base = base_in(Path(__file__).parent)

    def build(self) -> torch.nn.Module:
        network = Network(Tabular(self.schema), hidden=WIDTH)
        network.hidden = torch.nn.Linear(network.preprocess.width, WIDTH, device="meta")
        freeze(network.hidden, self.base_blob())
        return network


task = Based()
