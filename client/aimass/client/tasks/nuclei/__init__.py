"""Cell nuclei in fluorescence microscopy: which pixels belong to one, by a small U-Net.

Data: tiles of one photograph of the package stardist (Schmidt et al. 2018), BSD-3-Clause. So it shows how a federated
segmentation is trained and looked into, and says nothing of other photographs.
"""

from __future__ import annotations

import torch

from aimass.proto.manifest import Image, Mask, Schema
from aimass.proto.networks import UNet
from aimass.proto.task import Task


class Nuclei(Task):
    """Ground or nucleus, of each of 56 by 56 pixels."""

    schema = Schema(
        name="nuclei/1",
        columns=(Image(name="image", shape=(56, 56)),),
        label=Mask(name="mask", shape=(56, 56), values=("ground", "nucleus")),
    )

    def build(self) -> torch.nn.Module:
        """A U-Net of three levels: 118,642 parameters."""
        return UNet(channels=1, classes=2, width=16, levels=3)


task = Nuclei()
