"""What every analysis has: its place, its rows' keys, and sums that are what its plan says."""

import subprocess
import sys

import numpy as np
import pytest

from aimass.proto.analysis import Analysis, check_sums, installed_analyses, load_analysis, locate_analysis, row_keys
from aimass.proto.asks import Cells, Phase
from aimass.proto.errors import BadInput, IntegrityError, NotFound
from aimass.proto.rows import Batch
from aimass.proto.task import digest_folder

PHASE = Phase(
    cells=(Cells(name="counts", shape=(2,), counts=True), Cells(name="sums", shape=(2, 3), of="counts", row_norm=1.0))
)


def batch(count: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    numbers, categories = rng.normal(size=(count, 3)).astype(np.float32), rng.integers(-1, 3, (count, 2))
    return Batch(numbers, categories, None, rng.integers(0, 2, count))


def test_a_row_has_the_same_key_wherever_it_lies() -> None:
    rows = batch(20)
    keys, order = row_keys(rows), np.random.default_rng(1).permutation(20)
    np.testing.assert_array_equal(row_keys(rows.take(order)), keys[order])
    assert len(set(keys.tolist())) == 20
    for column in ("numbers", "categories", "labels"):
        other = rows.take(slice(None))
        changed = np.array(getattr(other, column))
        changed.reshape(20, -1)[3, -1] += 1
        object.__setattr__(other, column, changed)
        assert np.flatnonzero(row_keys(other) != keys).tolist() == [3]


def test_an_image_and_a_text_are_part_of_a_key() -> None:
    images = np.zeros((2, 4, 4), np.uint8)
    images[1, 0, 0] = 1
    plain = Batch(np.zeros((2, 0), np.float32), np.zeros((2, 0), np.int64), images, np.zeros(2, np.int64))
    assert len(set(row_keys(plain).tolist())) == 2
    texts = np.array(["a", "b"], object)
    said = Batch(plain.numbers, plain.categories, None, plain.labels, texts)
    assert len(set(row_keys(said).tolist())) == 2
    assert len(row_keys(plain.take(slice(0, 0)))) == 0


def good() -> dict[str, np.ndarray]:
    return {"counts": np.array([2.0, 0.0]), "sums": np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])}


def test_sums_that_are_what_the_plan_says_pass() -> None:
    check_sums(PHASE, good())


@pytest.mark.parametrize(
    "wrong",
    [
        {"counts": np.array([2.5, 0.0])},
        {"counts": np.array([-1.0, 0.0])},
        {"counts": np.array([2.0, 0.0, 0.0])},
        {"counts": np.array([2, 0])},
        {"sums": np.full((2, 3), np.nan)},
        {"sums": np.ones((2, 3))},
        {"more": np.ones(1)},
    ],
)
def test_other_tensors_counts_that_are_none_and_sums_of_no_row_are_refused(wrong: dict[str, np.ndarray]) -> None:
    with pytest.raises(BadInput, match="the analysis"):
        check_sums(PHASE, good() | wrong)


def test_analyses_are_found_by_entry_point_and_hashed_with_their_folder() -> None:
    source = locate_analysis("confusion")
    assert source.digest == digest_folder(source.folder)
    assert source.folder.name == "federated"
    assert isinstance(load_analysis(source), Analysis)
    assert load_analysis(source).name == "confusion"
    assert "confusion" in installed_analyses()
    with pytest.raises(NotFound, match="no such analysis"):
        locate_analysis("absent")


def test_an_analysis_whose_files_changed_is_not_loaded() -> None:
    import dataclasses

    with pytest.raises(IntegrityError, match="have changed"):
        load_analysis(dataclasses.replace(locate_analysis("confusion"), digest="0" * 64))


def test_a_server_imports_every_analysis_without_torch_charts_or_tables() -> None:
    absent = (
        "torch",
        "altair",
        "pyarrow",
        "matplotlib",
        "captum",
        "optuna",
        "sklearn",
        "aimass.server",
        "aimass.client",
    )
    script = (
        "import sys\nfrom aimass.proto.analysis import installed_analyses, load_analysis, locate_analysis\n"
        f"for name in {absent!r}: sys.modules[name] = None\n"
        "for name in installed_analyses(): assert load_analysis(locate_analysis(name)).name == name\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
