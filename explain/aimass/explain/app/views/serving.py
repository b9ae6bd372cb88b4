"""Serving: which versions answer where, how well, what drifts, and what was decided at night, with its reason."""

from __future__ import annotations

import math
from typing import Final, cast

import streamlit as st

from aimass.explain.app.house import Here
from aimass.explain.app.serving_figures import Answered, answered
from aimass.explain.app.shell import empty, header, looked, told_error
from aimass.explain.app.wording import ago, figure, in_cell, moment, plain, share, size, with_code
from aimass.proto.errors import AimassError
from aimass.proto.serving_client import ServingClient
from aimass.proto.serving_views import ModelStatus, ServingStatus, VersionStatus, sentences_of

__all__ = ["render"]

_LOOK_S: Final = 2.0


def render(here: Here) -> None:
    """Every prediction server that the app was told of."""
    header("Serving", "Which versions answer, how well, and what the servers decided by themselves.")
    if not here.settings.serving:
        empty(
            "This app knows no prediction server.",
            "Start it with --serving URL, as often as there are servers.",
            "aimass explain app --serving http://127.0.0.1:8080",
        )
        return
    _looked(here)


@looked(_LOOK_S)
def _looked(here: Here) -> None:
    for url in here.settings.serving:
        st.subheader(plain(url), anchor=False)
        try:
            status, figures = _asked(here, url)
        except AimassError as error:
            told_error(error)
            continue
        _server(url, status, figures)


def _asked(here: Here, url: str) -> tuple[ServingStatus, tuple[Answered, ...]]:
    """One server now, as the person who looks where people log in; their tabs ask it no more often than one."""

    def ask() -> object:
        settings = here.settings
        authority = settings.path(settings.serving_authority)
        client = ServingClient(url, settings.path(settings.serving_token), authority, here.person.bearer)
        return client.status(), answered(client.get("/metrics").decode("utf-8", "replace"))

    found = here.sources.remembered(f"serving {url}", _LOOK_S / 2, ask)
    return cast("tuple[ServingStatus, tuple[Answered, ...]]", found)


def _server(url: str, status: ServingStatus, figures: tuple[Answered, ...]) -> None:
    st.caption(f"AIMass {plain(status.release)}, since {moment(status.began_at)}")
    counted = {(one.model, one.version): one for one in figures}
    for model in status.models:
        _model(url, model, counted)
    if status.decisions:
        st.markdown("**Audit log**: what this server decided and found, newest first")
        st.dataframe(
            {
                "when": [moment(line.at) for line in reversed(status.decisions)],
                "model": [line.target for line in reversed(status.decisions)],
                "version": [line.version for line in reversed(status.decisions)],
                "decision": [line.kind for line in reversed(status.decisions)],
                "why": [in_cell(line.text) for line in reversed(status.decisions)],
            },
            hide_index=True,
            key=f"audit-{url}",
        )


def _model(url: str, model: ModelStatus, counted: dict[tuple[str, str], Answered]) -> None:
    state = ":green-badge[ready]" if model.state == "READY" else f":orange-badge[{plain(model.state.lower())}]"
    st.markdown(f"**{plain(model.name)}** {state} {with_code(model.reason)}")
    if model.versions:
        st.dataframe(
            [_version(version, counted.get((model.name, str(version.version)))) for version in model.versions],
            hide_index=True,
            key=f"versions-{url}-{model.name}",
        )
    if counted:
        st.caption("Errors are answers to callers who asked wrongly too; the server's own log says which.")
    if model.watch is None:
        return
    for sentence in sentences_of(model.watch):
        st.markdown(f"- {with_code(sentence)}")
    if model.watch.drift:
        with st.expander(f"Drift of {plain(model.name)}'s columns"):
            st.caption(
                "PSI compares the last window of live rows with the training rows, by bins; KS is the largest "
                "distance between both distributions. Beyond its limit a column has drifted. Drift does not say that "
                "predictions are wrong: it says that they are about other rows than the model learnt from."
            )
            st.dataframe(
                {
                    "column": [one.column for one in model.watch.drift],
                    "rows": [one.rows for one in model.watch.drift],
                    "PSI": [figure(one.index) for one in model.watch.drift],
                    "PSI limit": [figure(one.index_limit) for one in model.watch.drift],
                    "KS": [figure(one.distance) for one in model.watch.drift],
                    "KS limit": [figure(one.distance_limit) for one in model.watch.drift],
                    "drifted": ["yes" if one.drifted else "no" for one in model.watch.drift],
                },
                hide_index=True,
                key=f"drift-{url}-{model.name}",
            )


def _version(version: VersionStatus, counted: Answered | None) -> dict[str, object]:
    failed = "–" if counted is None or not counted.requests else share(counted.failed / counted.requests)
    return {
        "version": version.version,
        "share": share(version.share),
        "requests": "–" if counted is None else f"{counted.requests:,}",
        "errors": failed,
        "median below": "–" if counted is None else _seconds(counted.median),
        "99 % below": "–" if counted is None else _seconds(counted.p99),
        "workers": version.workers,
        "memory": size(version.resident_bytes),
        "published": moment(version.published_at),
        "digest": version.digest[:12],
    }


def _seconds(value: float) -> str:
    return "–" if math.isnan(value) else "over 10 s" if math.isinf(value) else ago(value)
