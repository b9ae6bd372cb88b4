"""Texts by the names of their files, and a question about one of them from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aimass.explain.cache import rows_digest
from aimass.explain.opening import Subject, open_texts
from aimass.explain.opening.models import _model
from aimass.explain.questions import Asking, question
from aimass.explain.rows import Rows
from aimass.explain.texts import TextModel
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob
from tests.support.reviews import small_reviews

SCHEMA = load(locate("reviews")).schema


def _file(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("text,sentiment\n" + "\n".join(lines) + "\n")
    return path


def test_files_are_joined_and_each_text_knows_whose_it_is(tmp_path: Path) -> None:
    one = _file(tmp_path, "films.csv", '"A dull, long film.",negative', "Lovely.,positive")
    other = _file(tmp_path, "tweets.csv", "so good,positive")
    found = open_texts([str(one), f"short={other}"], SCHEMA, held_out=True)
    assert found.texts == ("A dull, long film.", "Lovely.", "so good")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 1]
    assert (found.name, found.held_out) == ("films + short", True)
    assert found.beside["partner"].tolist() == ["films", "films", "short"]
    assert rows_digest(found) != rows_digest(open_texts([str(one), f"brief={other}"], SCHEMA, held_out=True))


def test_of_shards_those_texts_are_meant_that_each_partner_holds_out(tmp_path: Path) -> None:
    for name, count in (("north", 20), ("south", 10)):
        texts = [f"{name} {place},{('negative', 'positive')[place % 2]}" for place in range(count)]
        (tmp_path / name).mkdir()
        _file(tmp_path / name, "reviews.csv", *texts)
        (tmp_path / name / "reviews.toml").write_text(
            f'name = "reviews"\ndata_schema = "reviews/1"\nuris = ["reviews.csv"]\nformat = "csv"\n'
            f'participant = "{name}"\nsalt = "{"5a" * 32}"\nheld_out = 0.2\n'
        )
    found = open_texts([str(tmp_path)], SCHEMA)
    assert found.beside["partner"].tolist() == ["north"] * 4 + ["south"] * 2
    assert all(text.startswith(name) for text, name in zip(found.texts, found.beside["partner"], strict=True))
    assert found.labels is not None
    assert found.labels.tolist() == [int(text.split()[1]) % 2 for text in found.texts]
    assert (found.name, found.held_out) == (tmp_path.name, True)
    other = _file(tmp_path, "films.csv", "Lovely.,positive")
    with pytest.raises(BadInput, match="shards are named alone"):
        open_texts([str(tmp_path), str(other)], SCHEMA)


def test_labels_may_be_absent_and_nothing_else(tmp_path: Path) -> None:
    path = _file(tmp_path, "films.csv", "Lovely.,", "Dull.,negative")
    assert open_texts([str(path)], SCHEMA).labels is None
    with pytest.raises(BadInput, match="--task"):
        open_texts([str(path)], None)
    with pytest.raises(BadInput, match="no file of texts"):
        open_texts([], SCHEMA)
    with pytest.raises(NotFound):
        open_texts([str(tmp_path / "absent.csv")], SCHEMA)


def test_a_question_about_texts_is_asked_of_a_model_of_texts_alone(tmp_path: Path) -> None:
    task = small_reviews()
    model = _model(task, Blob(first_model(task, 1)), name="reviews", digest="d")
    assert isinstance(model, TextModel)
    texts = open_texts([str(_file(tmp_path, "films.csv", "Not a film to miss.,positive"))], SCHEMA)
    subject = Subject(lambda _: pytest.fail("no table"), SCHEMA, texts=model)
    asked = question("pieces")
    assert subject.kind == asked.of == "texts"
    found = Asking(asked, subject.model_for(asked.of, texts), texts, asked.options()).answer(Work())
    assert found.to_columns()["piece"][:3] == ("not", "a", "film")
    with pytest.raises(BadInput, match="about tables"):
        subject.model_for("rows", texts)
    with pytest.raises(BadInput, match="about texts"):
        Subject(lambda _: pytest.fail("no table")).model_for("texts", Rows.of(np.zeros((1, 1))))
