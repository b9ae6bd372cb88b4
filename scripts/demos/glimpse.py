"""One masked input next to the update that it hides: what a partner had, and what its server held of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt

from aimass.client.release import Beside
from aimass.privacy.secagg.context import LaneKind
from aimass.privacy.secagg.lanes import LanePlan, from_bytes
from aimass.privacy.secagg.packing import unpack
from aimass.privacy.secagg.quantise import centred
from aimass.privacy.secagg.rounds import lanes_of
from aimass.proto.plan import Plan
from aimass.proto.step import Step
from aimass.proto.values import decode_json

__all__ = ["Glimpse", "draw_glimpse", "look"]

HIDDEN, SEEN = "#1f6f6b", "#8a8f98"


@dataclasses.dataclass(frozen=True, slots=True)
class Glimpse:
    """Of one partner in one step: signed lanes of its update, and the lanes of its masked input, as many, of b bits."""

    partner: str
    step: int
    bits: int
    update: npt.NDArray[np.int64]
    masked: npt.NDArray[np.int64]

    def entries(self, count: int = 6) -> list[tuple[int, int]]:
        """The first lanes of both."""
        return list(zip(self.update[:count].tolist(), self.masked[:count].tolist(), strict=True))


def look(plan: Plan, step: Step, partner: str, lanes: bytes, payload: bytes, beside: bytes) -> Glimpse:
    """From the files as they lay on the partner's disk and in the server's spool at one moment."""
    shapes = decode_json(Beside, beside, "what is kept beside the lanes").groups
    lane_plan: LanePlan = lanes_of(plan, step, shapes)
    encoded = centred(from_bytes(lane_plan, memoryview(lanes)), lane_plan.bits)
    masked = centred(unpack(payload, lane_plan.lanes, lane_plan.bits), lane_plan.bits)
    updates = sum(spec.count for spec in lane_plan.specs if spec.kind in (LaneKind.UPDATE, LaneKind.NOISED))
    return Glimpse(partner, step.index, lane_plan.bits, encoded[:updates], masked[:updates])


def draw_glimpse(glimpse: Glimpse, path: Path) -> None:
    """Write the PNG: both histograms over the whole range of a lane, and the update's own once more close by."""
    half = 1 << glimpse.bits - 1
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    whole = np.linspace(-half, half, 65)
    axes[0].hist(glimpse.update, bins=51, color=HIDDEN)
    axes[0].set(title=f"{glimpse.partner}'s update, step {glimpse.step}", xlabel="steps of the quantisation")
    axes[1].hist(glimpse.update, bins=whole, color=HIDDEN)
    axes[1].set(title=f"the same on all {glimpse.bits} bits of a lane", xlabel="lane")
    axes[2].hist(glimpse.masked, bins=whole, color=SEEN)
    axes[2].set(title="what the server holds of it", xlabel="lane")
    for one in axes:
        one.locator_params(axis="x", nbins=4)
        one.spines[["top", "right"]].set_visible(False)
        one.set_ylabel("lanes")
    figure.savefig(path, dpi=130)
    plt.close(figure)
