"""Options become arguments by their fields: defaults, limits and help are said once, beside the option."""

from __future__ import annotations

import argparse

import pytest

from aimass.explain.option_arguments import add_options, options_of
from aimass.proto.errors import BadInput
from tests.support.asked import MeansOptions


def parsed(*arguments: str) -> MeansOptions:
    parser = argparse.ArgumentParser()
    add_options(parser, MeansOptions)
    found = options_of(parser.parse_args(arguments), MeansOptions)
    assert isinstance(found, MeansOptions)
    return found


def test_what_is_not_said_has_its_default() -> None:
    assert parsed() == MeansOptions()


def test_each_kind_of_option_is_read_as_its_type() -> None:
    found = parsed(
        "--times", "3", "--share", "0.5", "--features", "age", "--features", "a, b", "--cuts", "0.1,0.9",
        "--way", "odd", "--labels",
    )  # fmt: skip
    assert found == MeansOptions(times=3, share=0.5, features=("age", "a, b"), cuts=(0.1, 0.9), way="odd", labels=True)
    assert not parsed("--no-labels").labels


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--times", "0"), "times"),
        (("--times", "x"), "times"),
        (("--share", "2"), "share"),
        (("--way", "up"), "way"),
        (("--cuts", "a"), "cuts"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_options_name(arguments: tuple[str, ...], word: str) -> None:
    with pytest.raises(BadInput, match=word):
        parsed(*arguments)


def test_the_help_has_description_and_default() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, MeansOptions)
    told = " ".join(parser.format_help().split())
    assert "--times N how often it is asked, 100 % of the time (2)" in told
    assert "thresholds (0.25,0.5)" in told
    assert "--way {odd,plain}" in told
