"""The retraining hook: a plan that is submitted where a model is stale or its rows drift."""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

from aimass.server.serving.watching.settings import RetrainSettings
from aimass.server.serving.watching.state import Release

__all__ = ["PlanRetrainer", "Retrainer", "retrain_key"]

_LABEL: Final = b"AIMass retrain v1\0"


class Retrainer(Protocol):
    """Whoever asks for training."""

    def submit(self, model: str, release: Release) -> str:
        """The run that will make the next version; blocks, and raises what submitting does."""
        ...


def retrain_key(model: str, release: Release) -> str:
    """Under which the run is submitted: the same for all servers that serve this version, so that it is one run."""
    return hashlib.sha256(_LABEL + f"{model}\0{release.digest}".encode()).hexdigest()[:32]


class PlanRetrainer:
    """Submits the plan in a file, as the member whose home the settings name."""

    def __init__(self, settings: RetrainSettings) -> None:
        self._settings = settings

    def submit(self, model: str, release: Release) -> str:
        """See `Retrainer`."""
        from aimass.proto.api import Federation  # noqa: PLC0415  (most serving processes never submit anything)

        with Federation.open(self._settings.home) as federation:
            return federation.submit(self._settings.plan, key=retrain_key(model, release)).id
