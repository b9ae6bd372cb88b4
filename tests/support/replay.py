"""A run told again from its transcript: the machine is fed what the entries say, in their order, and must come to them.

What partners contributed is asked for anew, so the models are compared bit for bit with those of the history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aimass.proto.contribution import Contribution
from aimass.proto.plan import Plan
from aimass.proto.step import Step
from aimass.proto.values import canonical_json
from aimass.server import run_machine, runs, steps
from aimass.server.aggregation.models import ModelStore
from aimass.server.aggregation.sums import SpooledSums, added_metrics
from aimass.server.audit_steps import Body, Ended, StepTold, Void
from aimass.server.drivers.base import StepResult, find_driver
from aimass.server.engine import InstalledDrivers
from aimass.server.simulation.shell import first

__all__ = ["replayed"]

Contribute = Callable[[Step, str], Contribution]


class _Replay:
    def __init__(self, plan: Plan, participants: Mapping[str, str], models: ModelStore, contribute: Contribute) -> None:
        self._models, self._contribute, self._drivers = models, contribute, InstalledDrivers()
        self.run, self.told = first("ab" * 16, plan, participants), list[tuple[str, int]]()
        self.feed(runs.JoinTimeUp())

    def feed(self, event: runs.Event) -> None:
        self.run, actions = run_machine.apply(self.run, event, self._drivers, 0.0)
        for action in actions:
            match action:
                case runs.Reduce():
                    self._reduce(action)
                case runs.Commit():
                    self.told.append(("step", action.closed.step.index))
                case runs.Void():
                    self.told.append(("void", action.closed.step.index))

    def _reduce(self, action: runs.Reduce) -> None:
        step = self.run.open[str(action.index)].step
        ordered = sorted(action.counted, key=lambda name: self.run.participants[name].key.encode())
        made = [self._contribute(step, name) for name in ordered]
        result = StepResult(step, action.counted, added_metrics(one.metrics for one in made), SpooledSums(made))
        driver = find_driver(self.run.plan.stages[self.run.stage].driver)
        state, known = run_machine.driver_state(self.run, driver), run_machine.context(self.run)
        after = driver.receive(state, result, self._models, known)
        text = canonical_json(after).decode()
        self.feed(runs.Received(index=action.index, driver=text, model=driver.model(after)))


def replayed(
    plan: Plan, participants: Mapping[str, str], bodies: Sequence[Body | None], models: ModelStore, give: Contribute
) -> str:
    """The model that the history comes to; `participants` are keys by name. Every entry must follow from those before."""
    replay, told = _Replay(plan, participants, models, give), list[tuple[str, int]]()
    for body in bodies:
        match body:
            case StepTold():
                told.append(("step", body.step.index))
                assert replay.run.open[str(body.step.index)].step == body.step
                for name in body.step.participants:
                    event: steps.StepEvent = steps.Failed(partner=name, reason="as told")
                    if name in body.contributions:
                        event = steps.Stored(partner=name, digest=body.contributions[name])
                    replay.feed(runs.InStep(index=body.step.index, event=event))
                assert body.model == replay.run.model, f"step {body.step.index} comes to another model"
            case Void():
                told.append(("void", body.step.index))
            case Ended():
                assert (body.state, body.model) == (replay.run.state, replay.run.model)
    assert told == replay.told
    return replay.run.model
