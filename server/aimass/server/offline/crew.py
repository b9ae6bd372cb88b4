"""A crew of which nobody may fail: a shard that cannot be worked on stops an offline run, and is never left out.

At a federation's partner a failure is that partner's, and the round goes on with the others. Here all rows are one
organisation's: a model of fewer of them than were asked for would be a wrong result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Generator, Iterator, Sequence
from typing import Final

from aimass.proto.errors import AimassError, Conflict, IntegrityError, LimitExceeded, Unavailable
from aimass.server.reduction import Reduced
from aimass.server.simulation.crew import Crew
from aimass.server.simulation.partner import Asked, Made

__all__ = ["Strict"]

_FAULT: Final = re.compile(r"([a-z][A-Za-z_]*\.[A-Za-z_]+): ", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Strict:
    """See the module."""

    crew: Crew

    def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
        """See `Crew`; raises the error of the first shard that failed."""
        with contextlib.closing(_generator(self.crew, asked)) as answers:
            for made in answers:
                if made.fault and not made.full:
                    raise _failed(made)
                yield made

    def reduced(self, index: int, made: Sequence[Made]) -> Reduced | None:
        """See `Crew`."""
        return self.crew.reduced(index, made)

    def close(self) -> None:
        """See `Crew`."""
        self.crew.close()


def _generator(crew: Crew, asked: Sequence[Asked]) -> Generator[Made, None, None]:
    yield from crew.work(asked)


def _failed(made: Made) -> AimassError:
    code = found[1] if (found := _FAULT.match(made.fault)) else ""
    value = f"{made.partner}: {made.fault}"
    if "MemoryError" in code:
        return LimitExceeded(
            "a worker had not enough memory for a shard",
            code="offline.memory",
            value=value,
            cure="Split the data set into smaller shards, or use fewer --workers; then --resume.",
        )
    kind = IntegrityError if code.startswith("dataset.") else Conflict if code == "storage.replaced" else Unavailable
    return kind(
        "a shard could not be worked on, and none may be left out",
        code="offline.shard",
        value=value,
        cure="Mend what it says, then --resume: the rounds that are stored stand.",
    )
