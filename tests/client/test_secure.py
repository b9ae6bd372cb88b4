"""Secure sums through the daemon's shells: exact, whoever is killed when, and nothing that is refused is joined."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from tests.support.secure_circle import NAMES, circle


def test_a_step_of_four_partners_is_summed_exactly_and_nothing_plain_is_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with circle(tmp_path) as hub:
            await hub.open()
            hub.form()
            await hub.summed()
            assert hub.survivors == NAMES
            assert hub.exact()
            mean = hub.sums.total("update", "w") / hub.sums.weight("update")
            np.testing.assert_allclose(mean, hub.mean(), atol=1e-3)
            assert hub.sums.weight("update") == 100.0

    asyncio.run(scenario())
