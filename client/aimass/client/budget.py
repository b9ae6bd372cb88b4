"""The privacy ledgers of this partner's data sets, and the debit of each step: before data is touched.

A data set that has a budget in the policy has a ledger below `state/ledgers`, whatever run, task or server it serves.
The daemon holds it from its start on, or from the first debit, until it stops.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.client.ledgers import Ledgers, untold
from aimass.client.policy import DataBudget, Policy
from aimass.client.studies import begun_study, check_run, ended, lapsed
from aimass.privacy.dp.events import Budget, Event, Terms, Unit, check_delta
from aimass.privacy.dp.ledger_lines import EntryState
from aimass.privacy.dp.private_terms import planned_events, step_events
from aimass.proto.boosting import noise_of_trees
from aimass.proto.clock import Clock
from aimass.proto.durable import Durability
from aimass.proto.errors import AimassError, IntegrityError, Refused
from aimass.proto.plan import Plan
from aimass.proto.step import Step, StepKind

if TYPE_CHECKING:
    from aimass.privacy.dp.ledger_file import LedgerFile

__all__ = ["Budgets", "Debit", "budgets_of", "widest_of"]


def budgets_of(policy: Policy, data_set: str) -> tuple[Budget, ...]:
    """The budgets of a data set, as its ledger keeps them."""
    return tuple(_budget(one) for one in policy.budgets if one.data_set == data_set)


def widest_of(budgets: Iterable[Budget]) -> Unit:
    """The largest unit that one of them is for."""
    return Unit.widest(budget.terms.unit for budget in budgets)


def _check_deltas(plan: Plan, budgets: Iterable[Budget], units: int) -> None:
    """Hold the deltas of plan and budgets against one in the number of what each protects.

    `units` are the plan's, rows without any. Of a smaller unit there are as many or more, so its budgets are held
    against that number too. Of the files that an app reads neither rows nor persons are counted, which is 0 of both.
    """
    stated = {unit: [budget.terms.delta for budget in budgets if budget.terms.unit is unit] for unit in Unit}
    counted = Unit.EXAMPLE if plan.privacy is None else Unit(plan.privacy.unit)
    counted = counted if units else Unit.PERSON
    deltas = [delta for unit in Unit if unit.size <= counted.size for delta in stated[unit]]
    deltas += [] if plan.privacy is None else [plan.privacy.delta]
    if deltas:
        check_delta(max(deltas), units)
    if plan.secure is not None and (noise := plan.secure.noise) is not None:
        check_delta(max([noise.delta, *stated[Unit.PARTNER]]), noise.members)


def _budget(one: DataBudget) -> Budget:
    return Budget(terms=Terms.usual(Unit(one.unit), one.delta), epsilon=one.epsilon)


@dataclasses.dataclass(frozen=True, slots=True)
class Debit:
    """A step's reservation whose work has started: it counts in full until it is settled, and for ever without."""

    ledger: LedgerFile
    number: int
    price: Callable[[int], tuple[Event, ...]]
    """What so many private steps of the child cost."""
    private: bool
    """Whether the child has private steps to do: noise inside a secure sum is the gate's."""

    def settle(self, steps: int, result: str) -> None:
        """Record the private steps that were really done, and the digest of what they came to, before it leaves. It
        blocks. The same again changes nothing.

        Raises `Refused` where they are more than were reserved, or none: then nothing may leave.
        """
        if steps < 1 and self.private:
            raise IntegrityError(
                "the training child says that it did no private step",
                code="budget.no_steps",
                value=steps,
                cure="The installed software differs between daemon and child: install it again.",
            )
        if self.ledger.state.entries[self.number].state is EntryState.COMMITTED:  # a full disk stopped what follows
            self.ledger.check_resend(self.number, result)
            return
        self.ledger.commit(self.number, self.price(steps), result)


class Budgets:
    """Of one partner. All methods block; threads may share it."""

    def __init__(self, root: Path, durability: Durability, clock: Clock) -> None:
        self.ledgers, self._clock = Ledgers(root, durability, clock), clock

    def ledger(self, policy: Policy, data_set: str) -> LedgerFile | None:
        """The ledger of a data set that has a budget, with the budgets of the policy as it is now."""
        budgets = budgets_of(policy, data_set)
        if not budgets:
            return None
        held = self.ledgers.hold(data_set)
        try:
            held.set_budgets(budgets)
        except AimassError as error:
            raise untold(data_set, error) from error
        return held

    def check(
        self,
        policy: Policy,
        data_set: str,
        plan: Plan,
        units: int,
        begun: Mapping[str, int],
        run_id: str = "",
        summed: int | None = None,
    ) -> AimassError | None:
        """Raise `Refused` for a plan whose steps do not fit what is left of the data set's budget: all together but
        those that were `begun`, by kind and purpose, which are debited already.

        Of a run of a study the whole study has to fit, where it has not begun; what a person has to approve of it
        first, if anything, is given back. `summed` are the elements of a sum of its costliest, where the model is here.
        """
        ledger = self.ledger(policy, data_set)
        if ledger is None:
            return None
        from aimass.privacy.dp import ledger as rules  # noqa: PLC0415  (accounting loads where it is needed)
        from aimass.privacy.dp.accounting import Accountant  # noqa: PLC0415

        rules.check_trusted(ledger.state)
        budgets = budgets_of(policy, data_set)
        _check_deltas(plan, budgets, units)
        if plan.study is not None:
            return check_run(ledger.state, policy, plan, plan.study, run_id, units, begun, summed)
        asked = tuple(planned_events(plan, None, units, begun, widest_of(budgets)))
        if asked and (refusal := rules.refused(ledger.state, Accountant(), asked)):
            raise refusal.error()
        return None

    def debit(
        self,
        policy: Policy,
        data_set: str,
        plan: Plan,
        run_id: str,
        step: Step,
        elements: int,
        units: int,
        sent: int | None = None,
        summed: int | None = None,
    ) -> Debit | None:
        """Reserve a step on a model of so many trained elements, of which a sum has `sent`, and mark it as started;
        None where nothing is accounted for: the gate keeps what has no noise.

        A run of a study draws on what the study has reserved, which the first step of all its runs does: `summed` are
        the elements of a sum of the costliest.

        Raises `Refused` where it does not fit the budget: then the child must not be given the order.
        """
        widest = widest_of(budgets_of(policy, data_set))
        price = partial(step_events, plan, step.kind, elements, units, widest=widest, purpose=step.purpose, sent=sent)
        events = price()
        if not events and step.kind is not StepKind.TRAIN:
            return None
        ledger = self.ledger(policy, data_set)
        if ledger is None:
            return None
        if not events:
            raise Refused(
                "this data set has a privacy budget, and the plan has no differential privacy",
                code="policy.privacy",
                value=data_set,
            )
        study = None
        if plan.study is not None:
            study = begun_study(ledger, policy, plan, plan.study, (elements, units), summed)
        entry = ledger.reserve(run_id=run_id, round_=step.round, purpose=str(step.kind), events=events, study=study)
        ledger.start(entry.number)
        private = plan.privacy is not None or noise_of_trees(plan) > 0
        return Debit(ledger, entry.number, price, private=private)

    def open_studies(self) -> tuple[str, ...]:
        """The ids of studies that stand open in a ledger that is held."""
        states = [ledger.state for ledger in self.ledgers.held()]
        return tuple(sorted({study.name for state in states for study in state.studies.values() if study.open}))

    def end_study(self, study: str) -> bool:
        """Give back what the runs of a study did not spend; whether it was open here."""
        return ended(self.ledgers.held(), study)

    def end_lapsed(self, policy: Policy) -> None:
        """Do so with those that nobody has ended and that were not drawn on for too long."""
        lapsed(self.ledgers.held(), policy.studies, self._clock.now())

    def close(self) -> None:
        """Let the ledgers go; what is open in them is spent from the next start on."""
        self.ledgers.close()
