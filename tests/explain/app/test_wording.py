"""Names of others never act as markup; figures are short and have units."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.explain.app.wording import ago, amount, figure, in_cell, label, moment, plain, share, size, with_code


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[a](javascript:b)",
        "**bold**",
        "$x^2$",
        ":red[x]",
        ":material/home:",
        "a | b",
        "# x",
        "`c`",
    ],
)
def test_no_text_of_others_is_markup(text: str) -> None:
    said = plain(text)
    for place, letter in enumerate(said):
        if letter in "`*_{}[]()#|:$<>!&~":
            assert said[place - 1] == "\\"


@given(st.text())
def test_what_is_said_is_one_line_with_the_same_letters(text: str) -> None:
    said = plain(text)
    assert "\n" not in said
    assert [letter for letter in said if letter.isalnum()] == [letter for letter in text if letter.isalnum()]


def test_figures_have_sensible_digits() -> None:
    assert [figure(0.123456), figure(1234567.0), figure(1234.5), figure(None), figure(math.nan), figure(3.0)] == [
        "0.123", "1,234,567", "1,234", "–", "–", "3",
    ]  # fmt: skip
    assert [share(0.8731), share(None)] == ["87.3 %", "–"]
    assert [size(0), size(1500), size(2_340_000_000), size(None)] == ["0 B", "1.5 kB", "2.34 GB", "–"]
    assert [ago(0.25), ago(75), ago(3 * 3600), ago(3 * 86400)] == ["0.25 s", "1.2 min", "3 h", "3 days"]
    assert [amount(1, "run"), amount(1200, "run")] == ["1 run", "1,200 runs"]
    assert moment(0.0) == "1970-01-01 00:00:00 UTC"


@pytest.mark.parametrize(
    "text", ["age (years)", "oldpeak", "bill_length_mm", "thalch (1/min)", "beta-blocker", "share = 3 %"]
)
def test_labels_are_spoken_as_they_are_written(text: str) -> None:
    assert label(text) == text


@pytest.mark.parametrize(
    "text",
    ["_x_", "__x__", "[a](b)", "www.evil.example", ":red[x]", "a~~b~~", "<b>", "$x$", "- a", "1. a", "a*b*", "a\nb"],
)
def test_labels_of_others_are_no_markup(text: str) -> None:
    assert label(text) == plain(text) != text


def test_a_figure_and_its_per_cent_stay_on_one_line() -> None:
    assert plain("13 % to 48 % of a % b") == "13\u00a0% to 48\u00a0% of a % b"


def test_what_is_to_be_typed_is_shown_as_such_and_nothing_of_it_is_markup() -> None:
    assert with_code("Type `aimass up` or set `start_s`.") == r"Type `aimass up` or set `start_s`\."
    assert with_code("`a <b> $x$ **y**` 13 % *z*") == "`a <b> $x$ **y**` 13\u00a0% \\*z\\*"
    assert in_cell("Raise `start_s`.") == "Raise start_s."


@pytest.mark.parametrize(
    "text", ["one ` alone", "``", "`` `a` ``", "`a``b`", "` `", "```\nx\n```", "`a` and ` b", "none"]
)
def test_backticks_that_are_no_pairs_around_something_are_letters(text: str) -> None:
    assert with_code(text) == plain(text)


@given(st.text())
def test_outside_of_code_the_same_letters_are_held_back(text: str) -> None:
    said = with_code(text)
    assert "\n" not in said
    parts = said.split("`") if said != plain(text) else [said]
    for outside in parts[::2]:
        assert outside == plain(text) or not any(
            letter in "*_{}[]()#|:$<>!&~" and (not place or outside[place - 1] != "\\")
            for place, letter in enumerate(outside)
        )
