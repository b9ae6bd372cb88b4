"""What the server of a run could learn about this partner, said in plain words: pure, from the plan and the policy.

It is shown before a partner joins, and afterwards with what it did. Nobody has to know the protocol to read it.
"""

from __future__ import annotations

from aimass.client.policy import Policy
from aimass.privacy.secagg.parameters import corrupted, quorum
from aimass.privacy.secagg.rounds import ppm
from aimass.proto.plan import Plan, SecureSettings
from aimass.proto.values import Value

__all__ = ["Learning", "learning"]


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


def learning(plan: Plan, policy: Policy, participants: int) -> Learning:
    """For a run to which so many partners are invited."""
    own = sorted(set(policy.release.figures))
    figures = f"this partner's own {', '.join(own)} (policy: release.figures)" if own else ""
    if plan.secure is None:
        could = (
            "this partner's update of the model in every round that it takes part in, as it was computed",
            "how many rows it trained on" if plan.train.weight == "rows" else "that it took part",
            f"its {_listed(policy.release.metrics)}, where the task measures them (policy: release.metrics)",
        )
        could_not = ("rows, which stay here; but an update can tell a lot about rows to whoever tries",)
        return Learning(0, (*could, *((figures,) if figures else ())), (), could_not)
    return _secret(plan, plan.secure, policy, participants, figures)


def _secret(plan: Plan, secure: SecureSettings, policy: Policy, participants: int, figures: str) -> Learning:
    least = secure.min_cohort
    circle = max(least, -(-participants // secure.groups))
    measured = sorted(set(secure.metrics) & set(policy.release.metrics))
    by_rows = plan.train.weight == "rows"
    rows = "the rows that they trained on, " if by_rows else ""
    sums = "one sum" if secure.groups == 1 else f"{secure.groups} sums, each over another circle of partners"
    could = [
        (
            f"in each step {sums}, of {least} to {circle} partners: their updates, {rows}their "
            f"{_listed(measured)}, all added up and rounded"
        ),
        (
            "from two sums of which one lacks a few partners, what those few gave: nearly, where the model has hardly "
            f"moved, and exactly what is the same in every step{', as rows are' if by_rows else ''}. No sum carries "
            "noise, so this holds for one partner too"
        ),
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
    if figures:
        could.append(f"beside the sums {figures}")
    clipped = f"no coordinate of an update counts for more than {secure.clip:g}, and no partner for more than "
    weight = 1 if not by_rows else secure.max_weight
    could_not = (
        "from one sum this partner's own update, rows or metrics, nor which part of the sum is its own",
        (
            "more by trying a step again: whose word a sum came from is in no other of that step, and one model of the "
            f"run gets {policy.secure.contributions_per_model} inputs for one purpose; but a model that differs by a "
            "bit is another model"
        ),
        f"{clipped}{weight} {'row' if weight == 1 else 'rows'}: what lies beyond never leaves",
    )
    return Learning(secure.groups, tuple(could), tuple(_assumptions(secure)), could_not)


def _assumptions(secure: SecureSettings) -> list[str]:
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
    found.append("the keys in the roster that was approved here are those of the partners")
    return found


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names) if names else "metrics (none are released here)"
