"""Values from outside, errors across the wire, and plans: one form, strictly read, and nothing that ends a process."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto import errors
from aimass.proto.errors import AimassError, BadInput, InternalError, from_wire, printable, status_name, to_wire
from aimass.proto.grpc_env import grpc
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.plan import (
    Cohort,
    EarlyStop,
    Plan,
    PlanDraft,
    Stage,
    TaskRef,
    TrainSettings,
    decode_plan,
    encode_plan,
    plan_digest,
    read_plan_draft,
)
from aimass.proto.values import canonical_json, convert, decode_canonical_json, decode_json, decode_toml

PLAN = Plan(
    name="test", task=TaskRef(name="heart", digest="1" * 64), data_schema="heart/1", seed=1, model="0" * 64,
    stages=(Stage(driver="averaging", options={"rounds": 5}),),
    train=TrainSettings(batch_size=8, learning_rate=0.1, epochs=1),
)  # fmt: skip
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AimassError)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_a_plan_has_one_form_and_one_digest() -> None:
    data = encode_plan(PLAN)
    assert decode_plan(data) == PLAN
    assert encode_plan(decode_plan(data)) == data
    loose = json.dumps(json.loads(data), indent=1).encode()
    with pytest.raises(BadInput) as caught:
        decode_plan(loose)
    assert caught.value.code == "value.not_canonical"
    assert plan_digest(data) != plan_digest(loose)


@pytest.mark.parametrize(
    ("where", "choices"),
    [
        ('[train]\noptimizer = "sdg"', "adam, sgd"),
        ('[secure]\nrule = "mode"', "clipped, geometric-median, krum, mean, median, multi-krum, trimmed"),
        ('[secure]\n[secure.noise]\nkind = "gauss"', "discrete-gaussian, skellam"),
    ],
)
def test_a_slip_of_the_pen_is_answered_with_what_may_stand_there(where: str, choices: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_plan_draft(where)
    assert caught.value.cure == f"Choose one of: {choices}."


@given(JSON)
def test_json_that_is_no_plan_is_bad_input_and_nothing_else(value: object) -> None:
    with pytest.raises(BadInput):
        decode_plan(json.dumps(value).encode())


@given(st.binary(max_size=200))
def test_bytes_that_are_no_plan_are_bad_input_and_nothing_else(data: bytes) -> None:
    with pytest.raises(BadInput):
        decode_plan(data)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 100_000, b'"' + b"\\u0000" * 10_000])
def test_deep_and_huge_json_is_refused_and_the_process_lives(data: bytes) -> None:
    with pytest.raises(BadInput):
        decode_json(Plan, data, "a plan")


def test_a_plan_that_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadInput) as caught:
        decode_plan(b" " * (2 << 20))
    assert caught.value.code == "plan.size"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1), ("seed", 2**63), ("seed", 1.5), ("name", "Big Name"), ("model", "xyz"), ("stages", ()),
        ("data_schema", "heart"), ("format", 2), ("unknown", 1),
    ],
)  # fmt: skip
def test_a_field_out_of_range_or_unknown_is_refused_with_its_name(field: str, value: object) -> None:
    fields = msgspec.to_builtins(PLAN) | {field: value}
    with pytest.raises(BadInput) as caught:
        convert(Plan, fields, "the plan")
    assert field in str(caught.value)


@pytest.mark.parametrize(
    "train", ["epochs = 1\nsteps = 1", "", "epochs = 0", "steps = 1\nlearning_rate = nan", "steps = 1\nmomentum = 1.0"]
)
def test_training_settings_that_contradict_themselves_are_refused(train: str) -> None:
    text = f"""name = "t"
task = "heart"
data_schema = "heart/1"
seed = 1
[[stages]]
driver = "averaging"
[train]
batch_size = 1
{train}
"""
    if "learning_rate" not in train:
        text = text.replace("batch_size = 1", "batch_size = 1\nlearning_rate = 0.1")
    with pytest.raises(BadInput):
        read_plan_draft(text)


def test_a_schema_that_is_written_in_whole_numbers_is_the_one_that_is_read() -> None:
    written = Schema(
        name="ward/1", columns=(Number(name="age", minimum=0, maximum=120, missing_values=(-1,)),),
        label=Category(name="outcome", values=("no", "yes")),
    )  # fmt: skip
    read = decode_json(Schema, canonical_json(written), "the schema")
    assert (read, read.digest) == (written, written.digest)
    plan = msgspec.structs.replace(PLAN, data_schema="ward/1", schema=written)
    assert decode_plan(encode_plan(plan)) == plan
    with pytest.raises(ValueError, match="schema"):
        msgspec.structs.replace(plan, data_schema="heart/1")


def test_a_cohort_names_nobody_twice_and_asks_for_no_more_than_it_names() -> None:
    for bad in ({"partners": ["a", "a"]}, {"partners": ["a"], "quorum": 2}, {"quorum": 0}):
        with pytest.raises(BadInput):
            convert(Cohort, bad, "the cohort")


def test_a_draft_becomes_the_plan_that_it_says() -> None:
    fields = {
        name: value
        for name, value in msgspec.to_builtins(PLAN).items()
        if name in PlanDraft.__struct_fields__ and name != "task"
    }
    draft = convert(PlanDraft, fields | {"task": "heart"}, "the draft")
    assert draft.complete("1" * 64, "0" * 64) == PLAN


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_equal_values_have_equal_canonical_bytes_whatever_the_order(fields: dict[str, object]) -> None:
    backwards = dict(reversed(list(fields.items())))
    assert canonical_json(fields) == canonical_json(backwards)


def test_only_the_canonical_bytes_of_a_value_pass_for_it() -> None:
    rule = EarlyStop(metric="auc")
    data = canonical_json(rule)
    assert decode_canonical_json(EarlyStop, data, "a rule") == rule
    for other in (
        data + b" ", data.replace(b":", b": ", 1), b'{"metric":"auc","metric":"auc"}', b'{"metric":"\\u0061uc"}',
        b'{"patience":5,"metric":"auc"}', b'{"metric":"auc","min_delta":0}', b'{"metric":"auc", "patience":5}',
    ):  # fmt: skip
        with pytest.raises(BadInput):
            decode_canonical_json(EarlyStop, other, "a rule")


@given(st.lists(st.integers(0, 200), max_size=8))
def test_the_bytes_of_a_release_that_knew_fewer_fields_pass_as_they_are(chosen: list[int]) -> None:
    whole = json.loads(encode_plan(PLAN))
    for number in chosen:
        part = (whole, whole["train"], whole.get("cohort", {}), whole.get("evaluate", {}))[number % 4]
        optional = sorted(set(part) - {"name", "task", "data_schema", "seed", "model", "stages", "train"}
                          - {"batch_size", "learning_rate", "epochs"})  # fmt: skip
        if optional:
            del part[optional[number % len(optional)]]
    older = canonical_json(whole)
    assert decode_plan(older) == PLAN
    with pytest.raises(BadInput):
        decode_plan(older.replace(b",", b", ", 1))


def test_so_do_those_that_lack_a_field_within_a_list() -> None:
    plan = msgspec.structs.replace(PLAN, stages=(Stage(driver="averaging"), *PLAN.stages))
    older = encode_plan(plan).replace(b',"options":{}', b"", 1)
    assert older != encode_plan(plan)
    assert decode_plan(older) == plan


@pytest.mark.parametrize("text", ["a = ", "a = 1\na = 2", "\x00", "[[[", "a = 1e"])
def test_toml_that_is_none_says_so(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        decode_toml(EarlyStop, text, "rules.toml")
    assert "rules.toml" in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not AimassError])
def test_every_kind_of_error_crosses_the_wire_as_itself(kind: type[AimassError]) -> None:
    sent = kind("what happened", code="some.code", value=7, limit="to 5", cure="Do this.")
    got = from_wire(to_wire(sent))
    assert type(got) is kind
    assert (got.sentence(), got.code) == (sent.sentence(), sent.code)
    assert hasattr(grpc.StatusCode, status_name(sent))
    assert 0 < errors.EXIT_CODES[sent.kind] < 10


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 9_999, b'{"kind":"none","code":1,"what":2,"cure":3}']
)
def test_what_is_no_error_gives_an_error_that_says_so(data: bytes) -> None:
    assert isinstance(from_wire(data), InternalError)


def test_an_error_on_the_wire_fits_into_the_librarys_metadata() -> None:
    huge = BadInput("\x00" * 9_999, code="c" * 9_999, value="v" * 9_999, limit="l" * 9_999, cure="\U0001f600" * 9_999)
    assert len(to_wire(huge)) < 16 << 10


@given(st.text())
def test_what_the_other_side_says_is_printed_on_one_line(text: str) -> None:
    shown = printable(text, 50)
    assert len(shown) <= 50
    assert shown.isprintable()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_could_not_be_read_again_is_not_written(number: float) -> None:
    with pytest.raises(InternalError) as caught:
        canonical_json({"name": None, "means": {"loss": [0.5, number]}})
    assert (caught.value.code, caught.value.value) == ("value.not_finite", "$.means.loss.1")
    assert canonical_json({"name": None, "loss": "null"}) == b'{"loss":"null","name":null}'
    assert canonical_json({"name": None, "size": 1 << 70}) == b'{"name":null,"size":1180591620717411303424}'


_AT_ONCE = """
import sys, threading, msgspec
from aimass.proto.values import decode_json

sys.setswitchinterval(1e-6)

def nested(number):
    kind = msgspec.defstruct(f"Inmost{number}", [(f"f{n}", int, 0) for n in range(20)])
    for depth in range(6):
        kind = msgspec.defstruct(f"K{number}_{depth}", [("a", kind | None, None), *[(f"f{n}", int, 0) for n in range(20)]])
    return kind

def read_by_eight(kind):
    barrier = threading.Barrier(8)
    def read():
        barrier.wait()
        decode_json(kind, b'{"a":{"a":{"f3":3}}}', "it")
    threads = [threading.Thread(target=read) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

for number in range(50):
    read_by_eight(nested(number))
"""


def test_threads_that_meet_a_kind_for_the_first_time_at_once_read_it_and_live() -> None:
    done = subprocess.run([sys.executable, "-c", _AT_ONCE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_error_that_asks_ends_with_its_question_mark() -> None:
    assert BadInput("where to?", cure="Name a place.").sentence() == "where to? Name a place."
    assert BadInput("where to?").sentence() == "where to?"
    assert BadInput("too long", value=3).sentence() == "too long; got 3."
