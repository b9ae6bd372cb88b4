"""Parts of a brain in slices of a T1 image: cortex, deep grey matter and cerebellum, by a small U-Net.

Data: one head and an atlas on it, of the package MRIcron (BSD-3-Clause). So it shows how a federated segmentation of a
volume is trained and looked into, and says nothing of other heads, nor of any that is ill.
"""

from __future__ import annotations

import torch

from aimass.proto.manifest import Image, Mask, Schema
from aimass.proto.networks import UNet
from aimass.proto.task import Task


class Brain(Task):
    """Four kinds of tissue, of each of 108 by 90 pixels of 2 mm."""

    schema = Schema(
        name="brain/1",
        columns=(Image(name="image", shape=(108, 90)),),
        label=Mask(name="mask", shape=(108, 90), values=("other", "cortex", "deep grey", "cerebellum")),
    )

    def build(self) -> torch.nn.Module:
        """A U-Net of four levels: 488,468 parameters."""
        return UNet(channels=1, classes=4, width=16, levels=4)


task = Brain()
