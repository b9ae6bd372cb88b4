"""Secret randomness can be read once, by one process, and never comes from a generator that can be predicted."""

from __future__ import annotations

import copy
import os
import pickle
import re
import secrets
from pathlib import Path

import numpy as np
import pytest

from aimass.privacy.dp import streams
from aimass.privacy.dp.streams import NoiseStream
from aimass.privacy.secagg.masks import stream
from aimass.proto.errors import WrongState
from tests.support.noise import seeded
from tests.support.statistics import chi_square_p

U16 = np.dtype("<u2")


def test_a_stream_goes_on_where_it_was_and_is_aes_ctr_of_its_key() -> None:
    key = secrets.token_bytes(16)
    noise = NoiseStream(lambda size: key[:size])
    parts = [noise.take(3), noise.take(0), noise.take(5)]
    assert np.concatenate(parts).tolist() == stream(key, 8, streams.WORD).tolist()
    assert noise.take(4, U16).tolist() == stream(key, 36, U16)[-4:].tolist()


def test_words_are_uniform() -> None:
    assert chi_square_p(seeded(1).take(1 << 17).tobytes()) > 1e-6


def test_two_streams_share_nothing() -> None:
    one, other = NoiseStream(), NoiseStream()
    assert not (one.take(1000) == other.take(1000)).any()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_stream_cannot_be_had_twice(again: object) -> None:
    with pytest.raises(TypeError, match="used twice"):
        again(NoiseStream())  # type: ignore[operator]


def test_a_stream_says_nothing_of_its_key() -> None:
    noise = NoiseStream(lambda size: b"k" * size)
    assert repr(noise) == str(noise) == "NoiseStream(***)"
    assert not hasattr(noise, "__dict__")
    assert not any("key" in name for name in dir(noise))


def test_a_stream_is_refused_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = seeded(2)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(WrongState, match="fork"):
        noise.take(1)


def test_privacy_has_no_other_randomness() -> None:
    """Neither numpy's nor torch's nor Python's own generators appear in the package."""
    odd = re.compile(
        r"np\.random|numpy\.random|default_rng|torch\.(normal|rand)|\.normal_\(|^\s*(import|from) random\b",
        re.MULTILINE,
    )
    package = Path(streams.__file__).parents[1]
    sources = sorted(package.rglob("*.py"))
    assert len(sources) > 30
    assert [path.name for path in sources if odd.search(path.read_text("utf-8"))] == []
    for line in ("x = np.random.normal()", "import random", "torch.normal(0, 1)", "g.normal_(0, 1)"):
        assert odd.search(line), "the search finds what it is for"
