"""What the vectors of noise hold, computed anew: the file must say the same (tests/vectors/dp/noise.json)."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Any

import numpy as np

from aimass.privacy.dp.distributed import encode
from aimass.privacy.dp.noise_plan import Circle, NoiseKind, NoisePlan, Setting, plan_noise
from aimass.privacy.dp.rotation import rotate, rotation_key
from aimass.privacy.dp.sampler import discrete_gaussian, skellam
from aimass.privacy.dp.streams import NoiseStream
from aimass.privacy.dp.tables import Table, gaussian_table, poisson_table

KEY = bytes(range(16))
RUN, MODEL = bytes(range(16)), hashlib.sha256(b"model").digest()
VARIANCES = ("1/4", "16", "61/3", "4096", "4503599627370496")


def noise() -> dict[str, Any]:
    """Tables, draws, rotation, plans and encodings; floats as C99 hexadecimal, keys and digests in hex."""
    rotation = rotation_key(RUN, 7, MODEL)
    return {
        "key": KEY.hex(),
        "gaussian_tables": [_table(variance, gaussian_table(Fraction(variance))) for variance in VARIANCES[:4]],
        "poisson_tables": [_table(mean, poisson_table(Fraction(mean))) for mean in VARIANCES[:4]],
        "gaussian_draws": [_draws(variance, discrete_gaussian) for variance in VARIANCES],
        "skellam_draws": [_draws(variance, skellam) for variance in VARIANCES[:4]],
        "rotation": {
            "run_id": RUN.hex(),
            "round": 7,
            "model_digest": MODEL.hex(),
            "key": rotation.hex(),
            **_rotated(rotation),
        },
        "plans": [_plan(plan) for plan in plans()],
        "encodings": [_encoded(plan, rotation) for plan in plans()[:2]],
    }


def plans() -> list[NoisePlan]:
    """One of each kind, and a row of the golden table."""
    ten = Circle(10, 1, 9)
    return [
        plan_noise(Setting(ten, 5, 18, 5.0), 2.0),
        plan_noise(Setting(ten, 5, 12, 0.5, NoiseKind.SKELLAM), 0.75),
        plan_noise(Setting(Circle(100, 10, 90), 1 << 20, 20, 1.0), 6.3846),
    ]


def _table(parameter: str, table: Table) -> dict[str, Any]:
    entries = table.entries()
    data = b"".join(entry.to_bytes(16, "big") for entry in entries)
    middle = len(entries) // 2
    return {
        "parameter": parameter,
        "first": table.first,
        "entries": len(entries),
        "middle": [f"{entry:032x}" for entry in entries[middle - 1 : middle + 1]],
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _draws(variance: str, sample: Any) -> dict[str, Any]:
    return {"variance": variance, "draws": sample(Fraction(variance), 12, NoiseStream(lambda _: KEY)).tolist()}


def _rotated(key: bytes) -> dict[str, Any]:
    values = np.arange(16, dtype=np.float64)
    rotate(values, 4, key)
    return {"values": "0 to 15", "block": 4, "rotated": [value.hex() for value in values.tolist()]}


def _plan(plan: NoisePlan) -> dict[str, Any]:
    setting, circle = plan.setting, plan.setting.circle
    return {
        "kind": setting.kind.name.lower(),
        "circle": [circle.members, circle.colluders, circle.quorum],
        "count": setting.count,
        "block": setting.block,
        "size": setting.size,
        "bits": setting.bits,
        "clip": setting.clip.hex(),
        "multiplier": plan.multiplier.hex(),
        "scale": plan.scale.hex(),
        "deviation": plan.deviation.hex(),
        "norm_squared": plan.norm_squared,
        "digest": plan.digest.hex(),
    }


def _encoded(plan: NoisePlan, rotation: bytes) -> dict[str, Any]:
    values = np.array([6.0, -8.0, 0.0, 0.0, 0.0])
    lanes = encode(plan, values, rotation, NoiseStream(lambda _: KEY))
    return {"values": values.tolist(), "lanes": lanes.tolist()}
