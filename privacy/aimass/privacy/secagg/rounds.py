"""A step of a plan as a round of secure aggregation: what both sides compute themselves, from plan, step and model.

Whatever the server says of a round must equal this, so nothing in it is taken from a message but the members, and a
clip that the plan lets follow the norms.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Final

from aimass.privacy.dp.adaptive import Adaptive, update_multiplier
from aimass.privacy.dp.noise_plan import Circle, NoiseKind, NoisePlan, Setting, plan_noise
from aimass.privacy.dp.rotation import rotation_key
from aimass.privacy.secagg.client_state import Expected
from aimass.privacy.secagg.context import RoundContext, purpose_id
from aimass.privacy.secagg.faults import Code, fail
from aimass.privacy.secagg.lane_plan import lane_bits
from aimass.privacy.secagg.lanes import Groups, LanePlan, Quantisation, plan_lanes
from aimass.privacy.secagg.parameters import Profile
from aimass.proto.errors import BadInput
from aimass.proto.methods import STEPS
from aimass.proto.plan import DistributedNoise, Plan, SecureSettings
from aimass.proto.step import Step, StepKind
from aimass.proto.values import canonical_json

__all__ = [
    "adaptive_of",
    "context_of",
    "expected_of",
    "lanes_of",
    "noise_of",
    "noise_setting",
    "number_of",
    "ppm",
    "profile_of",
    "purpose_of",
    "rotation_of",
]

_KINDS: Final = {"discrete-gaussian": NoiseKind.DISCRETE_GAUSSIAN, "skellam": NoiseKind.SKELLAM}


def profile_of(settings: SecureSettings) -> Profile:
    """What the plan says that the server may do."""
    return Profile.MALICIOUS if settings.profile == "malicious" else Profile.HBC


def ppm(share: float) -> int:
    """A share in parts per million."""
    return round(share * 1_000_000)


def purpose_of(plan: Plan, step: Step) -> str:
    """Why a model is summed over: rounds of different purposes are sequences of their own.

    An analysis is named with the digest of its options, so another analysis of the same name is another purpose.
    """
    if step.kind in (StepKind.TRAIN, StepKind.EVALUATE):
        return f"{step.kind}:{step.purpose}".rstrip(":")
    stages = [stage for stage in plan.stages if stage.driver == step.purpose]
    about = canonical_json({"kind": step.kind, "purpose": step.purpose, "stages": stages})
    return f"analyse:{hashlib.sha256(about).hexdigest()}"


def adaptive_of(settings: SecureSettings) -> Adaptive | None:
    """By which rule the clip of a plan's noise follows the norms; None where it stays."""
    noise = settings.noise
    if noise is None or noise.adaptive is None:
        return None
    return Adaptive(_circle(settings, noise), noise.clip, noise.adaptive.quantile, noise.adaptive.rate)


def _circle(settings: SecureSettings, noise: DistributedNoise) -> Circle:
    return Circle.of(noise.members, ppm(settings.colluders), settings.min_cohort)


def noise_of(settings: SecureSettings, elements: int, clip: float = 0.0) -> NoisePlan | None:
    """The constants of a plan's noise on updates of so many elements; None where the plan has no noise.

    They are made for the plan's largest cohort, whoever takes part. `clip` is a step's own, and changes the scale
    alone; a plan whose clip stays has steps without one. Raises `FaultError` E_POLICY for noise that would not be what
    is accounted, E_PLAN for numbers without a plan.
    """
    setting = noise_setting(settings, elements, clip)
    if settings.noise is None or setting is None:
        return None
    return plan_noise(setting, _multiplier(adaptive_of(settings), settings.noise.multiplier))


def noise_setting(settings: SecureSettings, elements: int, clip: float = 0.0) -> Setting | None:
    """What a plan says of its noise but for the multiplier: what one is calibrated for."""
    noise = settings.noise
    if noise is None:
        return None
    _check_clip(adaptive_of(settings), clip)
    bits = lane_bits(settings.bits, noise.members)
    return Setting(_circle(settings, noise), elements, bits, clip or noise.clip, _KINDS[noise.kind])


def _check_clip(rule: Adaptive | None, clip: float) -> None:
    least, most = rule.bounds if rule else (0.0, 0.0)
    if clip and not least <= clip <= most:
        raise fail(Code.PLAN, "a step has a clip that the plan does not leave open", clip, f"{least:g} to {most:g}")


def _multiplier(rule: Adaptive | None, multiplier: float) -> float:
    """Of the update's noise: where votes are beside it, it is larger for what these cost."""
    if rule is None:
        return multiplier
    try:
        return update_multiplier(rule, multiplier)
    except BadInput as error:
        raise fail(Code.PLAN, error.what, error.value, error.limit) from error


def lanes_of(plan: Plan, step: Step, groups: Groups) -> LanePlan:
    """The lanes of the step's contributions, whose tensors are `groups`.

    Their width is for all who are asked, or for all that the noise is made for, so what a partner has encoded fits
    every attempt of the step. Raises `FaultError` as `plan_lanes` and `noise_of` do.
    """
    secure = plan.secure
    assert secure is not None  # noqa: S101  (asked of secure plans alone)
    updates, members = step.kind is StepKind.TRAIN, len(step.participants)
    elements = sum(math.prod(shape) for tensors in groups.values() for _, shape in tensors.values())
    noise = noise_of(secure, elements, step.clip) if updates else None
    adaptive = adaptive_of(secure) if updates else None
    if noise is not None and members > noise.setting.circle.members:
        raise fail(
            Code.PLAN, "a step asks more partners than its noise is made for", members, noise.setting.circle.members
        )
    quantisation = Quantisation(
        members=noise.setting.circle.members if noise else members,
        bits=secure.bits,
        clip=secure.clip,
        max_weight=1 if plan.train.weight == "one" and updates else secure.max_weight,
        real_bound=secure.real_bound,
    )
    return plan_lanes(
        groups, secure.metrics, quantisation, updates=updates, exact=(STEPS,), noise=noise, adaptive=adaptive
    )


def number_of(attempt: int) -> int:
    """An attempt as steps, messages, uploads and people count it, from one; contexts and records count from zero."""
    return attempt + 1


def _model_digest(step: Step) -> bytes:
    """The model's own digest, or that of the digests of all inputs in order."""
    digests = [bytes.fromhex(digest) for digest in step.inputs]
    return digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()


def rotation_of(plan: Plan, run_id: str, step: Step) -> bytes:
    """The key by which noised updates are rotated: public, of the step, and so the same in all of its attempts."""
    return rotation_key(_round_run(plan, run_id, step), step.index, _model_digest(step))


def _round_run(plan: Plan, run_id: str, step: Step) -> bytes:
    return purpose_id(bytes.fromhex(run_id), purpose_of(plan, step))


def context_of(
    plan: Plan,
    plan_digest: str,
    run_id: str,
    step: Step,
    attempt: int,
    ids: Sequence[int],
    roster_digest: str,
    server_key: bytes,
    lanes: LanePlan,
) -> RoundContext:
    """The context of one attempt, as the server signs it."""
    secure = plan.secure
    assert secure is not None  # noqa: S101  (asked of secure plans alone)
    return RoundContext(
        run_id=_round_run(plan, run_id, step),
        round=step.index,
        attempt=attempt,
        model_digest=_model_digest(step),
        plan_digest=bytes.fromhex(plan_digest),
        layout_digest=lanes.digest,
        roster_digest=bytes.fromhex(roster_digest),
        server_key=server_key,
        profile=profile_of(secure),
        gamma_ppm=ppm(secure.colluders),
        delta_ppm=ppm(secure.dropouts),
        min_cohort=secure.min_cohort,
        bits=lanes.bits,
        lanes=lanes.lanes,
        clip=lanes.clip,
        scale=lanes.scale,
        dp_digest=lanes.noise_digest,
        ids=tuple(sorted(ids)),
    )


def expected_of(plan: Plan, plan_digest: str, run_id: str, step: Step, lanes: LanePlan) -> Expected:
    """What a partner holds the server's context against."""
    assert plan.secure is not None  # noqa: S101  (asked of secure plans alone)
    return Expected(
        run_id=_round_run(plan, run_id, step),
        round=step.index,
        model_digest=_model_digest(step),
        plan_digest=bytes.fromhex(plan_digest),
        layout_digest=lanes.digest,
        dp_digest=lanes.noise_digest,
        lanes=lanes.lanes,
        largest=lanes.largest,
        profile=profile_of(plan.secure),
        gamma_ppm=ppm(plan.secure.colluders),
        delta_ppm=ppm(plan.secure.dropouts),
        min_cohort=plan.secure.min_cohort,
    )
