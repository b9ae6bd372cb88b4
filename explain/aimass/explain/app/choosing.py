"""Choices that stand in the address: which model, which rows, which run. What a link names and is gone is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import streamlit as st

from aimass.explain.app.house import Here
from aimass.explain.app.settings import RowsSetting
from aimass.explain.app.shell import brought, empty, told_error
from aimass.explain.app.uploads import uploaded
from aimass.explain.app.wording import moment, plain
from aimass.explain.opening import Subject, Where, open_images, open_rows, open_subject, open_texts
from aimass.explain.opening.tables import named_files
from aimass.explain.questions import Asked, Asking, Kind, Question
from aimass.explain.rows import Rows
from aimass.proto.errors import AimassError, NotFound
from aimass.proto.manifest import Mask, Schema
from aimass.proto.registry.reader import Resolved
from aimass.proto.task import load, locate
from aimass.proto.values import Value
from aimass.proto.views import RunSummary

__all__ = [
    "Chosen",
    "asking_of",
    "choose_background",
    "choose_model_and_rows",
    "choose_run",
    "let_go",
    "linked",
    "linked_many",
    "linked_number",
    "linked_within",
]

_UPLOAD: Final = "upload"
_ROWS_S: Final = 600.0
_SUBJECT_S: Final = 86_400.0
"""A model is named by its digest: it stays what it is."""
_MOST_OFFERED: Final = 200


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A model and what it is asked about; `private` where a viewer brought the rows."""

    reference: str
    subject: Subject
    rows: Asked
    private: bool = False


def linked(
    key: str, label: str, options: Sequence[str], *, named: Callable[[str], str] = str, **more: Any
) -> str | None:
    """One of the options, kept in the address under `key`; None where the address names another, which is said.

    `options` are what the address holds and what stays the same for ever; `named` is what people read. A bound widget
    of Streamlit's would write the latter into the address. What was chosen on one page holds on the next.
    """
    asked, memory = st.query_params.get(key), f"_linked_{key}"
    said, held = st.session_state.get(memory), st.session_state.get(key)
    if asked is None:
        wanted = said if said and said in options else held  # (the empty one is never in the address)
    elif asked in options:
        wanted = asked if asked != said or held is None else held
    else:
        _gone(key, label, asked)
        return None
    _set(key, wanted if wanted in options else options[0])
    found: str | None = st.selectbox(label, options, format_func=named, key=key, **more)
    if found is not None:
        st.session_state[memory] = found
        if found and asked != found:
            st.query_params[key] = found
        elif not found and asked:
            del st.query_params[key]
    return found


def linked_many(
    key: str,
    label: str,
    options: Sequence[str],
    first: Sequence[str],
    *,
    one: str,
    most: int,
    named: Callable[[str], str] = str,
) -> tuple[str, ...]:
    """Some of the options, `most` of them, kept in the address under `key`; `first` where it names none.

    Empty where the address names what is none of them, which is said: `one` is what an option is.
    """
    asked = tuple(dict.fromkeys(st.query_params.get_all(key)))[:most]
    if gone := [name for name in asked if name not in options]:
        _gone(key, one, ", ".join(gone))
        return ()
    memory = f"_linked_{key}"
    said: tuple[str, ...] | None = st.session_state.get(memory)
    held = st.session_state.get(key)
    if asked and (asked != said or held is None):
        held = asked
    elif held is None or not set(held) <= set(options):
        held = said if said and set(said) <= set(options) else first
    _set(key, list(held))
    found = tuple(st.multiselect(label, options, key=key, max_selections=most, format_func=named))
    st.session_state[memory] = found
    if found != asked and (asked or found != tuple(first)):
        st.query_params[key] = list(found)
    return found


def linked_number(key: str, label: str, count: int, *, one: str, first: int = 0, **more: Any) -> int | None:
    """A place from 0 to `count` - 1, kept in the address under `key`; None where the address names none, which is said.

    A place that another choice has left behind is 0 again. `one` is what is at the places, and `first` the number that
    people give the first of them; the address and `linked_number` itself have places.
    """
    asked, memory = st.query_params.get(key), f"_linked_{key}"
    said: int | None = st.session_state.get(memory)
    wanted = int(asked) if asked is not None and asked.isascii() and asked.isdigit() and len(asked) < 10 else None
    if asked is not None and (wanted is None or wanted >= count):
        if asked != str(said):
            _gone(key, one, asked if wanted is None else str(wanted + first))
            return None
        wanted = 0
    shown: int | None = st.session_state.get(key)
    held = None if shown is None else shown - first
    if asked is None and said and said < count:  # another page was looked at: there the widget was none
        held = said
    elif wanted is not None and (wanted != said or held is None):
        held = wanted
    _set(key, first + (held if held is not None and held < count else 0))
    found = int(st.number_input(label, first, first + count - 1, step=1, key=key, **more)) - first
    st.session_state[memory] = found
    if asked != str(found) and (found or asked is not None):
        st.query_params[key] = str(found)
    return found


def _set(key: str, value: object) -> None:
    """What the next widget of this key holds, also where it holds it already: of the same key on the page before that
    is another widget, whose value Streamlit tells here and does not hand on."""
    st.session_state[key] = value


def let_go(key: str, options: Sequence[str]) -> None:
    """Forget what was chosen here among other options: another choice, on which these hang, was changed."""
    asked = st.query_params.get(key)
    if asked is not None and asked not in options and asked == st.session_state.get(f"_linked_{key}"):
        del st.query_params[key]


def linked_within(key: str, label: str, options: Sequence[str], within: Sequence[str], **more: Any) -> str | None:
    """`linked`; where another one is chosen, the choices of the keys `within` it are forgotten with the former.

    What a link names itself stays.
    """
    before = st.session_state.get(f"_linked_{key}")
    by_link = st.query_params.get(key, before) != before
    found = linked(key, label, options, **more)
    if before is None or found in (None, before):
        return found
    for inner in within:
        if by_link and inner in st.query_params:
            continue
        st.query_params.pop(inner, None)
        for held in (inner, f"_linked_{inner}"):
            st.session_state.pop(held, None)
    return found


def _gone(key: str, label: str, asked: str) -> None:
    one = f"value of “{label}”" if " " in label or label.endswith("s") else label.lower()
    told_error(
        NotFound(
            f"the link names a {one} that is not here",
            code="app.gone",
            value=asked,
            cure="It was deleted, or this role may not see it: choose another.",
        )
    )
    if st.button("Choose another", key=f"clear-{key}"):
        del st.query_params[key]
        st.rerun()


# ---------------------------------------------------------------- runs


def choose_run(here: Here, key: str = "run") -> str | None:
    """The id of a run, newest first; None where there is none, which is said."""
    runs = here.sources.runs()
    if not runs:
        empty(
            "There is no run yet.",
            "Runs that you may see are shown here while they train and after.",
            "aimass run submit plan.toml --as scientist",
        )
        return None
    by_id = {run.run_id: run for run in runs}
    return linked(key, "Run", list(by_id), named=lambda run_id: _run_label(by_id[run_id]))


def _run_label(run: RunSummary) -> str:
    return f"{run.name} · {run.run_id[:8]} · {run.state} · {moment(run.created_at)}"


# ---------------------------------------------------------------- models and rows


def choose_model_and_rows(here: Here, kinds: Sequence[str] = ("rows",)) -> Chosen | None:
    """What a question is about, `kinds` being what its models may take; None where something is missing, which is said.

    The address keeps both choices, but not an upload.
    """
    left, right = st.columns(2)
    with left:
        reference = _model(here, kinds)
    if reference is None:
        return None
    subject = subject_of(here, reference)
    if not _fits(subject.kind if subject.schema is None else kind_of(subject.schema), kinds):
        st.info(f"{plain(reference)} takes {subject.kind}: this page is about {' and '.join(kinds)}.")
        return None
    with right:
        return _with_rows(here, reference, subject)


def _model(here: Here, kinds: Sequence[str]) -> str | None:
    offered = offered_models(here, kinds)
    if not offered and not here.sources.registry_url and not here.sources.has_server:
        empty(
            "This app knows no model.",
            "It knows neither a registry nor a training server. Home says what to start, or name what there is:",
            "aimass explain app --as FOLDER --registry URL --rows NAME=FILE",
        )
        return None
    if not offered:
        empty(
            f"There is no model of {' or '.join(kinds)} to explain.",
            "Models of the registry and of finished runs are offered here.",
            "aimass model publish last --as operator --name heart",
        )
        return None
    return linked("model", "Model", list(offered), named=lambda one: offered[one])


def offered_models(here: Here, kinds: Sequence[str]) -> dict[str, str]:
    """References and what people read: versions of the registry by alias and number, then runs that have a model.

    Those whose model takes something else than these kinds are left out; of what nobody knows it is seen later.
    """
    found: dict[str, str] = {}
    if here.sources.registry_url:
        for name in here.sources.model_names():
            believed = [(number, one) for number, one in here.sources.versions(name) if isinstance(one, Resolved)]
            fitting = [number for number, one in believed if _fits(kind_of(one.version.schema), kinds)]
            for alias in here.sources.aliases(name) if fitting else ():
                found[f"{name}@{alias}"] = f"{name}, {alias}"
            for number in fitting:
                found[f"{name}@{number}"] = f"{name}, version {number}"
    if here.sources.has_server:
        for run in here.sources.runs():
            if run.round and len(found) < _MOST_OFFERED and _fits(_kind_of_task(here, run.task), kinds):
                found[f"run:{run.run_id}"] = f"run {run.run_id[:8]}, {run.name}, round {run.round}"
    return found


def kind_of(schema: Schema | None) -> Kind | Literal["pixels"]:
    """What a model of this schema takes, `pixels` where it labels each of an image's; a table where there is none."""
    if schema is None:
        return "rows"
    if isinstance(schema.label, Mask):
        return "pixels"
    return "images" if schema.images else "texts" if schema.texts else "rows"


def _fits(kind: str, kinds: Sequence[str]) -> bool:
    """Whether a page about `kinds` can ask a model of this one; empty is not known, and seen later."""
    return kind in ("", *kinds) or (kind == "pixels" and "images" in kinds)


def _kind_of_task(here: Here, task: str) -> str:
    """The same by the name of a task; empty where it is not installed here."""

    def find() -> str:
        try:
            return kind_of(load(locate(task)).schema)
        except AimassError:
            return ""

    return here.house.kinds.get(task, _ROWS_S, find)


def subject_of(here: Here, reference: str) -> Subject:
    """The model that a reference names now, opened once for all viewers."""
    kind, _, run_id = reference.partition(":")
    if kind == "run":
        view = here.sources.run(run_id)
        key = f"run {run_id} {view.summary.model}"
        where, name = Where(home=here.sources.folder(), bearer=here.person.bearer), run_id
    else:
        found = here.sources.resolved(reference)
        key, name = f"version {found} {found.digest}", str(found)
        where = Where(registry=here.sources.registry_url, trust=here.settings.trust)
    return here.house.subjects.get(key, _SUBJECT_S, lambda: open_subject(name, where))


def _with_rows(here: Here, reference: str, subject: Subject) -> Chosen | None:
    fitting = {one.name: _are_there(one) for one in here.rows if one.task in ("", subject.task) or not subject.task}
    missing = [name for name, there in fitting.items() if not there]  # last: no page opens on what is yet to be fetched
    named = {_UPLOAD: "Upload a file…"} | {name: f"{name} (not here yet)" for name in missing}
    offered = [*(name for name in fitting if name not in missing), _UPLOAD, *missing]
    choice = linked("rows", "Rows", offered, named=lambda one: named.get(one, one))
    if choice is None:
        return None
    if choice == _UPLOAD:
        rows = uploaded(here, subject)
        brought()
        return None if rows is None else Chosen(reference, subject, rows, private=True)
    return Chosen(reference, subject, rows_of(here, choice, subject))


def _are_there(setting: RowsSetting) -> bool:
    """Whether all files of these rows are where the settings say, as far as the app may look."""
    try:
        return all(named_files(one) for one in setting.files)
    except (NotFound, OSError):  # a folder that the app may not enter is no reason to keep other rows from others
        return False


def choose_background(here: Here, chosen: Chosen) -> Rows | None:
    """Rows that predictions are held against, by the address; None stands for the rows themselves."""
    subject = chosen.subject
    names = [one.name for one in here.rows if not one.task or not subject.task or one.task == subject.task]
    let_go("against", names)
    name = linked("against", "Held against", ["", *names], named=lambda one: one or "the rows themselves")
    rows = rows_of(here, name, subject) if name else None
    return rows if isinstance(rows, Rows) else None


def rows_of(here: Here, name: str, subject: Subject) -> Asked:
    """Rows that the settings name, read once for all viewers until their files change.

    Raises `NotFound` where there are none of this name, or a file of theirs is gone or cannot be read.
    """
    setting = next((one for one in here.rows if one.name == name), None)
    if setting is None:
        raise NotFound("there are no such rows", code="app.rows", value=name)

    def read() -> Asked:
        return dataclasses.replace(_opened_rows(setting, subject), name=name)

    try:
        files = [file.path for one in setting.files for file in named_files(one)]
        stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files)
        return here.house.rows.get(f"rows {name} {subject.task} {stamps}", _ROWS_S, read)
    except OSError as error:
        raise NotFound(
            f"a file of these rows is gone, or the app cannot read it ({error.strerror or type(error).__name__})",
            code="app.rows_file",
            value=name,
            cure="Whoever started the app named it: its account has to be able to read the file and enter its folder.",
        ) from error


def _opened_rows(setting: RowsSetting, subject: Subject) -> Asked:
    if subject.kind == "images":
        return open_images(setting.files, subject.schema, held_out=setting.held_out)
    if subject.kind == "texts":
        return open_texts(setting.files, subject.schema, held_out=setting.held_out)
    return open_rows(setting.files, subject.schema, held_out=setting.held_out, beside=setting.beside)


def asking_of(question: Question, chosen: Chosen, options: Value, background: Rows | None = None) -> Asking:
    """The question about what was chosen; raises `BadInput` where it is about another kind."""
    model = chosen.subject.model_for(question.of, chosen.rows)
    return Asking(question, model, chosen.rows, options, background)
