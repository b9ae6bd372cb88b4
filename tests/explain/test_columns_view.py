"""What columns hold, drawn from a manifest's counts alone."""

from __future__ import annotations

import msgspec
import numpy as np

from aimass.explain.charts.picture import Band, Bars
from aimass.explain.columns_view import ColumnsView, columns_view
from aimass.proto.column_statistics import CategoryStatistics, NumberStatistics, TextStatistics
from tests.support.stores import manifest_of, shard_of

MANIFEST = manifest_of("t", 1, [shard_of(1, b"a"), shard_of(2, b"b")])


def test_numbers_are_a_histogram_over_the_schemas_range_and_categories_bars() -> None:
    found = columns_view(MANIFEST)
    age, label = found.picture().panels
    (band,) = age.layers
    assert isinstance(band, Band)
    np.testing.assert_array_equal(band.x, [0, 60, 60, 120])
    np.testing.assert_array_equal(band.high, [4, 4, 0, 0])
    (bars,) = label.layers
    assert isinstance(bars, Bars)
    np.testing.assert_array_equal(bars.end, [4])
    assert found.lineage.data == "t@1"
    assert "y holds one value alone." in found.describe()
    assert ColumnsView.from_json(found.to_json()) == found
    assert found.to_png().startswith(b"\x89PNG")


def test_missing_values_and_rare_ones_are_told() -> None:
    many = CategoryStatistics(
        column="y", present=4, missing=0, counts={f"v{place:02}": 40 - place for place in range(20)}
    )
    age = NumberStatistics(
        column="age", present=0, missing=4, minimum=None, maximum=None, mean=0.0, squares=0.0, counts=(0, 0)
    )
    text = TextStatistics(column="note", present=4, shortest=1, longest=9, characters=20)
    found = columns_view(msgspec.structs.replace(MANIFEST, statistics=(age, many, text)))
    assert found.describe()[0] == "age has no value in 4 of 4 rows (100 %)."
    assert found.columns[1].values[-1] == "8 others"
    assert sum(found.columns[1].counts) == sum(many.counts.values())
    assert found.to_columns()["mean"] == [None, None, None]
    assert len(found.picture().panels) == 2
