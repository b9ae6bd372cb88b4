"""What the server counts as it works. No label names a run: runs come and go without end.

Label values are kinds, states and the server's own error codes, all of which are few.
"""

from __future__ import annotations

from collections.abc import Iterable

from aimass.proto.meters import Count, Spread
from aimass.proto.transfer import TransferMeters
from aimass.proto.views import StepView
from aimass.proto.vitals import Vitals
from aimass.server import runs

__all__ = ["ServerMeters"]


class ServerMeters:
    """Handed to the parts that work; whoever looks reads them."""

    def __init__(self) -> None:
        self.runs_submitted = Count("aimass_runs_submitted", "Runs that were submitted.")
        self.runs_ended = Count("aimass_runs_ended", "Runs that ended, by state.", "state")
        self.steps_opened = Count("aimass_steps_opened", "Steps that were opened.", "kind")
        self.steps_ended = Count("aimass_steps_ended", "Steps that ended: committed, or given up.", "kind", "outcome")
        self.step_seconds = Spread("aimass_step_seconds", "From a step's opening to its commit.", "kind")
        self.contributions = Count(
            "aimass_contributions",
            "Contributions as they came: stored, refused or late, by the server's code for what is not stored.",
            "outcome",
            "code",
        )
        self.slots = Count(
            "aimass_step_slots", "Places of partners in steps that ended, by what became of them.", "kind", "state"
        )
        self.store_seconds = Spread("aimass_store_commit_seconds", "One transaction of the run store with its flush.")
        self.sum_seconds = Spread("aimass_sum_seconds", "Summing a step's contributions and making the next model.")
        self.models_published = Count(
            "aimass_models_published",
            "Tries to publish what a run has made in the registry, by their outcome.",
            "state",
        )
        self.transfers = TransferMeters()
        self.vitals = Vitals()

    def changed(self, after: runs.Run, actions: Iterable[runs.Action], views: Iterable[StepView]) -> None:
        """Count what a stored change of a run began and ended; `views` are of the steps that it touched."""
        for action in actions:
            match action:
                case runs.Open():
                    self.steps_opened.add(action.step.kind)
                case runs.End():
                    self.runs_ended.add(action.state)
        for view in views:
            if str(view.index) not in after.open:
                self._ended(view)

    def _ended(self, view: StepView) -> None:
        self.steps_ended.add(view.kind, "given_up" if view.committed_at is None else "committed")
        if view.committed_at is not None:
            self.step_seconds.observe(view.committed_at - view.opened_at, view.kind)
        for state in view.slots.values():
            self.slots.add(view.kind, state)
