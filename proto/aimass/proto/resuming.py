"""Going on over a link that breaks, as long as tries get further: for a person's commands, which end by themselves.

A daemon waits for ever, because nobody waits for it; a command says at some time that it does not work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, Unavailable

__all__ = ["PATIENCE_S", "Progress", "passing", "resumed"]

T = TypeVar("T")
PATIENCE_S: Final = 120.0
"""How long tries may fail without getting further; longer than a dead link takes to be noticed."""
_RETRY_S: Final = 1.0
_SOON_S: Final = 0.1
_STREAMS: Final = "transfer.streams"

Progress = Callable[[int, int], None]
"""Hears of bytes that moved, and of all."""


def passing(error: AimassError) -> bool:
    """Whether the same may go well soon: the link is broken, or streams over one that died are still counted."""
    return isinstance(error, Unavailable) or error.code == _STREAMS


async def resumed(
    attempt: Callable[[Progress], Awaitable[T]],
    clock: Clock,
    what: str,
    *,
    reached: bool = False,
    progress: Progress | None = None,
) -> T:
    """Try until it works, is refused, or `PATIENCE_S` passed in which no try began further on than those before.

    An attempt goes on where the last one stopped and tells each step it makes. The server that no try has `reached` is
    told at once, as its own error. Raises what the attempt raises, `Unavailable` as `link.gave_up` at the end.
    """
    furthest, since, failures, moved, of = (0 if reached else -1), clock.now(), 0, 0, 0
    while True:
        begun: list[int] = []

        def heard(done: int, whole: int, begun: list[int] = begun) -> None:
            nonlocal moved, of
            begun.append(done)
            moved, of = done, whole
            if progress is not None:
                progress(done, whole)

        try:
            return await attempt(heard)
        except AimassError as error:
            if begun and begun[0] > furthest:
                furthest, since, failures = begun[0], clock.now(), 0
            if not passing(error) or furthest < 0:
                raise
            if clock.now() - since >= PATIENCE_S:
                raise Unavailable(
                    f"{what}: the link breaks again and again, and nothing moves on",
                    code="link.gave_up",
                    value=f"{moved} of {of} bytes; {error.code}" if of else error.code,
                    limit=f"{PATIENCE_S:g} s without getting further",
                    cure="See whether the server runs and what stands between; repeated, it goes on where it stopped.",
                ) from error
            await clock.sleep(min(_RETRY_S, _SOON_S * 2.0 ** min(failures, 10)))
            failures += 1
