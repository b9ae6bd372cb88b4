"""A decision while it is made: the next state, and what is to be done, in order. Frozen: each step gives another."""

from __future__ import annotations

import dataclasses
from typing import Any

from aimass.server.serving.watching.moments import Moment
from aimass.server.serving.watching.settings import WatchSettings
from aimass.server.serving.watching.state import Action, Release, State, Tell

__all__ = ["Decision", "World"]


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """What a decision may look at beside the state."""

    settings: WatchSettings
    now: Moment


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """Begins with the state before."""

    state: State
    actions: tuple[Action, ...] = ()

    def set(self, **changes: Any) -> Decision:
        """With these fields of the state changed."""
        return Decision(dataclasses.replace(self.state, **changes), self.actions)

    def do(self, *actions: Action) -> Decision:
        """With these actions after those that are there."""
        return Decision(self.state, self.actions + actions)

    def tell(self, kind: str, text: str, release: Release | None = None, **figures: float) -> Decision:
        """With a line of the audit log."""
        return self.do(Tell(kind, text, release, figures))

    def tell_once(self, topic: str, kind: str, text: str, release: Release | None = None, **figures: float) -> Decision:
        """With a line, unless the topic was told of this version and has not ended since."""
        key = (topic, release.digest if release else "")
        if key in self.state.told:
            return self
        return self.set(told=self.state.told | {key}).tell(kind, text, release, **figures)

    def end_of(self, topic: str) -> Decision:
        """The topic has ended: should it come again, it is told again."""
        return self.set(told=frozenset(key for key in self.state.told if key[0] != topic))

    def told(self, topic: str) -> bool:
        """Whether it was told and has not ended since."""
        return any(key[0] == topic for key in self.state.told)
