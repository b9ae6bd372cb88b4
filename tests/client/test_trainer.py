"""The trainer and what it stands on: rows, splits, measures, against independent computations."""

from __future__ import annotations

import io
import mmap
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aimass.client import trainer
from aimass.client.shards import Shard, make_shard
from aimass.client.task_template import write_task
from aimass.client.tasks.heart import Heart, task
from aimass.client.tasks.mnist import task as mnist
from aimass.proto.contribution import Metric
from aimass.proto.errors import BadInput, Refused
from aimass.proto.manifest import Category, Number, Schema, ShardManifest
from aimass.proto.plan import EvaluateSettings, TrainSettings
from aimass.proto.predictors import Predictor
from aimass.proto.rng import stream_seed
from aimass.proto.rows import Table, check, held_out_mask, read_table, require
from aimass.proto.storage import map_file
from aimass.proto.task import Task, auc, digest_folder, first_model, load_parameters, locate
from aimass.proto.tensors import Blob, encode_numpy, encode_torch
from tests.support.datasets import dataset

SCHEMA = Schema(
    name="small/1",
    columns=(Number(name="x", minimum=0, maximum=10, missing_values=(9,)), Category(name="c", values=("a", "b"))),
    label=Category(name="y", values=("no", "yes"), required=True),
)


class Plain(Heart):
    """Without dropout, so that gradients can be computed beside it."""

    def build(self) -> torch.nn.Module:
        model = super().build()
        next(m for m in model.modules() if isinstance(m, torch.nn.Dropout)).p = 0.0
        return model


plain_task = Plain()


class Frequencies(Task):
    """No network: one number for each label, whatever the row."""

    schema = Heart.schema

    def first(self, seed: int) -> bytes:
        return encode_numpy({"chances": np.array([0.75, 0.25])})

    def predictor(self, parameters: Blob, device: str = "cpu") -> Predictor:
        chances = parameters.numpy("chances")
        return lambda batch, size=1024: np.tile(chances, (len(batch.labels), 1))


def table(text: str) -> Table:
    return read_table(SCHEMA, [io.BytesIO(text.encode())], "csv")


def heart(place: str = "cleveland") -> Shard:
    with (dataset("heart") / f"{place}.parquet").open("rb") as file:
        rows = require(read_table(task.schema, [file], "parquet"))
    manifest = ShardManifest(
        name="heart",
        data_schema="heart/1",
        uris=("x",),
        format="parquet",
        participant=place,
        salt="00" * 32,
        held_out=0.3,
    )
    return make_shard(rows, manifest)


def test_missing_unknown_and_impossible_cells_are_found_by_row_and_column() -> None:
    found = table("x,c,y\n1,a,no\n9,,yes\n11,b,no\nmany,z,\n")
    assert [(f.row, f.column) for f in found.findings] == [(2, "x"), (3, "x"), (3, "c"), (3, "y")]
    report = check(found)
    assert dict(report.missing) == {"x": 3, "c": 2, "y": 1}
    with pytest.raises(BadInput) as caught:
        require(found)
    assert "row 4, c" in str(caught.value)
    assert "many" not in str(caught.value)


def test_a_file_without_a_column_is_refused_with_its_name() -> None:
    with pytest.raises(BadInput, match="c, y"):
        table("x\n1\n")


@given(st.permutations(range(30)))
def test_the_held_out_rows_do_not_depend_on_the_order_of_rows(order: list[int]) -> None:
    lines = [f"{i % 8},{'ab'[i % 2]},{'no' if i % 3 else 'yes'}" for i in range(30)]
    held = []
    for permuted in (list(range(30)), order):
        rows = table("x,c,y\n" + "\n".join(lines[i] for i in permuted) + "\n")
        mask = held_out_mask(rows, b"salt", 0.3)
        held.append(sorted(lines[permuted[position]] for position in np.flatnonzero(mask)))
    assert held[0] == held[1]


def test_the_held_out_rows_are_a_share_of_each_label_and_change_with_the_salt() -> None:
    rows = table("x,c,y\n" + "".join(f"{i % 8}.{i},a,{'no' if i % 4 else 'yes'}\n" for i in range(80)))
    masks = [held_out_mask(rows, salt, 0.25) for salt in (b"one", b"two")]
    labels = rows.columns["y"]
    assert [int(mask[labels == label].sum()) for mask in masks for label in (0, 1)] == [15, 5, 15, 5]
    assert (masks[0] != masks[1]).any()


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_the_right_order_with_half_for_ties(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], dtype=float)
    positive = np.array([flag for _, flag in pairs])
    wins = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    found = auc(scores, positive)
    assert found == (None if not wins else pytest.approx(sum(wins) / len(wins), abs=1e-12))


def test_one_full_batch_step_is_minus_the_learning_rate_times_the_gradient() -> None:
    shard = heart()
    start = Blob(first_model(plain_task, 1))
    rows = len(shard.train.labels)
    settings = TrainSettings(batch_size=rows, learning_rate=0.5, steps=1)
    made, _ = trainer.train(plain_task, shard, start, b"", bytes(32), settings)
    model = plain_task.build()
    model.load_state_dict({name: start.torch(name) for name in start.layout.by_name})
    order = np.random.Generator(np.random.PCG64(int.from_bytes(bytes(24), "big"))).permutation(rows)
    numbers, categories = (tensor[order] for tensor in task.inputs(shard.train))
    loss = torch.nn.functional.cross_entropy(model(numbers, categories), torch.from_numpy(shard.train.labels[order]))
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        np.testing.assert_allclose(made.groups["update"].tensors[name], -0.5 * parameter.grad.numpy(), atol=1e-6)
    assert made.groups["update"].weight == rows


def test_the_proximal_term_pulls_the_update_towards_zero_by_its_formula() -> None:
    shard, start = heart(), Blob(first_model(plain_task, 1))
    plain = TrainSettings(batch_size=10_000, learning_rate=0.1, steps=2)
    pulled = TrainSettings(batch_size=10_000, learning_rate=0.1, steps=2, proximal_mu=5.0)
    one = TrainSettings(batch_size=10_000, learning_rate=0.1, steps=1)
    updates = [
        trainer.train(plain_task, shard, start, b"", bytes(32), s)[0].groups["update"].tensors
        for s in (one, plain, pulled)
    ]
    # The gradient of mu/2 |w - w0|^2 at w1 is mu (w1 - w0): the second step differs by -lr mu times the first update.
    for name, first in updates[0].items():
        np.testing.assert_allclose(updates[2][name], updates[1][name] - 0.1 * 5.0 * first, atol=1e-6)


def test_equal_seeds_give_equal_bytes_and_other_seeds_others() -> None:
    shard, start = heart(), Blob(first_model(task, 1))
    settings = TrainSettings(batch_size=16, learning_rate=0.1, epochs=2)
    seeds = [stream_seed(1, who, "train:", 1) for who in ("a", "a", "b")]
    made = [trainer.train(task, shard, start, b"", seed, settings)[0].encode() for seed in seeds]
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_kept_optimiser_goes_on_where_the_step_before_left_it(optimizer: Literal["adam", "sgd"]) -> None:
    shard, start = heart(), Blob(first_model(plain_task, 1))
    once = TrainSettings(batch_size=10_000, learning_rate=0.01, steps=2, optimizer=optimizer, momentum=0.5)
    halves = msgspec.structs.replace(once, steps=1, keep_optimizer=True)
    whole, nothing = trainer.train(plain_task, shard, start, b"", bytes(32), once)
    first, state = trainer.train(plain_task, shard, start, b"", bytes(32), halves)
    moved = {
        name: start.numpy(name) + first.groups["update"].tensors.get(name, np.float32(0))
        for name in start.layout.by_name
    }
    second, _ = trainer.train(plain_task, shard, Blob(encode_numpy(moved)), state, bytes(32), halves)
    assert nothing == b""
    for name, update in whole.groups["update"].tensors.items():
        together = first.groups["update"].tensors[name] + second.groups["update"].tensors[name]
        np.testing.assert_allclose(together, update, atol=1e-6)


def test_an_optimiser_of_another_model_is_refused() -> None:
    kept = encode_numpy({"optimizer/0/exp_avg": np.zeros(3, np.float32)})
    settings = TrainSettings(batch_size=8, learning_rate=0.01, steps=1, optimizer="adam", keep_optimizer=True)
    with pytest.raises(BadInput) as caught:
        trainer.train(plain_task, heart(), Blob(first_model(plain_task, 1)), kept, bytes(32), settings)
    assert caught.value.code == "trainer.local_state"


def test_training_that_diverges_is_named_and_not_sent() -> None:
    wild = TrainSettings(batch_size=8, learning_rate=1000.0, epochs=3, weight_decay=1e6)
    with pytest.raises(BadInput) as caught:
        trainer.train(task, heart(), Blob(first_model(task, 1)), b"", bytes(32), wild)
    assert caught.value.code == "trainer.diverged"


def test_the_update_takes_the_place_of_the_model_and_its_gradients_are_gone() -> None:
    start = Blob(first_model(plain_task, 1))
    settings = TrainSettings(batch_size=16, learning_rate=0.1, steps=1)
    local = trainer.train_locally(plain_task, heart(), start, bytes(32), settings)
    held = {name: value.detach().clone() for name, value in local.model.named_parameters()}
    assert all(parameter.grad is None for parameter in local.model.parameters())
    update = trainer.update_of(local.model, start, 1.0, settings).groups["update"].tensors
    for name, parameter in local.model.named_parameters():
        assert np.shares_memory(update[name], parameter.detach().numpy())
        np.testing.assert_array_equal(update[name], (held[name] - start.torch(name)).numpy())


def test_weights_with_two_names_have_one_update_under_both() -> None:
    model = torch.nn.ModuleDict({"one": torch.nn.Linear(2, 2), "two": torch.nn.Linear(2, 2)})
    model["two"].weight = model["one"].weight
    start = Blob(encode_torch(model.state_dict()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    update = trainer.update_of(model, start, 1.0, TrainSettings(batch_size=1, learning_rate=1, steps=1))
    for change in update.groups["update"].tensors.values():
        np.testing.assert_allclose(change, 1, atol=1e-6)


def test_layers_that_stay_here_stay_as_they_were_trained() -> None:
    shared, own = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    model = torch.nn.Sequential(shared, own)
    start = Blob(encode_torch(model.state_dict()))
    settings = TrainSettings(batch_size=1, learning_rate=1, steps=1, keep_local=("1.*",))
    with torch.no_grad():
        own.weight.add_(1)
    update = trainer.update_of(model, start, 1.0, settings).groups["update"].tensors
    assert sorted(update) == ["0.bias", "0.weight"]
    np.testing.assert_allclose(own.weight.detach().numpy(), start.numpy("1.weight") + 1, atol=1e-6)


def test_parameters_that_were_loaded_from_a_file_leave_no_pages_of_it_here(tmp_path: Path) -> None:
    model = torch.nn.Linear(1 << 12, 1 << 12, bias=False)
    path = tmp_path / "model.safetensors"
    path.write_bytes(encode_torch(model.state_dict()))
    blob, before = Blob(map_file(path)), resident_file_bytes()
    load_parameters(model, blob)
    assert resident_file_bytes() - before < len(blob.data) / 4


def resident_file_bytes() -> int:
    """Pages of files that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * mmap.PAGESIZE


def test_the_cnn_of_the_fedavg_paper_has_its_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in mnist.build().parameters()) == 1_663_370


def test_prediction_needs_parameters_and_raw_rows_alone() -> None:
    with (dataset("heart") / "cleveland.parquet").open("rb") as file:
        rows = require(read_table(task.schema, [file], "parquet"))
    chances = task.predict(Blob(first_model(task, 1)), rows)
    assert chances.shape == (304, 2)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)


def test_a_model_that_is_no_network_begins_is_measured_and_predicts_and_has_no_gradient_steps() -> None:
    shard, model = heart(), Blob(first_model(Frequencies(), 1))
    made = trainer.evaluate(Frequencies(), shard, model, EvaluateSettings())
    sick = int(shard.held_out.labels.sum())
    well = len(shard.held_out.labels) - sick
    assert made.metrics["accuracy"] == Metric(float(well), float(well + sick))
    assert made.metrics["loss"].total == pytest.approx(-well * np.log(0.75) - sick * np.log(0.25))
    with pytest.raises(Refused) as caught:
        trainer.train(
            Frequencies(), shard, model, b"", bytes(32), TrainSettings(batch_size=1, learning_rate=1, epochs=1)
        )
    assert caught.value.code == "task.no_network"


def test_a_tasks_digest_follows_its_files_and_nothing_else(tmp_path: Path) -> None:
    folder = write_task("ward", tmp_path) / "ward"
    before = digest_folder(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert digest_folder(folder) == before
    (folder / "requirements.txt").write_text("torch>=9\n")
    assert digest_folder(folder) != before
    assert locate("heart").digest == digest_folder(locate("heart").folder)


def test_a_new_task_passes_its_own_test_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_task("ward-round", tmp_path)
    monkeypatch.syspath_prepend(str(folder))
    source = (folder / "tests" / "test_ward_round.py").read_text()
    scope: dict[str, object] = {}
    exec(compile(source, "test_ward_round.py", "exec"), scope)
    test = scope["test_training_lowers_the_loss"]
    assert callable(test)
    test()
    assert len((folder / "ward_round" / "__init__.py").read_text().splitlines()) < 55
