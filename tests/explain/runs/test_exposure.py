"""What a server could learn: as the plan says, and with no word more than was shown to it."""

from __future__ import annotations

import msgspec

from aimass.explain.runs.exposure import Exposed, exposure
from aimass.proto.plan import Plan
from aimass.proto.plan_settings import Cohort, MetricNoise, SecureSettings
from aimass.proto.views import SlotState
from tests.explain.runs import made

SECURE = msgspec.structs.replace(
    made.plan(), cohort=Cohort(quorum=100), secure=SecureSettings(min_cohort=5, metrics=("auc",))
)


def by_name(of: Plan, *steps: object, **slots: SlotState) -> dict[str, Exposed]:
    told = [made.step(0, 1, slots=slots or {"a": SlotState.COUNTED}), *steps]
    return {one.what: one for one in exposure(made.run(told, of))}  # type: ignore[arg-type]


def test_a_plain_sum_shows_the_server_every_update_and_every_metric() -> None:
    found = by_name(made.plan())
    assert (found["updates"].guarded, found["metrics"].guarded, found["the model itself"].guarded) == ("no", "no", "no")
    assert "sees each partner's update by itself" in found["updates"].says


def test_a_secure_sum_shows_sums_of_its_smallest_cohort_and_who_may_collude() -> None:
    found = by_name(SECURE)
    assert found["updates"].guarded == found["metrics"].guarded == "yes"
    assert "at least 5 partners" in found["updates"].says
    assert "10 % of the partners work together" in found["updates"].says
    assert "even one that lies" in found["updates"].says
    honest = msgspec.structs.replace(SECURE, secure=SecureSettings(profile="hbc"))
    assert "if it follows the protocol" in by_name(honest)["updates"].says


def test_several_groups_are_several_sums() -> None:
    grouped = SecureSettings(groups=3, rule="median", tolerated=1)
    assert "3 sums a step" in by_name(msgspec.structs.replace(SECURE, secure=grouped))["updates"].says


def test_noise_at_the_partner_guards_updates_in_part_and_the_model_whole() -> None:
    found = by_name(made.PRIVATE)
    assert found["updates"].guarded == "partly"
    assert found["the model itself"].guarded == "yes"
    assert "epsilon" in found["the model itself"].says
    assert "at delta 1e-05 for one example" in found["the model itself"].says
    assert found["metrics"].guarded == "no"
    noised = msgspec.structs.replace(
        made.PRIVATE, privacy=msgspec.structs.replace(made.PRIVACY, metrics=MetricNoise(noise_multiplier=5.0))
    )
    assert by_name(noised)["metrics"].guarded == "partly"


def test_an_offline_run_asked_no_partner_and_its_rows_were_at_hand() -> None:
    rows, model = exposure(made.run([made.step(0, 1, slots={})], made.PRIVATE, kind="offline"))
    assert (rows.what, rows.guarded) == ("the rows", "no")
    assert "asked no partner" in rows.says
    assert model == by_name(made.PRIVATE)["the model itself"]


def test_whose_figures_are_shown_and_who_was_away_is_named_and_of_very_many_counted() -> None:
    shown = made.evaluated(1, 1, {"auc": 0.8}, a=0.7, b=0.9)
    found = by_name(SECURE, shown, a=SlotState.COUNTED, c=SlotState.LATE)
    assert found["single partners' figures"].says == "a and b let the server show auc of their own."
    assert found["who took part"].says == (
        "The server knows that 3 partners were asked, when each answered, and that c once did not."
    )
    assert by_name(SECURE)["who took part"].says.endswith("1 partner was asked, and when each answered.")
    many = {f"p{place:03}": SlotState.FAILED for place in range(1000)}
    assert "992 more partners" in by_name(SECURE, **many)["who took part"].says
    assert by_name(SECURE)["single partners' figures"].guarded == "yes"
