"""Rules over circles' means, against the same in plain numpy, and moved by liars no further than they say."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from aimass.proto.contribution import Metric
from aimass.proto.plan import SecureSettings
from aimass.server.aggregation.circles import CircleSums, robust_circles
from aimass.server.aggregation.sums import added_metrics
from tests.support.rules import oracle


@dataclasses.dataclass(frozen=True)
class Circle:
    """A circle's sum: the mean of its update times a weight."""

    mean: dict[str, np.ndarray]
    held: float = 1.0
    counters: tuple[str, ...] = ()

    def weight(self, group: str) -> float:
        return self.held

    def forms(self, group: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {name: ("I64" if name in self.counters else "F32", mean.shape) for name, mean in self.mean.items()}

    def tensors(self, group: str) -> tuple[str, ...]:
        return tuple(self.mean)

    def total(self, group: str, tensor: str) -> Any:
        return self.mean[tensor] * self.held

    def part(self, group: str, tensor: str, part: slice) -> Any:
        return self.mean[tensor].reshape(-1)[part] * self.held

    def metrics(self) -> dict[str, Metric]:
        return {"loss": Metric(self.held, 2.0 * self.held)}


RANDOM = np.random.default_rng(7)
HONEST = [Circle({"a": RANDOM.normal(0, 1, (3, 50)), "b": RANDOM.normal(0, 1, 70_000)}, 10.0 + i) for i in range(4)]
LIAR = Circle({"a": np.full((3, 50), 1e9), "b": np.full(70_000, -1e9)}, 1e6)


def rule(name: str, tolerated: int = 1) -> SecureSettings:
    return SecureSettings(rule=name, tolerated=tolerated, groups=2 * tolerated + 1)  # type: ignore[arg-type]


def value(sums: Any, tensor: str) -> np.ndarray:
    return np.asarray(sums.total("update", tensor) / sums.weight("update"))


def test_without_a_rule_the_circles_add_up() -> None:
    sums = CircleSums(HONEST)
    weight = sum(circle.held for circle in HONEST)
    assert sums.weight("update") == weight
    wanted = sum(circle.mean["a"] * circle.held for circle in HONEST) / weight
    np.testing.assert_allclose(value(sums, "a"), wanted, rtol=1e-12)
    np.testing.assert_array_equal(sums.part("update", "b", slice(5, 9)), sums.total("update", "b")[5:9])
    assert added_metrics(circle.metrics() for circle in HONEST)["loss"] == Metric(weight, 2.0 * weight)


def test_the_median_and_the_trimmed_mean_are_those_of_numpy() -> None:
    stacked = np.stack([circle.mean["a"] for circle in (*HONEST, LIAR)])
    np.testing.assert_allclose(
        value(robust_circles([*HONEST, LIAR], rule("median", 2)), "a"), np.median(stacked, axis=0), rtol=1e-12
    )
    kept = np.sort(stacked, axis=0)[1:-1]
    np.testing.assert_allclose(
        value(robust_circles([*HONEST, LIAR], rule("trimmed")), "a"), kept.mean(axis=0), rtol=1e-12
    )


def test_a_clipped_mean_has_no_part_longer_than_the_median_norm() -> None:
    circles = [*HONEST, LIAR]
    norms = [np.sqrt(sum(np.square(mean).sum() for mean in circle.mean.values())) for circle in circles]
    factors = [min(1.0, np.median(norms) / norm) for norm in norms]
    wanted = np.mean([circle.mean["b"] * f for circle, f in zip(circles, factors, strict=True)], axis=0)
    np.testing.assert_allclose(value(robust_circles(circles, rule("clipped", 2)), "b"), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["median", "trimmed"])
def test_as_many_liars_as_are_tolerated_cannot_leave_the_range_of_the_honest(name: str) -> None:
    honest = HONEST[:3]
    low = np.min([circle.mean["b"] for circle in honest], axis=0)
    high = np.max([circle.mean["b"] for circle in honest], axis=0)
    for liars in ([LIAR, LIAR], [LIAR, dataclasses.replace(LIAR, mean={k: -v for k, v in LIAR.mean.items()})]):
        found = value(robust_circles([*honest, *liars], rule(name, 2)), "b")
        assert (found >= low - 1e-9).all()
        assert (found <= high + 1e-9).all()
    assert abs(value(CircleSums([*honest, LIAR]), "b")).max() > 1e8  # what a plain mean does


def test_blocks_are_those_of_the_whole() -> None:
    sums = robust_circles([*HONEST, LIAR], rule("clipped", 2))
    whole = sums.total("update", "b")
    for start in range(0, 70_000, 9_999):
        part = slice(start, start + 9_999)
        np.testing.assert_array_equal(sums.part("update", "b", part), whole[part])


@pytest.mark.parametrize("name", ["krum", "multi-krum", "geometric-median"])
def test_rules_of_whole_updates_look_at_the_circles_means(name: str) -> None:
    circles = [*HONEST, LIAR]
    flat = np.stack([np.concatenate([mean.reshape(-1) for mean in circle.mean.values()]) for circle in circles])
    wanted = oracle(name, flat, 1)
    sums = robust_circles(circles, SecureSettings(rule=name, tolerated=1, groups=5))  # type: ignore[arg-type]
    found = np.concatenate([value(sums, tensor).reshape(-1) for tensor in ("a", "b")])
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-9)


def test_where_circles_were_spoilt_no_more_liars_are_guarded_against_than_the_others_allow() -> None:
    """Two of seven circles were spoilt by the two partners that lie: five honest ones are left, a Krum for one."""
    secure = SecureSettings(rule="krum", tolerated=2, groups=7)
    sums = robust_circles([*HONEST, HONEST[0]], secure)
    one = robust_circles([*HONEST, HONEST[0]], SecureSettings(rule="krum", tolerated=1, groups=5))
    np.testing.assert_array_equal(sums.total("update", "b"), one.total("update", "b"))


def test_a_circles_counters_are_in_no_distance_and_move_by_their_median() -> None:
    counted = [
        Circle({"a": circle.mean["a"], "n": np.array([1e6 * place])}, circle.held, ("n",))
        for place, circle in enumerate((*HONEST, LIAR))
    ]
    sums = robust_circles(counted, SecureSettings(rule="krum", tolerated=1, groups=5))
    bare = robust_circles(
        [Circle({"a": circle.mean["a"]}, circle.held) for circle in counted],
        SecureSettings(rule="krum", tolerated=1, groups=5),
    )
    np.testing.assert_array_equal(sums.total("update", "a"), bare.total("update", "a"))
    assert sums.total("update", "n") == 2e6


@pytest.mark.parametrize(("name", "needed"), [("median", 5), ("krum", 7), ("multi-krum", 7), ("geometric-median", 5)])
def test_a_plan_with_fewer_groups_than_its_rule_needs_is_refused(name: str, needed: int) -> None:
    SecureSettings(rule=name, tolerated=2, groups=needed)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"n = {needed - 1} is less than the {needed} .*'{name}' .* f = 2"):
        SecureSettings(rule=name, tolerated=2, groups=needed - 1)  # type: ignore[arg-type]
