"""A closed step becomes a commit: contributions are summed, and the driver makes the next model. It blocks."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.transcript import Chain
from aimass.proto.compression import Codec
from aimass.proto.contribution import STATE_LOST, Contribution, Metric, decode_contribution
from aimass.proto.errors import AimassError
from aimass.proto.logs import about
from aimass.proto.pages import forget_pages
from aimass.proto.sent import codec_of
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.storage import Blobs, map_file
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json
from aimass.proto.views import StepView
from aimass.server import run_machine, runs, steps
from aimass.server.aggregation.circles import CircleSums, robust_circles
from aimass.server.aggregation.collected import Collected
from aimass.server.aggregation.models import ModelStore
from aimass.server.aggregation.secure_sums import SecretSum, SecureTold
from aimass.server.aggregation.spooled import check_spooled
from aimass.server.aggregation.spread import SpreadSums
from aimass.server.aggregation.summary import Summariser
from aimass.server.aggregation.sums import SpooledSums, added_metrics
from aimass.server.commits import step_commit
from aimass.server.drivers.base import Driver, Listener, Overlapping, StepResult, Sums, Surveying
from aimass.server.run_views import step_view
from aimass.server.store import Commit, ModelRow

__all__ = ["Reduced", "ReducedStep", "reduce_step", "reduced_step"]

log = logging.getLogger("aimass.server")
_FEW: Final = 8
"""Contributions that are summed from their maps, in two threads at once; of more, the kernel would map too much."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReducedStep:
    """What a step comes to, before it stands in a history: the driver's answer, its view, the model that it made."""

    received: runs.Received
    view: StepView
    models: tuple[ModelRow, ...]
    told: tuple[SecureTold, ...]


def reduce_step(
    run: runs.Run,
    chain: Chain,
    state: steps.StepState,
    paths: Mapping[str, Path],
    verify: Collection[str],
    driver: Driver,
    blobs: Blobs,
    signer: Ed25519PrivateKey,
    now: float,
    secure: Sequence[SecretSum] | None = None,
) -> tuple[runs.Received, Callable[[Chain], Commit]]:
    """As `reduced_step`, and what makes what is to be stored of it: ready for `chain`, and made again where another
    step has ended meanwhile."""
    done = reduced_step(run, state, paths, verify, driver, blobs, now, secure)

    @functools.lru_cache(maxsize=1)
    def commit(extended: Chain) -> Commit:
        return step_commit(run, extended, state, done.view, done.models, signer, done.told)

    commit(chain)
    return done.received, commit


def reduced_step(
    run: runs.Run,
    state: steps.StepState,
    paths: Mapping[str, Path],
    verify: Collection[str],
    driver: Driver,
    blobs: Blobs,
    now: float,
    secure: Sequence[SecretSum] | None = None,
    elsewhere: Reduced | None = None,
) -> ReducedStep:
    """Sum the contributions at `paths`, by partner, in the order of the participants' keys.

    With `secure` they are masked inputs, of which the sums of circles alone can be read. What was summed `elsewhere`,
    in the same order, is taken as it is: nothing is at `paths` then. The files of the partners in
    `verify` are compared with their digests first. Raises the named error of a contribution, model or driver that
    cannot be used: then the run cannot go on.
    """
    index, counted = state.step.index, tuple(paths)
    digests = {name: state.slots[name].digest for name in paths}
    codecs = _codecs(run, state, paths, blobs)
    if elsewhere is not None:
        reduced = elsewhere
    elif secure is None:
        reduced = _plain(run, state, paths, verify, _measures(driver, state.step), codecs)
    else:
        reduced = _secure(run, secure, state, paths, verify, codecs)
    result = StepResult(
        state.step,
        counted,
        reduced.metrics,
        reduced.sums,
        reduced.within,
        Collected(reduced.contributions, blobs, codecs, paths, digests)
        if state.step.reduce is Reduce.COLLECT
        else None,
        {name: slot.reason for name, slot in sorted(state.slots.items()) if name not in paths},
    )
    summariser = _summariser(run, blobs)
    models = ModelStore(blobs, summariser)
    known = run_machine.context(run)
    after = driver.receive(run_machine.driver_state(run, driver), result, models, known)
    model = driver.model(after)
    view = step_view(
        state, now, model if model != run.model else "", reduced.metrics, reduced.figures, summariser.summary()
    )
    if isinstance(driver, Surveying):
        view = msgspec.structs.replace(view, statistics=driver.statistics(after))
    made: tuple[ModelRow, ...] = ()
    if model != run.model:
        round_ = driver.progress(after, known).round if isinstance(driver, Overlapping) else state.step.round
        made = (ModelRow(run.run_id, index, model, round_, len(blobs.open(model)), now),)
    for name in (name for name, released in reduced.figures.items() if STATE_LOST in released):
        about(log, run.run_id, index, name, code="session.state_lost").warning("trained without what it had kept: lost")
    received = runs.Received(index=index, driver=canonical_json(after).decode(), model=model)
    return ReducedStep(received, view, made, reduced.told)


@dataclasses.dataclass(frozen=True, slots=True)
class Reduced:
    """A step's sums and metrics, and the figures of single partners that their policies released."""

    sums: Sums
    metrics: Mapping[str, Metric]
    figures: Mapping[str, Mapping[str, float]]
    told: tuple[SecureTold, ...] = ()
    contributions: Mapping[str, Contribution] = dataclasses.field(default_factory=dict)

    @property
    def within(self) -> float | None:
        """The share of votes for the clip: of the one sum of a plan with noise."""
        return self.told[0].within if len(self.told) == 1 else None


def _measures(driver: Driver, step: Step) -> Callable[[Contribution], Mapping[str, Metric]]:
    """What reads a contribution's metrics: a reply to a program holds its own in its own form."""
    if step.reduce is Reduce.COLLECT and isinstance(driver, Listener):
        return driver.measured
    return lambda contribution: contribution.metrics


def _plain(
    run: runs.Run,
    state: steps.StepState,
    paths: Mapping[str, Path],
    verify: Collection[str],
    measured: Callable[[Contribution], Mapping[str, Metric]],
    codecs: Mapping[str, Codec],
) -> Reduced:
    ordered = sorted(paths, key=lambda name: run.participants[name].key.encode())
    many = len(ordered) > _FEW
    contributions = [
        _spooled(paths[name], name, state.slots[name].digest, verify=name in verify, keep_file=many) for name in ordered
    ]
    figures = {name: item.figures for name, item in zip(ordered, contributions, strict=True)}
    metrics = added_metrics(measured(one) for one in contributions)
    each = dict(zip(ordered, contributions, strict=True))
    sums = SpooledSums(contributions, [codecs.get(name) for name in ordered])
    return Reduced(sums, metrics, figures, contributions=each)


def _secure(
    run: runs.Run,
    inputs: Sequence[SecretSum],
    state: steps.StepState,
    paths: Mapping[str, Path],
    verify: Collection[str],
    codecs: Mapping[str, Codec],
) -> Reduced:
    assert run.plan.secure is not None  # noqa: S101  (its steps have attempts)
    done = [circle.sum(paths, verify) for circle in inputs]
    circles = [sums for sums, _ in done if not isinstance(sums, AimassError)]
    for sums, told in done:
        if isinstance(sums, AimassError):
            # A partner can spoil its circle's sum. Nobody but all of its members can be blamed.
            about(log, run.run_id, state.step.index).error("a secure sum of %s: %s", ", ".join(told.counted), sums)
            if len(done) - len(circles) > run.plan.secure.tolerated:
                raise sums
    robust = run.plan.secure.tolerated and state.step.kind is StepKind.TRAIN
    combined: Sums = robust_circles(circles, run.plan.secure) if robust else CircleSums(circles)
    if codecs:  # masks of one step are one: nothing late goes into a secure sum
        combined = SpreadSums(combined, next(iter(codecs.values())))
    figures = {name: state.slots[name].figures for name in sorted(paths)}
    return Reduced(
        combined, added_metrics(circle.metrics() for circle in circles), figures, tuple(told for _, told in done)
    )


def _codecs(run: runs.Run, state: steps.StepState, paths: Collection[str], blobs: Blobs) -> dict[str, Codec]:
    """How each partner's update is compressed: late ones as the step said that they were asked for."""
    if run.plan.compress is None or state.step.kind is not StepKind.TRAIN:
        return {}
    layout = Blob(blobs.open(run.plan.model)).layout
    found = {name: codec_of(run.plan, state.origin(name), layout) for name in paths}
    return {name: codec for name, codec in found.items() if codec is not None}


def _spooled(path: Path, partner: str, digest: str, *, verify: bool, keep_file: bool) -> Contribution:
    check_spooled(path, f"the contribution of {partner}", digest, verify=verify)
    data = map_file(path, keep_file=keep_file)
    contribution = decode_contribution(Blob(data))
    forget_pages(np.frombuffer(data, np.uint8))  # around its header and figures the kernel has mapped some of the rest
    return contribution


def _summariser(run: runs.Run, blobs: Blobs) -> Summariser:
    """Drift is counted from the plan's model; the last change from the model before the present one, if it is kept."""
    before = run.model_before
    return Summariser(
        Blob(blobs.open(run.plan.model)), Blob(blobs.open(before)) if before and blobs.has(before) else None
    )
