"""Maps of single pixels: integrated gradients with and without noise, GradCAM, occlusion; captum computes all four.

Gradients are of the log-odds of one class, because a probability near 0 or 1 has hardly any. Where a model answers for
each pixel, they are of the mean over a region.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from aimass.explain.lpi.gradients import until_complete
from aimass.proto.errors import BadInput

if TYPE_CHECKING:
    import torch

__all__ = ["Baseline", "LogOdds", "as_tensor", "baseline_of", "gradcam", "integrated", "occlusion", "smoothed"]

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Baseline = Literal["black", "mean", "blur"]
_NOISE: Final = 0.1
"""Of the image's own range: the deviation of the noise (Smilkov et al. 2017 use 0.1 to 0.2)."""


@dataclasses.dataclass(frozen=True)
class LogOdds:
    """The log-odds of class `place` of what `network` takes, or their mean over a `region` bool [h, w] of pixels."""

    network: torch.nn.Module
    place: int
    region: npt.NDArray[np.bool_] | None = None

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """float64 [n]."""
        import torch  # noqa: PLC0415

        logits: torch.Tensor = self.network(inputs).double()
        others = [place for place in range(logits.shape[1]) if place != self.place]
        odds = logits[:, self.place] - (logits[:, others].logsumexp(dim=1) if others else 0.0)
        return odds if self.region is None else odds[:, torch.from_numpy(self.region)].mean(dim=1)


def as_tensor(pixels: npt.NDArray[Any]) -> torch.Tensor:
    """float32 [1, channels, h, w] of [h, w] or [h, w, channels]."""
    import torch  # noqa: PLC0415

    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
    return torch.from_numpy(np.ascontiguousarray(planes, np.float32))[None]


def baseline_of(pixels: Pixels, kind: Baseline) -> npt.NDArray[np.float32]:
    """What an image without what is to be seen looks like: black, its mean colour, or itself out of focus."""
    if kind == "black":
        return np.zeros(pixels.shape, np.float32)
    mean = pixels.mean(axis=(0, 1), dtype=np.float64)
    if kind == "mean":
        return np.broadcast_to(mean, pixels.shape).astype(np.float32)
    size = max(1, min(pixels.shape[:2]) // 6)
    found = pixels.astype(np.float64)
    for axis in (0, 1):
        found = _box(_box(found, size, axis), size, axis)
    return found.astype(np.float32)


def _box(values: Floats, size: int, axis: int) -> Floats:
    """The mean over `size` places to both sides along an axis, edges repeated."""
    widths = [(size, size) if place == axis else (0, 0) for place in range(values.ndim)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, widths, "edge"), 2 * size + 1, axis)
    found: Floats = windows.mean(axis=-1)
    return found


def integrated(
    score: LogOdds, pixels: Pixels, baseline: npt.NDArray[np.float32], steps: int, batch: int
) -> tuple[Floats, float, int]:
    """Integrated gradients (Sundararajan et al. 2017): the map [h, w], what its sum misses, and the steps taken.

    Steps are doubled, up to 1,024, until the sum is within 1 % of the change of the score; `batch` images are computed
    at once.
    """
    import torch  # noqa: PLC0415
    from captum.attr import IntegratedGradients  # noqa: PLC0415

    x, z = as_tensor(pixels), as_tensor(baseline)
    with torch.no_grad():
        change = float(score(x) - score(z))
    along = IntegratedGradients(score)

    def attribute(steps: int) -> torch.Tensor:
        found: torch.Tensor = along.attribute(x, baselines=z, n_steps=steps, internal_batch_size=batch)
        return found

    found, missed, taken = until_complete(attribute, change, steps)
    return _map(found), missed, taken


def smoothed(
    score: LogOdds,
    pixels: Pixels,
    baseline: npt.NDArray[np.float32],
    steps: int,
    samples: int,
    batch: int,
    rng: np.random.Generator,
) -> Floats:
    """The same, as the mean over `samples` images with noise added (SmoothGrad by a noise tunnel)."""
    import torch  # noqa: PLC0415
    from captum.attr import IntegratedGradients  # noqa: PLC0415

    # Captum's own tunnel draws from torch's one generator for all threads: works beside one another would change it.
    draws = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
    x, z, along = as_tensor(pixels), as_tensor(baseline), IntegratedGradients(score)
    spread = torch.full_like(x, _NOISE * float(np.ptp(pixels)))
    whole = torch.zeros_like(x, dtype=torch.float64)
    for _ in range(samples):
        noisy = x + torch.normal(torch.zeros_like(x), spread, generator=draws)
        whole += along.attribute(noisy, baselines=z, n_steps=steps, internal_batch_size=batch).detach()
    return _map(whole / samples)


def gradcam(score: LogOdds, pixels: Pixels) -> tuple[Floats, str]:
    """GradCAM (Selvaraju et al. 2017) at the last convolution, as large as the image, and that layer's name.

    Raises `BadInput` where the network has no convolution whose output has places.
    """
    import torch  # noqa: PLC0415
    from captum.attr import LayerAttribution, LayerGradCam  # noqa: PLC0415

    name, layer = _last_convolution(score, pixels)
    found = LayerGradCam(score, layer).attribute(as_tensor(pixels), relu_attributions=True)
    size = (int(pixels.shape[0]), int(pixels.shape[1]))
    with torch.no_grad():
        return _map(LayerAttribution.interpolate(found, size, "bilinear")), name


def _last_convolution(score: LogOdds, pixels: Pixels) -> tuple[str, torch.nn.Module]:
    """The one nearest the output of those with at least 2 by 2 places, but a 1 by 1 that only mixes classes."""
    import torch  # noqa: PLC0415

    seen: list[tuple[str, torch.nn.Module]] = []

    def saw(name: str) -> Callable[[torch.nn.Module, Any, torch.Tensor], None]:
        def hook(module: torch.nn.Module, _: Any, output: torch.Tensor) -> None:
            if min(output.shape[2:]) > 1 and max(module.kernel_size) > 1:  # type: ignore[arg-type]
                seen.append((name, module))

        return hook

    hooks = [
        module.register_forward_hook(saw(name))
        for name, module in score.network.named_modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            score(as_tensor(pixels))
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise BadInput(
            "the network has no convolution that GradCAM could look at",
            code="explain.gradcam",
            cure="Ask for integrated gradients or occlusion.",
        )
    return seen[-1]


def occlusion(
    score: Callable[[Pixels], Floats], pixels: Pixels, baseline: npt.NDArray[np.float32], window: int, batch: int
) -> Floats:
    """By how much `score` [n] falls where a square of `window` pixels is covered by the baseline.

    Zeiler and Fergus 2014. Squares overlap by half; a pixel has the mean over those that cover it.
    """
    import torch  # noqa: PLC0415
    from captum.attr import Occlusion  # noqa: PLC0415

    def forward(tensor: torch.Tensor) -> torch.Tensor:
        planes = np.moveaxis(tensor.numpy(), 1, 3).round().clip(0, 255).astype(np.uint8)
        return torch.from_numpy(score(planes[..., 0] if pixels.ndim == 2 else planes))

    x = as_tensor(pixels)
    window = min(window, *pixels.shape[:2])
    channels, stride = x.shape[1], max(1, window // 2)
    found = Occlusion(forward).attribute(
        x,
        sliding_window_shapes=(channels, window, window),
        strides=(channels, stride, stride),
        baselines=as_tensor(baseline.round()),
        perturbations_per_eval=batch,
    )
    return _map(found) / channels


def _map(found: torch.Tensor) -> Floats:
    """Summed over channels."""
    values: Floats = found.detach().double().numpy()[0].sum(axis=0)
    return values
