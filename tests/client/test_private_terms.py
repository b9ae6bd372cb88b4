"""What a private training costs: the accountant is told a little less noise than was added, and that is nearly free."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from aimass.client.private_terms import ROUNDING, grid_noise, trained_elements, training_event
from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import PoissonGaussian, Relation, Terms, TruncatedPoissonGaussian, Unit
from aimass.proto.plan import PrivacySettings
from aimass.proto.tensors import Array, Blob, encode_numpy

PRIVACY = PrivacySettings(noise_multiplier=1.1, clip=1.0, sampling_rate=256 / 60_000, delta=1e-5, divisor=256.0)
TERMS = Terms(unit=Unit.EXAMPLE, relation=Relation.ADD_OR_REMOVE_ONE, delta=PRIVACY.delta)


def test_the_rounding_costs_a_thousandth_of_the_noise_and_little_of_the_budget() -> None:
    event = training_event(PRIVACY, 60 * 234, 1_663_370, 60_000)
    assert isinstance(event.mechanism, PoissonGaussian)
    assert 1.1 / (1 + 2 * ROUNDING) < event.mechanism.sigma < 1.1
    assert event.mechanism.q == PRIVACY.sampling_rate
    assert 2.37964 < Accountant().figure(TERMS, [event]).epsilon < 2.37964 * 1.003  # SECAGG section 9, row A


def test_a_cut_batch_is_accounted_as_one_of_the_partners_rows() -> None:
    capped = msgspec.structs.replace(PRIVACY, cap_deviations=5.0)
    event = training_event(capped, 60 * 234, 1_663_370, 60_000)
    assert event.mechanism == TruncatedPoissonGaussian(
        q=PRIVACY.sampling_rate, sigma=grid_noise(PRIVACY, 1_663_370).accounted, records=60_000, cap=336
    )
    assert Accountant().figure(TERMS, [event]).epsilon == pytest.approx(2.37964, rel=3e-3)


def test_what_a_daemon_counts_of_a_model_is_what_training_may_change() -> None:
    model: dict[str, Array] = {
        "w": np.zeros((3, 4), np.float32),
        "preprocess.mean": np.zeros(2),
        "n": np.zeros(1, np.int64),
        "b": np.zeros(5),
    }
    assert trained_elements(Blob(encode_numpy(model)).layout) == 17
