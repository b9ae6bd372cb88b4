"""Models: the registry's versions, what each promises, where it comes from; operators promote and roll back."""

from __future__ import annotations

from typing import Final

import streamlit as st

from aimass.explain.app.choosing import linked, linked_within
from aimass.explain.app.house import Here
from aimass.explain.app.shell import empty, header, told_error
from aimass.explain.app.unmet import bound
from aimass.explain.app.wording import moment, plain, size, with_code
from aimass.privacy.pki import Role
from aimass.proto.errors import AimassError
from aimass.proto.registry.comparing import differences
from aimass.proto.registry.entries import CHAMPION
from aimass.proto.registry.lineage import as_dot, as_text, lineage_of
from aimass.proto.registry.moving import Judged, Mover, find_mover
from aimass.proto.registry.places import meant_trust
from aimass.proto.registry.reader import Resolved
from aimass.proto.registry.wording import interval_text, privacy_text

__all__ = ["render"]

_NONE: Final = "none"
_COLUMNS: Final = frozenset({"version", "named", "published", "signed by", "privacy", "run", "size", "digest"})
_JUDGED_S: Final = 60.0


def render(here: Here) -> None:
    """One model's versions, by choice or by the address."""
    header("Models", "Which versions there are, how good each is, where it comes from, and which is served.")
    if not here.sources.registry_url:
        empty(
            "This app knows no registry.",
            "Start it with --registry URL, or set AIMASS_REGISTRY.",
            "aimass explain app --registry s3://models/prod",
        )
        return
    names = here.sources.model_names()
    if not names:
        empty(
            "The registry holds no model yet.",
            f"It is {plain(here.sources.registry_url)}. Publish a run's model there, or name another with --registry.",
            "aimass model publish last --as scientist --name heart",
        )
        return
    name = linked_within("registered", "Model", names, ("version", "against"))
    if name is not None:
        _model(here, name)


def _model(here: Here, name: str) -> None:
    believed = [one for _, one in here.sources.versions(name) if isinstance(one, Resolved)]
    doubted = [(number, one) for number, one in here.sources.versions(name) if isinstance(one, AimassError)]
    aliases = _aliases(here, name)
    if believed:
        st.dataframe([_row(one, aliases) for one in believed], hide_index=True, key=f"versions-{name}")
    for number, error in doubted:
        st.warning(with_code(f"Version {number} is not believed, and nothing of it is used: {error.sentence()}"))
    if not believed:
        return
    numbers = {str(one.version.number): one for one in believed}
    chosen = linked("version", "Version", list(numbers), named=lambda one: f"{name}@{one}")
    if chosen is None:
        return
    _version(numbers[chosen], numbers)
    _family(here, name, believed, aliases)
    if here.person.role is Role.OPERATOR:
        _moving(here, name, numbers[chosen], aliases)


def _aliases(here: Here, name: str) -> dict[str, int]:
    """Which number each alias names, where that is believed."""
    found: dict[str, int] = {}
    for alias in here.sources.aliases(name):
        try:
            found[alias] = here.sources.resolved(f"{name}@{alias}").version.number
        except AimassError as error:
            told_error(error)
    return found


def _row(one: Resolved, aliases: dict[str, int]) -> dict[str, object]:
    version = one.version
    named = ", ".join(alias for alias, number in aliases.items() if number == version.number)
    metrics = {metric: interval_text(found) for metric, found in version.metrics.items()}
    return {
        "version": version.number,
        "named": named,
        "published": moment(version.created_at),
        "signed by": one.signer,
        **{name: told for name, told in metrics.items() if name not in _COLUMNS},
        "privacy": privacy_text(version.privacy),
        "run": "" if version.run is None else version.run.run_id[:8],
        "size": size(version.parameters.bytes),
        "digest": version.parameters.digest[:12],
    }


def _version(one: Resolved, numbers: dict[str, Resolved]) -> None:
    version = one.version
    card, compare = st.tabs(["Card", "Compare"], key=bound("told"), bind="query-params")
    with card:
        st.caption(f"Written by {plain(one.signer)}, who published the version: these are their words.")
        with st.container(border=True):
            st.markdown(version.card or "This version was published without a card.")
        st.download_button(
            "Download the card",
            version.card,
            file_name=f"{version.name}-{version.number}.md",
            key=f"card-{version.number}",
            on_click="ignore",
            icon=":material/download:",
        )
    with compare:
        others = [_NONE, *(number for number in numbers if number != str(version.number))]
        other = linked("against", "Compare with", others, named=lambda one: one if one == _NONE else f"version {one}")
        if other is not None and other != _NONE:
            _compared(numbers[other], one)


def _compared(first: Resolved, second: Resolved) -> None:
    told = differences(first.version, second.version)
    if not told:
        st.markdown("The two say the same of task, columns, metrics, privacy, contributors and lineage.")
        return
    st.dataframe(
        {
            "what": [one.what for one in told],
            str(first): [one.first for one in told],
            str(second): [one.second for one in told],
            "change": [one.change for one in told],
        },
        hide_index=True,
        key="differences",
    )
    st.caption("Intervals that overlap do not tell which version is better.")


def _family(here: Here, name: str, believed: list[Resolved], aliases: dict[str, int]) -> None:
    lineage = lineage_of(name, believed, aliases)
    with st.expander("Lineage", icon=":material/account_tree:"):
        st.graphviz_chart(as_dot(lineage))
        st.code(as_text(lineage), language=None)
    with st.expander("History of the aliases", icon=":material/history:"):
        states = [state for alias in aliases for state in here.sources.registry().history(name, alias)]
        st.dataframe(
            [
                {
                    "when": moment(state.at),
                    "alias": state.alias,
                    "names": f"version {state.version}",
                    "by": state.by,
                    "why": state.reason,
                }
                for state in sorted(states, key=lambda state: -state.at)
            ],
            hide_index=True,
            key=f"history-{name}",
        )


# ---------------------------------------------------------------- operators


def _moving(here: Here, name: str, one: Resolved, aliases: dict[str, int]) -> None:
    """Promote and roll back, signed with the operator's own key, after a typed confirmation."""
    st.subheader("Promote or roll back", anchor=False)
    folder = here.sources.folder()
    if here.person.token is not None or folder is None:
        st.info("Who promotes signs with their own key, which this app does not hold. Type where your folder is:")
        st.code(f"aimass model promote {one} --as FOLDER", language=None)
        return
    mover = find_mover(here.sources.registry_url, meant_trust(here.settings.trust), folder)
    promote, back = st.columns(2)
    with promote:
        _promote(here, mover, one, aliases)
    with back:
        _roll_back(here, mover, name, aliases)


def _promote(here: Here, mover: Mover, one: Resolved, aliases: dict[str, int]) -> None:
    known = dict.fromkeys([CHAMPION, "candidate", *aliases])
    alias = st.selectbox("Let the alias", list(known), key="alias")
    judged = _judged(here, mover, str(one)) if alias == CHAMPION else None
    reason = st.text_input("Because", key="promote-because", placeholder="for who reads the history")
    typed = st.text_input(f"Type {one} to confirm", key="promote-typed")
    allowed = typed == str(one) and bool(reason.strip()) and (judged is None or judged.passed)
    if st.button(f"Name {one} as {alias}", disabled=not allowed, key="promote", type="primary"):
        _done(here, f"{mover.promote(str(one), str(alias), reason).alias} names {one} now.")


def _judged(here: Here, mover: Mover, reference: str) -> Judged | None:
    """What the rules say, tried once a minute at most: smoke inputs are run for it."""
    found = here.sources.remembered(f"judged {reference}", _JUDGED_S, lambda: mover.judged(reference))
    if not isinstance(found, Judged):
        st.caption("Nobody has set promotion rules for this model: you decide alone.")
        return None
    for rule, holds, said in found.verdicts:
        st.markdown(f"{':green-badge[holds]' if holds else ':red-badge[does not hold]'} {plain(rule)}: {plain(said)}")
    if not found.passed:
        st.caption("A rule does not hold. `aimass model promote --despite-rules` promotes all the same, and says so.")
    return found


def _roll_back(here: Here, mover: Mover, name: str, aliases: dict[str, int]) -> None:
    if not aliases:
        st.caption("No alias names a version yet.")
        return
    alias = st.selectbox("Take back the alias", list(aliases), key="back-alias")
    reason = st.text_input("Because", key="back-because", placeholder="for who reads the history")
    typed = st.text_input(f"Type {name}@{alias} to confirm", key="back-typed")
    allowed = typed == f"{name}@{alias}" and bool(reason.strip())
    if st.button(f"Roll {alias} back", disabled=not allowed, key="back"):
        state = mover.roll_back(name, str(alias), reason)
        _done(here, f"{alias} names version {state.version} again.")


def _done(here: Here, said: str) -> None:
    """Everybody sees the change at once."""
    here.sources.forget()
    st.toast(said)
    for key in ("promote-typed", "back-typed"):
        st.session_state.pop(key, None)
    st.rerun()
