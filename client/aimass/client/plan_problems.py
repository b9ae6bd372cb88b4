"""What stands in the way of a private plan, or of what its author hopes for: found before it is submitted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aimass.client.plan_check import Case, cohort_noise
from aimass.privacy.dp.events import Unit, check_delta
from aimass.privacy.dp.private_terms import ANALYSES
from aimass.privacy.secagg.faults import FaultError
from aimass.proto.checks import Finding, fault, of_error, warning
from aimass.proto.errors import AimassError
from aimass.proto.plan import PrivacySettings

__all__ = ["problems"]

_FAR: Final = 2.0
"""How far the public divisor may be from the mean batch without a word."""
_FIX: Final = "Train fewer numbers (an adapter, a smaller layer), ask more partners, or protect rows, not partners."


def problems(case: Case) -> Iterator[Finding]:
    """What would stand in the way of the run, or of what it promises; nothing where all is well."""
    yield from _deltas(case)
    draft, privacy = case.draft, case.draft.privacy
    yield from _partner_noise(case)
    if privacy is not None:
        yield from _settings(case, privacy)
    if draft.evaluate.every and (privacy is None or privacy.metrics is None):
        what = "metrics have no noise: of data sets with a budget they stay at the partners, and nobody sees them"
        fix = "Set `evaluate.every = 0`, or give `[privacy.metrics]` a noise of their own."
        yield warning("evaluate", "plan.metrics", what, fix)
    analyses = [stage.driver for stage in draft.stages if stage.driver in ANALYSES]
    if analyses and (privacy is None or privacy.analyses is None):
        what = f"`{analyses[0]}` asks for sums without noise: partners whose data set has a budget send none"
        fix = "Give `[privacy.analyses]` a noise, or leave the stage out: numbers are scaled by the schema's bounds."
        yield warning("stages", "plan.analyses", what, fix)


def _partner_noise(case: Case) -> Iterator[Finding]:
    secure, cohort = case.draft.secure, case.draft.cohort
    if secure is None or secure.noise is None:
        return
    asked, made_for = cohort.sample + cohort.spare or len(cohort.partners), secure.noise.members
    if asked > made_for:
        what = f"a step asks {asked} partners, and the noise is made for {made_for}"
        yield fault("secure.noise", "plan.members", what, f"Set `members = {asked}` under [secure.noise].")
    try:
        sizes = cohort_noise(case)
    except FaultError as error:
        yield of_error(
            "secure.noise", error.fault.error(), "Give `secure.bits` more bits, more noise, or Skellam noise."
        )
        return
    if sizes is not None and sizes.own.ratio >= 1:
        yield warning("cohort", "plan.signal", sizes.sentence(), _FIX)


def _deltas(case: Case) -> Iterator[Finding]:
    for terms in case.terms:
        units = case.partners if terms.unit is Unit.PARTNER else case.units
        try:
            check_delta(terms.delta, units)
        except AimassError as error:
            fix = f"There are {units:,} of them: choose a delta well below {1 / units:.2g}, such as {0.1 / units:.1g}."
            yield of_error("delta", error, fix)


def _settings(case: Case, privacy: PrivacySettings) -> Iterator[Finding]:
    expected = privacy.sampling_rate * case.units
    if not expected / _FAR <= privacy.divisor <= expected * _FAR:
        what = f"`divisor` {privacy.divisor:g} is far from {expected:.3g}, the mean batch of {case.units:,} units"
        yield warning("privacy", "plan.divisor", what, f"Set `divisor = {expected:.3g}`, or correct the learning rate.")
