"""Networks that several tasks share, with what they are compared against; they need torch, and only tasks load them."""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = ["FedAvgCnn", "UNet"]


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
        x = functional.max_pool2d(torch.relu(self.first(images.float() / 255)), 2)
        x = functional.max_pool2d(torch.relu(self.second(x)), 2)
        logits: torch.Tensor = self.output(torch.relu(self.hidden(x.flatten(1))))
        return logits


class UNet(torch.nn.Module):
    """The U-Net of Ronneberger et al. 2015, small: two 3x3 convolutions a level, half as large and twice as wide down.

    Each convolution keeps the size and is followed by group normalisation (Wu and He 2018) instead of none: it looks at
    one image alone, so that rows stay apart for private training. Images of any size are filled up by their edges.
    """

    def __init__(self, channels: int, classes: int, width: int = 16, levels: int = 3) -> None:
        super().__init__()
        widths = [width << level for level in range(levels)]
        self.down = torch.nn.ModuleList(_Block(*pair) for pair in zip([channels, *widths], widths, strict=False))
        self.up = torch.nn.ModuleList(_Block(3 * wide, wide) for wide in reversed(widths[:-1]))
        self.output = torch.nn.Conv2d(width, classes, 1)
        self.step = 1 << (levels - 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [n, channels, h, w] -> logits [n, classes, h, w]."""
        height, width = images.shape[2:]
        x = functional.pad(images.float() / 255, (0, -width % self.step, 0, -height % self.step), mode="replicate")
        kept: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.max_pool2d(x, 2))
            kept.append(x)
        for block, beside in zip(self.up, reversed(kept[:-1]), strict=True):
            x = block(torch.cat([beside, functional.interpolate(x, scale_factor=2.0, mode="nearest")], dim=1))
        logits: torch.Tensor = self.output(x)
        return logits[:, :, :height, :width]


class _Block(torch.nn.Sequential):
    """Two convolutions, each normalised over groups of four channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            torch.nn.Conv2d(channels, width, 3, padding=1),
            torch.nn.GroupNorm(width // 4, width),
            torch.nn.ReLU(),
            torch.nn.Conv2d(width, width, 3, padding=1),
            torch.nn.GroupNorm(width // 4, width),
            torch.nn.ReLU(),
        )
