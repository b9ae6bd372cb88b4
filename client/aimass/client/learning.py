"""What the server of a run could learn about this partner, said in plain words: pure, from the plan and the policy.

It is shown before a partner joins, and afterwards with what it did. Nobody has to know the protocol to read it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec

from aimass.client.policy import Policy
from aimass.privacy.dp.events import MOST_TIMES, Terms, Unit
from aimass.privacy.dp.private_terms import ANALYSES, contribution_events
from aimass.privacy.dp.unknown_model import dearest_sum, rounding_told
from aimass.privacy.secagg.parameters import corrupted, quorum
from aimass.privacy.secagg.rounds import ppm
from aimass.proto.asks import EXPLAIN
from aimass.proto.boosting import noise_of_trees
from aimass.proto.errors import Refused
from aimass.proto.personal import PERSONAL
from aimass.proto.plan import DistributedNoise, Plan, PrivacySettings, SecureSettings, planned_rounds
from aimass.proto.plan_settings import TREES
from aimass.proto.surveys import SURVEYS
from aimass.proto.values import Value

if TYPE_CHECKING:
    from aimass.privacy.dp.accounting import Figure

__all__ = ["Learning", "learning"]


_CERTAIN: Final = 700.0
"""An epsilon whose exponential is still a number."""


class Learning(Value, frozen=True):
    """What it could learn, as long as what holds, and what it could not; each a sentence.

    `sums_in_a_step` is how many sums of partners it sees, 0 where it sees each partner's own contribution.
    """

    sums_in_a_step: int
    could_learn: tuple[str, ...]
    as_long_as: tuple[str, ...]
    could_not_learn: tuple[str, ...]

    @property
    def lines(self) -> list[dict[str, str]]:
        """A row for each sentence."""
        parts = (
            ("could learn", self.could_learn),
            ("as long as", self.as_long_as),
            ("could not learn", self.could_not_learn),
        )
        return [{"the server": part, "what": sentence} for part, sentences in parts for sentence in sentences]


def learning(plan: Plan, policy: Policy, participants: int, figure: Figure | None = None) -> Learning:
    """For a run to which so many partners are invited; `figure` is what its private training costs as a whole."""
    found = _own(_by_method(_seen(plan, policy, participants), plan), plan)
    return found if plan.privacy is None else _noised(found, plan.privacy, figure)


def _by_method(found: Learning, plan: Plan) -> Learning:
    """With what a method sends beside updates, and what is said of a state that was lost."""
    told = []
    alone = "how many local steps it did in a round: where the plan counts epochs, its rows by that"
    if plan.method == "fednova":
        told.append("how many local steps all did, in the sum" if plan.secure else alone)
    if plan.method == "scaffold":
        whose = "the sum of their changes" if plan.secure else "its change"
        told.append(f"of the control variate {whose}, which is about the mean gradient of a round")
        if not plan.secure:  # update and change differ by what the server sent and by this number
            told.append(alone)
    if plan.keeps_state:
        told.append("whether this partner has lost what it keeps from round to round")
    return msgspec.structs.replace(found, could_learn=(*found.could_learn, *told))


def _own(found: Learning, plan: Plan) -> Learning:
    """With the layers and the model that never leave."""
    kept = []
    if plan.train.keep_local:
        kept.append(f"its own layers ({', '.join(plan.train.keep_local)}), which never leave")
    if any(stage.driver == PERSONAL for stage in plan.stages):
        kept.append("the model that is tuned on its rows in the end, which never leaves; its measures do, as all do")
    return msgspec.structs.replace(found, could_not_learn=(*found.could_not_learn, *kept))


def _seen(plan: Plan, policy: Policy, participants: int) -> Learning:
    """What is in the server's hands, whatever the updates were made of."""
    metrics, own = _measures(plan, policy)
    figures = f"this partner's own {', '.join(own)} (policy: release.figures)" if own else ""
    app = plan.task.kind == "app"
    if plan.secure is None and app:
        return _replies()
    if plan.secure is None:
        could = (
            "this partner's update of the model in every round that it takes part in, as it was computed",
            "how many rows it trained on" if plan.train.weight == "rows" else "that it took part",
            f"its {_listed(metrics)}, where the task measures them (policy: release.metrics)",
            *(f"by {told}" for told in _analyses(plan, policy, "its")),
        )
        rows = "rows, which stay here"
        could_not = (rows if plan.privacy else f"{rows}; but an update can tell a lot about rows to whoever tries",)
        return Learning(0, (*could, *((figures,) if figures else ())), (), could_not)
    found = _secret(plan, plan.secure, policy, participants, metrics, "" if app else figures)
    if not app:
        return found
    made = "what the app makes updates and metrics of: the code that was approved here decides, and states the rows"
    return msgspec.structs.replace(found, could_learn=(*found.could_learn, made))


def _replies() -> Learning:
    """Of an app with plain sums: the gate knows what its code is, and not what its numbers mean."""
    could = (
        (
            "everything that the app puts into its replies: arrays, numbers and text, as the code approved here "
            "makes them (the policy's `release` names what leaves of tasks, and takes nothing out of a reply)"
        ),
        "how long each reply took, and whether and where in its code the app failed",
    )
    stays = "the files of the data set and its settings, which stay here; but arrays can tell a lot about rows to "
    return Learning(0, could, (), (f"{stays}whoever tries, and an app can put anything that it reads into a reply",))


def _measures(plan: Plan, policy: Policy) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The metrics and figures that leave: of a data set with a budget none without noise."""
    noised = plan.privacy is not None and plan.privacy.metrics is not None
    if policy.protected(policy.schemas.get(plan.data_schema, "")) and not noised:
        return (), ()
    return policy.release.metrics, tuple(sorted(set(policy.release.figures)))


def _analyses(plan: Plan, policy: Policy, whose: str) -> tuple[str, ...]:
    """What the plan's analyses tell of rows that the policy releases: of a data set with a budget with noise alone."""
    return (*_columns(plan, policy, whose), *_nodes(plan, policy, whose), *_explained(plan, policy, whose))


def _explained(plan: Plan, policy: Policy, whose: str) -> tuple[str, ...]:
    """What an analysis of the model tells: its sums, tensor by tensor."""
    asked, noise = plan.explain, plan.privacy.analyses if plan.privacy is not None else None
    protected = policy.protected(policy.schemas.get(plan.data_schema, "")) and noise is None
    if asked is None or protected or EXPLAIN not in policy.release.analyses:
        return ()
    names = dict.fromkeys(f"{cells.name} ({cells.size})" for phase in asked.phases for cells in phase.cells)
    least = max(asked.least_count, policy.release.smallest_count)
    few = f", of no fewer than {least} rows here" if least > 1 else ""
    if asked.repeated:
        few += f"; two steps may differ by {asked.group} of them" + ("" if asked.group > 1 else ", which tells of it")
    how = few if noise is None else f", with noise of {noise.noise_multiplier:g} times what one row can change"
    rows = "held-out" if asked.rows == "held_out" else "training"
    what = f"the analysis {asked.name}: in {asked.steps} steps sums over {whose} {rows} rows of what the model says"
    return (f"{what}: {_listed(tuple(names))} numbers (policy: release.analyses){how}",)


def _nodes(plan: Plan, policy: Policy, whose: str) -> tuple[str, ...]:
    """What boosted trees tell."""
    noise = noise_of_trees(plan)
    protected = policy.protected(policy.schemas.get(plan.data_schema, "")) and not noise
    if protected or TREES not in policy.release.analyses or all(stage.driver != TREES for stage in plan.stages):
        return ()
    if noise:
        what = f"{TREES}: the sums of the gradients of {whose} rows in each cell of each node that the server makes"
        return (f"{what}, with noise of {noise:g} times what one row can change (policy: release.analyses)",)
    least = policy.release.smallest_count
    few = f", of no fewer than {least} rows here (policy: release.smallest_count)" if least > 1 else ""
    what = (
        f"{TREES}: in each node that the server makes, of each cell of each column, how many of {whose} rows there are "
        f"and the sums of their gradients, which tell the labels (policy: release.analyses){few}; so how columns are "
        "spread, to such cells; and by nodes, or a model, that it makes for it, single rows too"
    )
    return (what,)


def _columns(plan: Plan, policy: Policy, whose: str) -> tuple[str, ...]:
    """What surveys and statistics tell."""
    asked = sorted({stage.driver for stage in plan.stages} & set(ANALYSES) & set(policy.release.analyses))
    noise = plan.privacy.analyses if plan.privacy is not None else None
    if not asked or (noise is None and policy.protected(policy.schemas.get(plan.data_schema, ""))):
        return ()
    least = policy.release.smallest_count
    few = f", in no table of a survey a count of fewer than {least} rows here (policy: release.smallest_count)"
    few = few if least > 1 and set(asked) & set(SURVEYS) else ""
    how = f", with noise of {noise.noise_multiplier:g} times what one row can change" if noise is not None else few
    return (f"{', '.join(asked)}: how the columns of {whose} rows are spread (policy: release.analyses){how}",)


def _noised(found: Learning, privacy: PrivacySettings, figure: Figure | None) -> Learning:
    """With what the noise in each update changes: it hides one row or person, and nothing that many have in common."""
    one = "person" if privacy.unit == "person" else "row"
    could = [f"what many {one}s have in common: noise hides one {one}, and a model is for the rest"]
    if found.sums_in_a_step == 0:
        could.insert(
            0,
            "how long a step took here, and whether it failed: noise hides neither, and a model can be made so that "
            "rows decide over both",
        )
    could_not = list(found.could_not_learn)
    if one == "row":
        could.append("of somebody with several rows here more than is said of one row")
    if figure is None:
        could.append(f"whether a {one} was trained on, ever more surely: the plan names no end of its rounds")
    else:
        noised = (("noised metrics", privacy.metrics), ("noised analyses", privacy.analyses))
        seen = ", ".join(("updates", *(name for name, noise in noised if noise is not None)))
        right = 1 - (1 - figure.terms.delta) / (1 + math.exp(min(figure.epsilon, _CERTAIN)))
        could_not.insert(
            0,
            f"whether one {one} was trained on, from all {seen} of the run and whatever else is known: a guess at "
            f"even odds is right at most {100 * right:.3g} times in 100 ({figure.sentence()})",
        )
    as_long_as = (
        "the task's code, which is approved here, does with rows what training asks of it and nothing else",
        f"no other run tells of the same {one}s: `aimass client budget` has the figure of all together",
    )
    return Learning(
        found.sums_in_a_step, (*found.could_learn, *could), (*found.as_long_as, *as_long_as), tuple(could_not)
    )


def _secret(
    plan: Plan, secure: SecureSettings, policy: Policy, participants: int, metrics: tuple[str, ...], figures: str
) -> Learning:
    least = secure.min_cohort
    circle = max(least, -(-participants // secure.groups))
    measured = sorted(set(secure.metrics) & set(metrics))
    by_rows = plan.train.weight == "rows"
    rows = "the rows that they trained on, " if by_rows else ""
    sums = "one sum" if secure.groups == 1 else f"{secure.groups} sums, each over another circle of partners"
    noise = secure.noise
    noised = "" if noise is None else ". The sum of updates, and no other number, carries noise"
    could = [
        (
            f"in each step {sums}, of {least} to {circle} partners: their updates, {rows}their "
            f"{_listed(measured)}, all added up and rounded{noised}"
        ),
        _from_two(noise, by_rows),
        (
            "who took part in which step, how long it took, and whether it failed; a model can be made so that a "
            "partner's rows decide over both"
        ),
        "from many such sums, what partners have in common: a sum is no promise about rows",
    ]
    if measured:
        could.append("of a metric that few of them measure or release, the sum of those few, down to one")
    if secure.profile == "malicious":
        could.append(f"if it lies, more and smaller sums in a step, each of {least} partners at least, whom it chooses")
    could += [f"added up, by {told}" for told in _analyses(plan, policy, "all their")]
    if figures:
        could.append(f"beside the sums {figures}")
    clipped = f"no coordinate of an update counts for more than {secure.clip:g}, and no partner for more than "
    weight = 1 if not by_rows else secure.max_weight
    if noise is not None:
        clipped = f"no update counts for more than an L2 norm of {noise.clip:g}, and no partner for more than "
    could_not = (
        *(() if noise is None else (_hidden(plan, secure, noise),)),
        "from one sum this partner's own update, rows or metrics, nor which part of the sum is its own",
        (
            "more by trying a step again: whose word a sum came from is in no other of that step, and one model of the "
            f"run gets {policy.secure.contributions_per_model} inputs for one purpose; but a model that differs by a "
            "bit is another model"
        ),
        f"{clipped}{weight} {'row' if weight == 1 else 'rows'}: what lies beyond never leaves",
    )
    return Learning(secure.groups, tuple(could), tuple(_assumptions(plan, secure, policy)), could_not)


def _from_two(noise: DistributedNoise | None, by_rows: bool) -> str:
    """What a difference of sums tells."""
    few = "from two sums of which one lacks a few partners, what those few gave: "
    if noise is not None:
        return f"{few}of their updates with the noise of both sums; of metrics exactly, where few measure them"
    rows = ", as rows are" if by_rows else ""
    return (
        f"{few}nearly, where the model has hardly moved, and exactly what is the same in every step{rows}. No sum "
        "carries noise, so this holds for one partner too"
    )


def _hidden(plan: Plan, secure: SecureSettings, noise: DistributedNoise) -> str:
    """What the noise promises for a round and for all, by its own figures; never that a partner took part."""
    from aimass.privacy.dp.accounting import Accountant  # noqa: PLC0415  (accounting loads where it is needed)

    accountant = Accountant()
    terms = Terms.usual(Unit.PARTNER, noise.delta)
    try:
        events, rounds = contribution_events(secure, dearest_sum(secure)), planned_rounds(plan)
    except Refused as error:
        return f"nothing by the noise inside its sums, which no partner can account for: {error.sentence()}"
    told = f"epsilon {accountant.figure(terms, events).epsilon:.2f} at delta {noise.delta:g} a round"
    if 1 < rounds <= MOST_TIMES:
        whole = accountant.figure(terms, {(event.mechanism, event.unit): int(rounds) for event in events})
        told += f", {whole.epsilon:.2f} in all {rounds:g}"
    rounding = rounding_told(secure) or "with rounding"
    vote = ", and its vote on the clip," if noise.adaptive else ""
    return (
        f"from the sums of updates what this partner's own was: noise of {noise.multiplier:g} times the clip hides "
        f"it{vote} ({told}, {rounding}; other runs add up in this partner's ledger). That it took part is not hidden"
    )


def _assumptions(plan: Plan, secure: SecureSettings, policy: Policy) -> list[str]:
    """As the profile has them, with the numbers of the smallest sum: who is in one is for the server to choose."""
    least = secure.min_cohort
    colluders = corrupted(least, ppm(secure.colluders))
    found = []
    if colluders == 0:
        found.append("nobody whom the server takes into a sum works together with it")
    else:
        found.append(
            f"no more than {colluders} of {least} partners that the server takes into a sum work together with it (a "
            f"share of {secure.colluders:g}, and at least one)"
        )
    if secure.profile == "malicious":
        found.append(
            f"the server may lie: more than half of those whom it invites to a sum, {quorum(least, colluders)} of "
            f"{least} in the smallest, must sign for one list of who is in it before masks come off"
        )
    else:
        found.append(
            "the server follows the protocol: one that tells partners different lists of who dropped out could see "
            "this partner's own input"
        )
    if secure.noise is not None:
        silent = corrupted(secure.noise.members, ppm(secure.colluders))
        found.append(
            f"no more than {silent} of the partners in a sum leave their share of the noise out: {least - silent} "
            "shares hide what the budget says"
        )
    if secure.noise is not None or plan.privacy is not None:
        found.append(
            "no round is summed more often than once: a server may ask for up to "
            f"{policy.secure.contributions_per_model} sums on one model, for a round that came to none, and where it "
            "lies about that the figure of all rounds is larger. The ledger counts each that is asked for"
        )
    found.append("the keys in the roster that was approved here are those of the partners")
    return found


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names) if names else "metrics (none are released here)"
