"""A training step in lockstep over Spark: `TorchDistributor` starts the processes, gloo carries their sums."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from aimass.proto.step import StepKind
from aimass.proto.values import canonical_json, decode_json
from aimass.server.offline.executors import Executors
from aimass.server.offline.site import InStore
from aimass.server.reduction import Reduced
from aimass.server.simulation import partner
from aimass.server.simulation.partner import Asked, Made
from aimass.server.simulation.spark import anew

if TYPE_CHECKING:
    import torch

__all__ = ["Lockstep"]


@dataclasses.dataclass(frozen=True, slots=True)
class Lockstep:
    """See `Crew`: training by `count` processes together, all else by executors one by one."""

    executors: Executors
    opens: InStore
    count: int

    def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
        """See `Crew`: of a training step one answer comes, and raises `Unavailable` where Spark gave up."""
        if not asked or asked[0].step.kind is not StepKind.TRAIN:
            yield from self.executors.work(asked)
            return
        from pyspark.ml.torch.distributor import TorchDistributor  # noqa: PLC0415  (an extra)

        orders = [canonical_json(one) for one in asked]
        processes = TorchDistributor(num_processes=min(self.count, len(asked)), local_mode=False, use_gpu=False)
        # A stage whose tasks wait for each other Spark does not begin again; a round is a pure function of its orders.
        made, parcel = anew(lambda: processes.run(_rank, self.opens, orders))
        yield self.executors.deliver(asked[0], decode_json(Made, made, "an executor's answer"), parcel)

    def reduced(self, index: int, made: Sequence[Made]) -> Reduced | None:
        """See `Crew`."""
        return self.executors.reduced(index, made)

    def close(self) -> None:
        """See `Crew`."""
        self.executors.close()


class _Gloo:
    """This process among those that TorchDistributor started; see `Ranks`."""

    def __init__(self) -> None:
        from torch import distributed  # noqa: PLC0415  (in executors alone)

        self._distributed = distributed
        distributed.init_process_group("gloo")
        self.rank, self.count = distributed.get_rank(), distributed.get_world_size()

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks."""
        total = values.detach().clone()
        self._distributed.all_reduce(total)
        return total

    def close(self) -> None:
        """Without it the processes abort as they end, though all is done."""
        self._distributed.destroy_process_group()


def _rank(opens: InStore, orders: Sequence[bytes]) -> tuple[bytes, bytes]:
    """In each process; what the first returns comes back."""
    ranks = _Gloo()
    try:
        return partner.do_together(opens, orders, ranks)
    finally:
        ranks.close()
