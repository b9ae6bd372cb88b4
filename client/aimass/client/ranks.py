"""The processes that train together at one participant, each on its device: a sum over all of them, the same at each.

Training children may open no socket, so neither gloo nor nccl can meet there. Ranks talk over links that the daemon
opened for them before: each sends its values to rank 0, which adds them in the order of the ranks and sends the sum to
all. That sum has the same bytes at every rank and in every repetition.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch

from aimass.proto.errors import Unavailable

__all__ = ["ALONE", "Alone", "LinkedRanks", "Ranks"]


class Ranks(Protocol):
    """This process among those of its participant."""

    @property
    def rank(self) -> int:
        """Its number, from 0."""
        ...

    @property
    def count(self) -> int:
        """How many they are."""
        ...

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks of what each calls this with, of one shape and dtype. It waits for the slowest."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Alone:
    """One process."""

    rank: int = 0
    count: int = 1

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """What it was given."""
        return values


ALONE: Final = Alone()


@dataclasses.dataclass(frozen=True, slots=True)
class LinkedRanks:
    """Over links: rank 0 has one to each other rank, in their order; the others have the one to it."""

    rank: int
    count: int
    links: Sequence[socket.socket]

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """Through the memory of the host, whatever the device. Raises `Unavailable` where another rank is gone."""
        total = values.detach().to("cpu", copy=True).contiguous()
        try:
            if self.rank:
                self.links[0].sendall(_bytes(total))
                _receive(self.links[0], total)
            else:
                self._add(total)
        except OSError as error:
            raise Unavailable("another rank has ended", code="child.rank", value=self.rank) from error
        return total.to(values.device)

    def _add(self, total: torch.Tensor) -> None:
        part = torch.empty_like(total)
        for link in self.links:
            _receive(link, part)
            total += part
        for link in self.links:
            link.sendall(_bytes(total))


def _bytes(values: torch.Tensor) -> memoryview:
    flat: npt.NDArray[Any] = values.numpy().reshape(-1)
    return flat.view(np.uint8).data


def _receive(link: socket.socket, into: torch.Tensor) -> None:
    left = _bytes(into)
    while left:
        taken = link.recv_into(left)
        if not taken:
            raise Unavailable("another rank has ended", code="child.rank")
        left = left[taken:]
