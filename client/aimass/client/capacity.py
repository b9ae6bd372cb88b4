"""What a participant computes with: its device, how many rows at once, in which precision, beside which other ranks.

None of it is the plan's: partners with little memory, a GPU, or several, train the same plan to the same update, up to
rounding. Only where a plan lets partners do fewer steps, who does so sends another.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

import torch

from aimass.client.ranks import ALONE, Ranks
from aimass.proto.errors import BadInput
from aimass.proto.home import ChildLimits

__all__ = ["ONE_CPU", "Capacity", "capacity_of", "gpu_unused"]

_A_GPU: Final = Path("/dev/nvidia0")


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """0 `batch_rows` or `most_steps` is no limit; the latter and `mixed_precision` are used where the plan says so.

    `gpu_bytes` is the memory of the device, 0 of a CPU.
    """

    device: str = "cpu"
    described: str = "CPU"
    batch_rows: int = 0
    mixed_precision: bool = False
    ranks: Ranks = ALONE
    most_steps: int = 0
    gpu_bytes: int = 0

    def at_once(self, rows: int) -> int:
        """How many of so many rows go through the model together."""
        return min(rows, self.batch_rows) if self.batch_rows else rows

    def whole(self, rows: int) -> bool:
        """Whether a batch of so many rows is computed in one piece, here."""
        return self.ranks.count == 1 and self.at_once(rows) == rows


ONE_CPU: Final = Capacity()


def capacity_of(limits: ChildLimits, ranks: Ranks = ALONE) -> Capacity:
    """Of this process, as the partner's own settings want it: each rank on its own CUDA device while there are some,
    else on the CPU. Raises `BadInput` where the settings name a device that torch cannot use."""
    device, kind, gpu_bytes = "cpu", "CPU", 0
    if (index := _gpu(limits.device, ranks.rank)) is not None:
        device, kind = f"cuda:{index}", f"CUDA: {torch.cuda.get_device_name(index)}"
        gpu_bytes = torch.cuda.get_device_properties(index).total_memory
    elif gpu_unused(limits):
        kind = "CPU, as torch cannot use the GPU that is here"
    told = [kind if ranks.count == 1 else f"{ranks.count} x {kind}"]
    if limits.mixed_precision:
        told.append("bfloat16 where the plan allows it")
    if limits.batch_rows:
        told.append(f"{limits.batch_rows} rows at once")
    if limits.most_steps:
        told.append(f"{limits.most_steps} steps at most where the plan allows it")
    return Capacity(
        device, ", ".join(told), limits.batch_rows, limits.mixed_precision, ranks, limits.most_steps, gpu_bytes
    )


def gpu_unused(limits: ChildLimits) -> bool:
    """Whether this machine has an NVIDIA GPU that torch cannot use, and the settings do not pass it over."""
    return not limits.device and not torch.cuda.is_available() and _A_GPU.exists()


def _gpu(wanted: str, rank: int) -> int | None:
    """The number of the CUDA device of a rank; None where it computes on the CPU."""
    count = 0 if wanted == "cpu" or not torch.cuda.is_available() else torch.cuda.device_count()
    first = int(wanted.partition(":")[2] or 0)
    if wanted.startswith("cuda") and first >= count:
        raise BadInput(
            "torch cannot use the GPU that the settings of this machine name",
            code="child.device",
            value=wanted,
            limit=f"{count} CUDA devices",
            cure="Let child.device in client.toml name another or cpu, or nothing; `aimass doctor --dir DIR` looks.",
        )
    return (first + rank) % count if count else None
