"""Where an app's randomness comes from: every generator that it may draw from starts from the seed of a
message, at a partner, or of the run, at the server.

torch takes seconds and hundreds of megabytes to load, and many apps have no need of it. So it is not loaded here: it is
seeded where an app has it, and else at the moment at which an app loads it, in the middle of a message too.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np

__all__ = ["Seeds"]


class Seeds(MetaPathFinder):
    """Seeds of one process; it is asked for modules as long as torch is not loaded."""

    def __init__(self) -> None:
        self._torch_seed: int | None = None
        if "torch" not in sys.modules:
            sys.meta_path.insert(0, self)

    def start(self, seed: bytes) -> None:
        """Begin a message."""
        random.seed(seed)
        np.random.seed(np.frombuffer(seed, "<u4"))
        self._for_torch(int.from_bytes(seed[:8]) >> 1)

    def start_run(self, seed: int) -> None:
        """Begin a run, with the seed of its plan."""
        random.seed(seed)
        np.random.seed(seed % (1 << 32))
        self._for_torch(seed)

    def _for_torch(self, seed: int) -> None:
        self._torch_seed = seed
        if "torch" in sys.modules:
            self.start_torch(sys.modules["torch"])

    def start_torch(self, torch: ModuleType) -> None:
        """Seed torch, once a message or a run has begun."""
        if self._torch_seed is not None:
            torch.manual_seed(self._torch_seed)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """torch as it is, with a loader that seeds it; nothing of anything else."""
        if fullname != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        if spec is not None and spec.loader is not None:
            spec.loader = _Seeding(spec.loader, self)
        return spec


class _Seeding(Loader):
    """Another loader, and a seed at its end."""

    def __init__(self, loader: Loader, seeds: Seeds) -> None:
        self._loader, self._seeds = loader, seeds

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._seeds.start_torch(module)
