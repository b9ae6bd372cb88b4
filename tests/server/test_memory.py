"""What a sum keeps in memory, measured in a process of its own: all that is resident, mapped files too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aimass.client.compressing import compressed
from aimass.proto.compression import Codec, Compress
from aimass.proto.contribution import Contribution, Group
from aimass.proto.durable import UNINTERRUPTED, write_parts
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import blob_parts

_MEGABYTES = 64
_REDUCE = """
import json, sys
from pathlib import Path
from aimass.proto.compression import Codec, Compress
from aimass.proto.contribution import Limits, decode_contribution
from aimass.proto.pages import PartReader
from aimass.proto.sent import Sent, check_sent
from aimass.proto.storage import FileBlobs, map_file
from aimass.proto.tensors import Blob
from aimass.server.aggregation.models import ModelStore
from aimass.server.aggregation.robust import RobustSums, Singles
from aimass.server.aggregation.sums import SpooledSums
from aimass.server.aggregation.summary import Summariser
from aimass.server.drivers.moments import moments_after, stepped
from aimass.server.drivers.optimisers import ALGORITHMS

def peak():
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

folder, model, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
blobs, before, small = FileBlobs(folder / "blobs"), peak(), sys.argv[7]
held = [decode_contribution(Blob(map_file(folder / f"spool-{small}{place}", keep_file=True))) for place in range(count)]
codec = Codec(Compress(quantise="int8"), bytes(32), Blob(blobs.open(model)).layout.shapes()) if small else None
for contribution in held:
    check_sent(Sent(contribution, codec), None, Limits(), PartReader())
rule, made, moments = ALGORITHMS[sys.argv[4]](rounds=2), model, ""
sums = SpooledSums(held, [codec] * count) if sys.argv[6] == "mean" else RobustSums(Singles(held), sys.argv[6], 1)

first = Blob(blobs.open(model))
for _ in range(int(sys.argv[5])):
    models = ModelStore(blobs, Summariser(first, first))
    moments = moments_after(rule, made, moments, sums, models)
    made = stepped(rule, made, moments, sums, models)
print(json.dumps([made, peak() - before]))
"""


@pytest.fixture(scope="module")
def spooled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A model of 64 MB and eight contributions to it."""
    folder = tmp_path_factory.mktemp("sum")
    elements = _MEGABYTES * 1_000_000 // 4
    held = {"w": np.ones(elements - 1000, np.float32), "b": np.ones(1000, np.float32)}
    model = FileBlobs(folder / "blobs").put(blob_parts(held)[1])
    for index in range(8):
        made = Contribution({"update": Group(1.0 + index, held)}, {}, {})
        write_parts(folder / f"spool-{index}", made.parts(), UNINTERRUPTED, "test", synced=False)
        codec = Codec(
            Compress(quantise="int8"), bytes(32), {name: ("F32", array.shape) for name, array in held.items()}
        )
        small, _ = compressed(codec, made, {}, bytes(32))
        write_parts(folder / f"spool-small{index}", small.parts(), UNINTERRUPTED, "test", synced=False)
    return folder, model


def _peak(
    spooled: tuple[Path, str],
    count: int,
    algorithm: str = "fedavg",
    rounds: int = 1,
    robust: str = "mean",
    form: str = "",
) -> float:
    """Most MB that summing so many contributions added to what the process had before."""
    folder, model = spooled
    done = subprocess.run(
        [sys.executable, "-c", _REDUCE, str(folder), model, str(count), algorithm, str(rounds), robust, form],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made, peak = json.loads(done.stdout)
    if algorithm == "fedavg":
        after = FileBlobs(folder / "blobs").open(made)
        np.testing.assert_allclose(np.frombuffer(after[-4000:], np.float32), 2.0, rtol=1e-6 if form else 0)
    return float(peak) / 1e6


def test_a_sum_of_many_large_contributions_takes_less_than_two_models_and_no_more_than_one_of_two(
    spooled: tuple[Path, str],
) -> None:
    two, eight = _peak(spooled, 2), _peak(spooled, 8)
    assert eight < 2 * _MEGABYTES + 64  # 8 contributions, the model thrice and the new one are 768 MB
    assert eight < two + _MEGABYTES / 2


def test_compressed_updates_are_undone_in_no_more_memory_than_others_are_added(spooled: tuple[Path, str]) -> None:
    two, eight = _peak(spooled, 2, form="small"), _peak(spooled, 8, form="small")
    assert eight < 2 * _MEGABYTES + 64
    assert eight < two + _MEGABYTES / 2


def test_a_server_optimiser_has_neither_its_moments_nor_the_model_in_memory(spooled: tuple[Path, str]) -> None:
    assert _peak(spooled, 2, "fedadam", rounds=2) < 2 * _MEGABYTES  # which its moments alone have


@pytest.mark.parametrize("rule", ["median", "geometric-median"])
def test_a_robust_rule_takes_no_more_memory_of_eight_contributions_than_of_five(
    spooled: tuple[Path, str], rule: str
) -> None:
    five, eight = _peak(spooled, 5, robust=rule), _peak(spooled, 8, robust=rule)
    assert eight < 2 * _MEGABYTES + 64  # 8 contributions alone are 512 MB
    assert eight < five + _MEGABYTES / 2
