"""Masks over three daemons that hold tiles: approved by each, asked for by an analyst, equal to all tiles in one place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scripts.demos.house import CommandFailed, House

from aimass.explain.federated.mask_scores import FederatedMasks
from aimass.explain.segviz import MasksResult
from aimass.explain.segviz.overlap import OVERLAP, Overlap
from aimass.proto.analysis import locate_analysis
from aimass.proto.api import Federation
from tests.support.datasets import dataset
from tests.support.tiles import NUCLEI_PLAN

OWNERS = ("p0001", "p0002", "p0003")
ADMITTED = """
[[tasks]]
name = "masks"
digest = "{digest}"
kind = "analysis"
"""
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Owners of 12 tiles each, of which about half are held out, and the model that they trained together."""
    dataset("nuclei")
    folder = tmp_path_factory.mktemp("federation")
    with House(folder) as house:
        house.run(
            "data", "partition", "nuclei", "--task", "nuclei", "--split", "column:owner", "--held-out", "0.5",
            "--seed", "4", "--out", "shards",
        )  # fmt: skip
        house.hold("nuclei", "nuclei", folder / "shards")
        for owner in OWNERS:
            permit_masks(house, owner)
            house.start_partner(owner)
        (folder / "train.toml").write_text(NUCLEI_PLAN)
        with Federation.open(folder / "scientist") as federation:
            view = federation.submit(folder / "train.toml").wait()
            assert view.summary.state == "finished", view.summary.reason
            federation.export(view.summary.model, folder / "nuclei.safetensors")
        yield house


def permit_masks(house: House, owner: str) -> None:
    """As the owner would write it: this analysis, also in plain sums."""
    path = house.folder / owner / "policy.toml"
    text = path.read_text().replace("[explain]\nplain = false", "[explain]\nplain = true")
    text = text.replace('analyses = ["statistics"]', 'analyses = ["explain"]')
    path.write_text(text + ADMITTED.format(digest=locate_analysis("masks").digest))


@pytest.fixture(scope="module")
def pooled(house: House) -> MasksResult:
    """All held-out tiles in one place, as only a test may have them."""
    house.run(
        "explain", "masks", "nuclei.safetensors", "--task", "nuclei", "--rows", "shards", "--out", "pooled",
        "--formats", "json",
    )  # fmt: skip
    return MasksResult.from_json((house.folder / "pooled/masks.json").read_bytes())


def asked(house: House, out: str, *more: str) -> FederatedMasks:
    """What an analyst types, and the answer."""
    told = house.run(
        "explain", "federated", "masks", "nuclei.safetensors", "--task", "nuclei", "--as", "scientist", "--out", out,
        "--formats", "json,csv,html", *more,
    )  # fmt: skip
    found = FederatedMasks.from_json((house.folder / out / "federated-masks.json").read_bytes())
    assert told["says"] == list(found.describe())
    return found


@pytest.mark.parametrize("sums", ["secure", "plain"])
def test_what_owners_tell_of_their_masks_is_what_all_tiles_in_one_place_tell(
    house: House, pooled: MasksResult, sums: str
) -> None:
    found = asked(house, sums, *(["--plain"] if sums == "plain" else []))
    whole, at = pooled.masks, np.isin(pooled.thresholds.at, found.at)
    assert found.images == len(whole.each) == found.lineage.rows
    assert found.lineage.partners == len(OWNERS)
    np.testing.assert_array_equal(found.pixels, whole.pixels)
    np.testing.assert_array_equal(found.figures, Overlap(*whole.pixels.T).figures())
    np.testing.assert_array_equal(found.moved, pooled.thresholds.pixels[at])
    assert found.figures[1, OVERLAP.index("dice")] > 0.7
    assert (sums == "secure") is any("Secure aggregation rounded" in line for line in found.caveats)


def test_of_owners_with_few_tiles_nothing_is_told_and_that_is_said(house: House) -> None:
    with pytest.raises(CommandFailed, match=r"no row was counted.*12 rows"):
        asked(house, "few", "--least-count", "12")
