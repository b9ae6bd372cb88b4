"""Data: the sets of the data set service: what they hold, how clean they were, and whether their copies are whole."""

from __future__ import annotations

import time
from typing import Final

import streamlit as st

from aimass.explain.app.choosing import linked
from aimass.explain.app.house import Here
from aimass.explain.app.shell import computed, empty, frame, header, looked
from aimass.explain.app.wording import amount, moment, plain, share, size
from aimass.explain.columns_view import columns_view
from aimass.privacy.pki import Role
from aimass.proto.data_sets import DataSetManifest
from aimass.proto.data_views import DataSetView

__all__ = ["render"]

_LOOK_S: Final = 5.0
_MANIFEST_S: Final = 60.0
_REPAIR: Final = "_repair"
"""What a viewer had looked at: the set, whether every byte, and when."""


def render(here: Here) -> None:
    """All data sets, then one by choice or by the address."""
    header("Data", "Which data sets there are, what they hold, how clean they are, and whether their copies are whole.")
    if not here.sources.has_data_sets:
        empty(
            "This app knows no data set service.",
            "Start it with --as FOLDER and --data HOST:PORT.",
            "aimass explain app --as operator --data 127.0.0.1:8445",
        )
        return
    names = [one.name for one in here.sources.all_data_sets().data_sets]
    _listed(here)
    if not names:
        empty("There is no data set yet.", "Cut rows into shards and register them.", "aimass data split --help")
        return
    name = linked("set", "Data set", names)
    if name is not None:
        _one(here, next(one for one in here.sources.all_data_sets().data_sets if one.name == name))


@looked(_LOOK_S)
def _listed(here: Here) -> None:
    found = here.sources.all_data_sets()
    if found.data_sets:
        st.dataframe([_row(one) for one in found.data_sets], hide_index=True, key="data-sets")
    for name, code in found.faults.items():
        st.warning(plain(f"{name} cannot be shown: {code}."))


def _row(one: DataSetView) -> dict[str, object]:
    return {
        "data set": one.name,
        "version": one.version,
        "schema": one.schema,
        "rows": f"{one.rows:,}",
        "size": size(one.bytes),
        "shards": one.shards,
        "copies": one.copies,
        "health": _health(one),
        "made": moment(one.created_at),
        "licence": one.licence,
    }


def _health(view: DataSetView) -> str:
    health = view.health
    if health is None:
        return "not looked at yet"
    if health.lost:
        return f"{amount(len(health.lost), 'shard')} lost"
    if health.away:
        return f"{amount(len(health.away), 'store')} away"
    if health.whole:
        return "whole"
    return f"{amount(health.under_replicated, 'shard')} with too few copies"


def _one(here: Here, view: DataSetView) -> None:
    versions = [str(number) for number in reversed(view.versions)]
    version = linked("set-version", "Version", versions, named=lambda one: f"{view.name}@{one}")
    if version is None:
        return
    called = f"{view.name}@{version}"
    found = here.sources.remembered(
        f"manifest {called}", _MANIFEST_S, lambda: here.sources.data_sets().manifest(called)
    )
    if not isinstance(found, DataSetManifest):
        return
    _copies(here, view)
    _quality(found)
    frame(columns_view(found), f"columns-{view.name}-{version}", "What the columns hold")
    _origin(found)


def _copies(here: Here, view: DataSetView) -> None:
    st.subheader("Copies", anchor=False)
    health = view.health
    st.markdown(
        f"{amount(view.copies, 'copy', 'copies')} of each shard {'belongs' if view.copies == 1 else 'belong'} in "
        f"{plain(', '.join(view.stores))}. "
        + ("Nobody has looked at them yet." if health is None else f"Last look {moment(health.looked_at)}.")
    )
    if view.home_away:
        st.warning(plain(f"The set's home {view.home_away} does not answer: it may have a newer version."))
    if health is not None:
        columns = st.columns(5)
        told = (
            ("Good copies", f"{health.good:,}"),
            ("Missing", f"{health.missing}"),
            ("False", f"{health.false}"),
            ("Mended", f"{health.mended}"),
            ("Lost shards", f"{len(health.lost)}"),
        )
        for column, (label, value) in zip(columns, told, strict=True):
            column.metric(label, value)
        for store in health.away:
            st.warning(plain(f"The store {store} did not answer at the last look."))
    if here.person.role is Role.OPERATOR:
        deep = st.toggle("Read every byte", key="repair-deep", help="Slow: all copies are fetched and checked.")
        if st.button("Look now, and mend", key="repair", icon=":material/build:"):
            st.session_state[_REPAIR] = (view.name, deep, time.time())
    if asked := st.session_state.get(_REPAIR):
        name, deep, at = asked
        key = f"repair {name} {deep} {at} {here.viewer}"
        found = computed(here, key, f"Copies of {name}", lambda _: here.sources.data_sets().repair(name, deep=deep))
        if found is not None:
            del st.session_state[_REPAIR]
            here.sources.forget()
            st.rerun()


def _quality(found: DataSetManifest) -> None:
    st.subheader("Quality", anchor=False)
    quality = found.quality
    columns = st.columns(4)
    told = (
        ("Rows kept", f"{found.rows:,}"),
        ("Dropped", share(quality.dropped / max(1, quality.rows_read))),
        ("Duplicates", f"{quality.duplicates:,}"),
        ("Leaked", f"{quality.leaked:,}"),
    )
    for column, (label, value) in zip(columns, told, strict=True):
        column.metric(label, value)
    st.caption(
        "Dropped rows have a cell that does not fit the schema, or no label. A leaked row is held out while an equal "
        "one is trained on: figures on held-out rows flatter the model by as much."
    )
    if quality.findings:
        st.dataframe(
            {"column": list(quality.findings), "cells that do not fit": list(quality.findings.values())},
            hide_index=True,
            key="findings",
        )


def _origin(found: DataSetManifest) -> None:
    with st.expander("Where it comes from, and its shards", icon=":material/account_tree:"):
        after = "" if found.lineage.parent is None else f", after version {found.lineage.parent}"
        st.markdown(
            f"Made {moment(found.created_at)} by {plain(found.lineage.tool)}{after}, split by "
            f"`{found.split}`; {share(found.held_out)} of each shard is held out, {found.held_out_by}. "
            f"Licence: {plain(found.licence or 'none was stated')}."
        )
        st.dataframe(
            {
                "source": [one.name for one in found.lineage.sources],
                "size": [size(one.size) for one in found.lineage.sources],
                "SHA-256": [one.sha256[:16] for one in found.lineage.sources],
            },
            hide_index=True,
            key="sources",
        )
        st.dataframe(
            {
                "shard": [one.number for one in found.shards],
                "participant": [one.participant for one in found.shards],
                "rows": [one.rows for one in found.shards],
                "size": [size(one.size) for one in found.shards],
                "SHA-256": [one.sha256[:16] for one in found.shards],
            },
            hide_index=True,
            key="shards",
        )
