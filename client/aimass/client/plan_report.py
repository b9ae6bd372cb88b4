"""All that `aimass plan check` says of a plan without training anything, as one value and as lines for a person."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from aimass.client.plan_check import Case, Price, Sizes, case_of, cohort_noise, noise_sentences, prices
from aimass.client.plan_options import Option, options
from aimass.client.plan_problems import problems
from aimass.client.private_checks import private_findings
from aimass.client.shards import Shard
from aimass.client.synthetic import dealt, learnable_rows
from aimass.privacy.dp.private_terms import trained_elements
from aimass.proto.checks import Finding, State, fault, sound, warning
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.manifest import Schema
from aimass.proto.plan import PlanDraft
from aimass.proto.rows import Batch, encode, read_table, require
from aimass.proto.task import Task, first_model, load, locate
from aimass.proto.tensors import Blob

__all__ = ["Report", "report", "told", "trial_shards"]

_HELD_OUT = 0.2
_SEED = 1
_LEAST_ROWS = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Findings first: where one is a fault there may be no figures. `budget` is what the options keep."""

    case: Case
    task: Task | None
    findings: tuple[Finding, ...]
    noise: tuple[str, ...]
    prices: tuple[Price, ...]
    sizes: Sizes | None
    budget: float | None
    options: tuple[Option, ...]

    @property
    def fits(self) -> bool:
        """Whether the plan can run and keeps the budget that it was held against."""
        return sound(self.findings) and all(price.fits for price in self.prices)


def report(draft: PlanDraft, budget: float | None, rows: int | None, partners: int | None) -> Report:
    """Look at a plan. Without a `budget` the options keep what the plan itself spends.

    It runs the code of the plan's task, which builds the model. Raises `BadInput` for a plan that protects nobody.
    """
    task, first = _task(draft)
    elements = None if task is None else trained_elements(Blob(first_model(task, draft.seed)).layout)
    case = case_of(draft, elements, rows, partners)
    findings = (*first, *problems(case))
    if any(finding.state is State.FAULT and finding.check == "secure.noise" for finding in findings):
        return Report(case, task, findings, (), (), None, budget, ())
    priced = prices(case, budget)
    kept = budget if budget is not None else max(price.epsilon for price in priced)
    return Report(
        case, task, findings, tuple(noise_sentences(case)), priced, cohort_noise(case), kept, options(case, kept)
    )


def _task(draft: PlanDraft) -> tuple[Task | None, tuple[Finding, ...]]:
    """The plan's task where it is installed, and what stands in its way."""
    try:
        task = load(locate(draft.task))
    except NotFound:
        what = (
            f"the task {draft.task} is not installed here: figures are for a model of unknown size, and none is tried"
        )
        return None, (warning("task", "task.unknown", what, f"pip install the package of {draft.task}."),)
    found: tuple[Finding, ...] = ()
    if task.schema.name != draft.data_schema:
        what = f"the plan is for rows of {draft.data_schema}, and the task for {task.schema.name}"
        found = (fault("task", "plan.schema", what, f'Set `data_schema = "{task.schema.name}"`.'),)
    if draft.privacy is not None:
        found += tuple(each for each in private_findings(task) if each.state is not State.OK)
    return task, found


def trial_shards(case: Case, schema: Schema, partners: int, data: Path | None) -> tuple[tuple[Shard, ...], str]:
    """Rows to try the plan on, as many for each of `partners` as the case says, and where they are from.

    Of too few rows there are fewer partners, since a plan's sampling rate and divisor are made for so many rows each.
    Raises `BadInput` where `data` does not fit the schema or is too small.
    """
    wanted = round(partners * case.rows / (1 - _HELD_OUT))
    batch, where = (learnable_rows(schema, wanted, _SEED), "synthetic rows") if data is None else _read(schema, data)
    batch = batch.take(slice(wanted))
    partners = max(1, min(partners, round(partners * len(batch.labels) / wanted)))
    per = case.draft.privacy.rows_per_person if case.draft.privacy else None
    if len(batch.labels) < _LEAST_ROWS:
        raise BadInput("too few rows to try a plan on", code="plan.rows", value=len(batch.labels), limit=_LEAST_ROWS)
    shards = dealt(batch, partners, _HELD_OUT, _SEED, per)
    found = len(shards[0].train.labels)
    few = f", where the plan is for {case.rows:,}" if found < 0.9 * case.rows else ""
    return shards, f"{where}: {partners} partner{'s' * (partners > 1)} of {found:,} training rows{few}"


def _read(schema: Schema, path: Path) -> tuple[Batch, str]:
    with path.open("rb") as file:
        table = require(read_table(schema, [file], "parquet" if path.suffix == ".parquet" else "csv"))
    return encode(table), path.name


def told(found: Report) -> Iterator[str]:
    """The report, but for its options."""
    case = found.case
    elements = "" if case.elements is None else f", {case.elements:,} trained numbers"
    yield f"{'plan':<10}{case.draft.name}: task {case.draft.task}{elements}, {case.rows:,} rows a partner"
    for sentence in found.noise:
        yield f"{'noise':<10}{sentence}"
    for price in found.prices:
        yield f"{'spends':<10}{price.figure}, after {price.rounds:,} rounds; one round alone {price.one_round:.4f}"
        if price.budget is not None:
            verdict = "fits" if price.fits else "does NOT fit"
            yield f"{'budget':<10}{verdict} epsilon {price.budget:g}: {price.rounds_that_fit:,} such rounds do"
    if not case.by_steps:
        yield f"{'tried':<10}not: by `aimass simulate` trees grow over rows of your own, with their noise"
    if found.sizes is not None:
        yield from _sizes(found.sizes)
    for finding in found.findings:
        yield f"{finding.state:<10}{finding.what}" + (f"  ({finding.fix})" if finding.fix else "")


def _sizes(sizes: Sizes) -> Iterator[str]:
    yield f"{'cohort':<10}{sizes.sentence()}"
    yield f"{'':<10}{'partners':>10}{'noise':>12}{'update':>12}{'noise/update':>14}"
    for size in sizes.others:
        yield f"{'':<10}{size.partners:>10,}{size.noise:>12.3g}{size.signal:>12.3g}{size.ratio:>14.3g}"
    clear = sizes.clear_from
    yield f"{'':<10}" + (
        "no cohort is large enough to bring the noise below the update"
        if clear is None
        else f"from {clear:,} partners on the noise is below the update"
    )
