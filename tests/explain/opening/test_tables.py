"""An analyst's files become rows: by a task's schema, under names, and never with a cell that does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from aimass.explain.opening import open_rows
from aimass.explain.prim.groups import groups_of
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.manifest import Category, Number, Schema

SCHEMA = Schema(
    name="ill/1",
    columns=(
        Number(name="age", minimum=0, maximum=120, unit="years"),
        Category(name="sex", values=("f", "m")),
    ),
    label=Category(name="ill", values=("no", "yes"), required=True),
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "north.csv").write_text("age,sex,ill,year\n30,f,no,1990\n,m,yes,1991\n")
    table = pa.table(
        {"age": [50.0, 60.0, 70.0], "sex": ["m", None, "f"], "ill": ["yes", "no", "no"], "year": [1, 2, 3]}
    )
    parquet.write_table(table, tmp_path / "south.parquet")
    return tmp_path


def test_files_of_both_formats_are_joined_and_each_row_knows_its_file(files: Path) -> None:
    rows = open_rows([f"basel={files / 'north.csv'}", str(files / "south.parquet")], SCHEMA, held_out=True)
    np.testing.assert_array_equal(rows.values, [[30, 0], [np.nan, 1], [50, 1], [60, np.nan], [70, 0]])
    assert rows.beside["partner"].tolist() == ["basel", "basel", "south", "south", "south"]
    assert rows.labels is not None
    assert rows.labels.tolist() == [0, 1, 1, 0, 0]
    assert (rows.name, rows.held_out, rows.features[0].unit) == ("basel + south", True, "years")


def test_a_folder_means_its_files_and_one_file_needs_no_partner(files: Path) -> None:
    assert set(open_rows([str(files)], SCHEMA).beside["partner"]) == {"north", "south"}
    assert not open_rows([str(files / "north.csv")], SCHEMA).beside


def test_a_set_that_was_fetched_is_named_by_its_name(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMASS_CACHE", str(files / "cache"))
    with pytest.raises(NotFound, match="aimass data get"):
        open_rows(["heart"], SCHEMA)
    (files / "cache/data").mkdir(parents=True)
    (files / "cache/data/heart").mkdir()
    (files / "north.csv").rename(files / "cache/data/heart/north.csv")
    assert open_rows(["heart"], SCHEMA).name == "north"


def test_columns_beside_the_models_come_along_where_they_are_named(files: Path) -> None:
    rows = open_rows([str(files)], SCHEMA, beside=["year"])
    assert rows.beside["year"].tolist() == [1990, 1991, 1, 2, 3]
    with pytest.raises(BadInput, match="no such column"):
        open_rows([str(files)], SCHEMA, beside=["moon"])


def test_rows_without_the_labels_column_have_none_and_others_must_have_all(files: Path) -> None:
    (files / "bare.csv").write_text("age,sex\n30,f\n")
    assert open_rows([str(files / "bare.csv")], SCHEMA).labels is None
    assert open_rows([str(files / "bare.csv"), str(files / "north.csv")], SCHEMA).labels is None
    (files / "bare.csv").write_text("age,ill\n30,no\n")
    with pytest.raises(BadInput, match="sex"):
        open_rows([str(files / "bare.csv")], SCHEMA)


def test_cells_that_do_not_fit_are_told_by_place_and_never_by_what_stands_there(files: Path) -> None:
    (files / "odd.csv").write_text("age,sex,ill\n30,f,no\nsecret,x,yes\n")
    with pytest.raises(BadInput, match=r"2 cells of odd.csv do not fit") as refused:
        open_rows([str(files / "odd.csv")], SCHEMA)
    assert "row 2, age" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_an_outcome_may_be_unknown_and_may_not_be_something_else(files: Path) -> None:
    (files / "some.csv").write_text("age,sex,ill\n30,f,\n40,m,yes\n")
    assert open_rows([str(files / "some.csv")], SCHEMA).labels is None
    (files / "odd.csv").write_text("age,sex,ill\n30,f,perhaps\n40,m,yes\n")
    with pytest.raises(BadInput, match=r"1 cell of odd.csv does not fit .* row 1, ill"):
        open_rows([str(files / "odd.csv")], SCHEMA)


def test_of_many_files_the_one_that_cannot_be_read_is_named(files: Path) -> None:
    (files / "zero.csv").write_text("")
    with pytest.raises(BadInput, match=r"not readable as csv \(zero.csv\)"):
        open_rows([str(files)], SCHEMA)
    (files / "zero.csv").unlink()
    (files / "fake.parquet").write_text("PAR1")
    with pytest.raises(BadInput, match=r"not readable as parquet \(fake.parquet\).*of another format"):
        open_rows([str(files)], SCHEMA)


def test_no_file_and_files_without_a_row_are_told(files: Path) -> None:
    (files / "head.csv").write_text("age,sex,ill\n")
    with pytest.raises(BadInput, match="no row"):
        open_rows([str(files / "head.csv")], SCHEMA)
    with pytest.raises(BadInput, match="--rows"):
        open_rows([], SCHEMA)


def test_without_a_schema_files_say_themselves_what_they_hold(files: Path) -> None:
    (files / "own.csv").write_text("a,b,c,kind,y\n1,x,true,10,0\n2.5,y,false,20,1\n,x,true,30,1\n")
    rows = open_rows([str(files / "own.csv")], None, label="y", beside=["kind"])
    assert [(each.name, each.kind, each.values, each.minimum) for each in rows.features] == [
        ("a", "number", (), None),
        ("b", "category", ("x", "y"), None),
        ("c", "category", ("false", "true"), None),
    ]
    np.testing.assert_array_equal(rows.values, [[1, 0, 1], [2.5, 1, 0], [np.nan, 0, 1]])
    assert (rows.classes, rows.beside["kind"].tolist()) == (("0", "1"), [10, 20, 30])
    assert rows.labels is not None
    assert rows.labels.tolist() == [0, 1, 1]
    unlabelled = open_rows([str(files / "own.csv")], None)
    assert (unlabelled.labels, unlabelled.classes, len(unlabelled.features)) == (None, (), 5)
    with pytest.raises(BadInput, match="no such column"):
        open_rows([str(files / "own.csv")], None, label="z")


def test_times_and_gaps_beside_the_rows_are_numbers_times_and_empty_words(tmp_path: Path) -> None:
    (tmp_path / "north.csv").write_text(
        "age,sex,ill,day,bed,room,at\n30,f,no,2024-01-02,1,a,2024-01-02T10:30:00Z\n40,m,yes,,,,\n"
    )
    rows = open_rows([str(tmp_path / "north.csv")], SCHEMA, beside=["day", "bed", "room", "at"])
    day, bed, room, at = (rows.beside[name] for name in ("day", "bed", "room", "at"))
    assert (day.dtype.kind, str(day[0])[:10], bool(np.isnat(day[1]))) == ("M", "2024-01-02", True)
    np.testing.assert_array_equal(bed, [1, np.nan])
    assert room.tolist() == ["a", ""]
    assert (str(at[0]), bool(np.isnat(at[1]))) == ("2024-01-02T10:30:00", True)
    for name in rows.beside:
        assert groups_of(rows, name)[0][-1] == "missing"
    (tmp_path / "south.csv").write_text("age,sex,ill,day,bed,room,at\n30,f,no,monday,x,3,\n")
    both = open_rows([str(tmp_path / "north.csv"), str(tmp_path / "south.csv")], SCHEMA, beside=["day", "bed"])
    assert both.beside["bed"].tolist() == ["1.0", "", "x"]


def test_two_columns_of_one_name_are_named(tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text("age,age,y\n1,2,3\n")
    with pytest.raises(BadInput, match="two columns of one name"):
        open_rows([str(tmp_path / "twice.csv")], None, label="y")
    (tmp_path / "twice.csv").write_text("age,age,sex,ill\n1,2,f,no\n")
    with pytest.raises(BadInput):
        open_rows([str(tmp_path / "twice.csv")], SCHEMA)


def test_an_outcome_of_few_whole_numbers_is_what_it_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "stay.csv").write_text("age,days,share\n30,3,0.5\n40,14,1\n50,3,0\n")
    named = [str(tmp_path / "stay.csv")]
    assert open_rows(named, None, label="days").classes == ("3", "14")
    number = open_rows(named, None, label="days", label_is="number")
    assert number.labels is not None
    assert (number.classes, number.labels.tolist()) == ((), [3.0, 14.0, 3.0])
    with pytest.raises(BadInput, match="names no classes"):
        open_rows(named, None, label="share", label_is="classes")
    (tmp_path / "stay.csv").write_text("age,days\n30,long\n40,short\n")
    with pytest.raises(BadInput, match="is no number"):
        open_rows(named, None, label="days", label_is="number")
