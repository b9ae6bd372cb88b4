"""What a partner's policy lets studies reserve. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec

from aimass.client.policy_rules import Rule
from aimass.privacy.dp.events import Event
from aimass.proto.names import Digest, Name
from aimass.proto.plan import Plan, Study
from aimass.proto.studies import StudyId, study_digest
from aimass.proto.values import Value

__all__ = ["ApprovedStudy", "Studies", "study_rules"]


class ApprovedStudy(Value, frozen=True):
    """A study that a person here approved: the digest of its section, and what it may reserve of a data set at most."""

    id: StudyId
    data_set: Name
    terms: Digest
    events: tuple[Event, ...]


class Studies(Value, frozen=True):
    """Which studies may reserve of the budgets here; without a budget there is nothing to reserve, and no rule.

    A study of up to `trials` runs begins by itself where it costs up to `epsilon`, alone, of each budget: with 0 trials
    each waits for a person. One that nobody ends is ended here when none of its runs has begun a step for `days`.
    """

    trials: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    epsilon: Annotated[float, msgspec.Meta(gt=0, le=50)] = 1.0
    days: Annotated[float, msgspec.Meta(gt=0, le=3_650)] = 14.0
    approved: tuple[ApprovedStudy, ...] = ()

    def approval(self, study: Study, data_set: str) -> ApprovedStudy | None:
        """What was approved of a study as it is stated now, over a data set."""
        wanted = study.id, data_set, study_digest(study)
        return next((one for one in reversed(self.approved) if (one.id, one.data_set, one.terms) == wanted), None)


def study_rules(studies: Studies, plan: Plan, data_set: str, *, budgeted: bool) -> tuple[Rule, ...]:
    """Whether a plan's study may begin without asking, as far as its runs go; what it costs its ledger says."""
    study = plan.study
    if study is None or not budgeted:
        return ()
    holds = study.trials <= studies.trials or studies.approval(study, data_set) is not None
    limit = f"to {studies.trials} runs, or approved by a person"
    return (Rule("study", f"{study.id[:8]}, {study.trials} runs", limit, holds, pending=True),)
