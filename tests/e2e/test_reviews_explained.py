"""From a federated training of text adapters to the words that the model leans on, as an analyst types it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from aimass.explain.lpi.text_explaining import TokenAttribution
from aimass.proto.bases import own_bases
from aimass.proto.commands import main
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob
from tests.support.datasets import dataset

DOMAINS = ("editorials", "films", "products", "tweets")
ROWS = 48
PLAN = """
name = "words"
task = "reviews"
data_schema = "reviews/1"
seed = 1
[train]
batch_size = 16
learning_rate = 0.005
optimizer = "adam"
epochs = 2
[evaluate]
every = 3
[cohort]
quorum = 4
[[stages]]
driver = "averaging"
options = { rounds = 3 }
"""
TEXTS = """text,sentiment
"The plot is dull and the acting is terrible.",negative
"A wonderful film with a great and charming cast.",positive
"""
SPEAKS = {"negative": {"dull", "terrible"}, "positive": {"wonderful", "great", "charming"}}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the trained model, its partners' shards, and two texts that nobody trained on."""
    folder = tmp_path_factory.mktemp("trial")
    rows, encoder = dataset("reviews"), dataset("encoder") / "minilm.safetensors"
    for domain in DOMAINS:
        parquet.write_table(parquet.read_table(rows / f"{domain}.parquet").slice(0, ROWS), folder / f"{domain}.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AIMASS_CACHE", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)
        own_bases().add("minilm", encoder)
        Path("plan.toml").write_text(PLAN)
        Path("texts.csv").write_text(TEXTS)
        files = [f"{domain}.parquet" for domain in DOMAINS]
        typed = ["simulate", "plan.toml", "--data", *files, "--split", "natural", "--workers", "1", "--out", "trial"]
        assert main(typed) == 0
        yield folder


def pieces(model: str, *more: str) -> TokenAttribution:
    """What is typed, and the answer."""
    typed = ["explain", "pieces", model, "--task", "reviews", "--out", "why", "--formats", "html,json", "--quiet"]
    assert main([*typed, *more]) == 0
    page = Path("why/pieces.html").read_text()
    found = TokenAttribution.from_json(Path("why/pieces.json").read_bytes())
    assert all(line in page for line in found.describe()[:1])
    return found


@pytest.mark.parametrize(("text", "label"), [(0, "negative"), (1, "positive")])
def test_the_words_that_a_person_would_name_speak_most_for_what_the_trained_model_says(
    trial: Path, text: int, label: str
) -> None:
    found = pieces("trial/model.safetensors", "--rows", "texts.csv", "--held-out", "--text", str(text))
    assert (found.output, found.lineage.rows, found.lineage.held_out) == (label, 2, True)
    assert found.said > max(0.6, found.masked)
    assert found.pieces[int(found.values.argmax())] in SPEAKS[label]
    assert found.incomplete < 0.01
    assert found.beaten < 0.05
    assert not found.warnings() or all("not why" in line for line in found.warnings())
    assert found.lineage.model_digest == Blob((trial / "trial/model.safetensors").read_bytes()).digest


def test_a_model_that_was_not_trained_leans_on_other_words(trial: Path) -> None:
    """Adebayo et al. 2018: what hardly changes with the parameters explains the text and not the model."""
    Path("first.safetensors").write_bytes(first_model(load(locate("reviews")), 5))
    told = ["--rows", "texts.csv", "--output", "negative"]
    one, other = (pieces(model, *told).values for model in ("trial/model.safetensors", "first.safetensors"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.7


def test_of_shards_only_the_texts_that_are_held_out_are_asked_about(trial: Path) -> None:
    found = pieces("trial/model.safetensors", "--rows", "trial/shards", "--text", "3")
    assert found.lineage.held_out is True
    assert found.lineage.rows == len(DOMAINS) * round(0.2 * ROWS)
