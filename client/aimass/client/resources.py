"""What this machine has for a run, held against what the plan says that it needs: before anything of it is begun."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aimass.proto.errors import Refused
from aimass.proto.home import HomeSettings
from aimass.proto.plan import Needs

__all__ = ["Resources", "check_gpu", "check_needs", "resources_here"]

_CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True, slots=True)
class Resources:
    """Bytes of memory that a training child may have at most, and of the disk that may be filled."""

    memory_bytes: int
    disk_bytes: int


def resources_here(folder: Path, settings: HomeSettings, held_bytes: int = 0) -> Resources:
    """Of this machine, or of the container that this is, within the partner's own limits.

    Memory is what there is at all: how much others use now is another tomorrow. Several ranks share it. So many bytes
    of what a plan counts for the disk lie on it already.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [limit // settings.child.ranks for limit in (machine, *_container_limits())]
    own = settings.child.memory_bytes
    free = shutil.disk_usage(folder).free - settings.limits.min_free_bytes
    return Resources(min([*limits, own] if own else limits), max(0, free) + held_bytes)


def _container_limits() -> Iterator[int]:
    """What control groups, of either version, allow this process and all groups around it."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, file = (_CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (_CGROUPS, "memory.max")
        place = root / path.lstrip("/")
        for group in (place, *place.parents):
            if group.is_relative_to(root) and (group / file).is_file():
                text = (group / file).read_text().strip()
                if text.isdigit():
                    yield int(text)


def check_needs(needs: Needs, here: Resources) -> None:
    """Raise `Refused` where the plan needs more than there is."""
    if needs.memory_bytes > here.memory_bytes:
        raise _short(
            "memory",
            needs.memory_bytes,
            here.memory_bytes,
            "Raise child.memory_bytes or lower child.ranks in client.toml, or give the machine more; the next run asks "
            "again.",
        )
    if needs.disk_bytes > here.disk_bytes:
        raise _short(
            "disk",
            needs.disk_bytes,
            here.disk_bytes,
            "Free space on the partner's disk, or lower limits.min_free_bytes in client.toml; the next run asks again.",
        )


def check_gpu(needs: Needs, gpu_bytes: int) -> None:
    """The same of the memory of the device on which training computes, 0 where it is the processor itself."""
    if 0 < gpu_bytes < needs.gpu_bytes:
        raise _short("gpu", needs.gpu_bytes, gpu_bytes, "Take a larger GPU, or none: the next run asks again.")


def _short(what: str, needed: int, here: int, cure: str) -> Refused:
    words = {"memory": "memory", "disk": "room on the disk", "gpu": "memory on its GPU"}
    return Refused(
        f"the plan needs more {words[what]} than this partner has",
        code=f"needs.{what}",
        value=f"{here / 1e9:.1f} GB",
        limit=f"from {needed / 1e9:.1f} GB",
        cure=cure,
    )
