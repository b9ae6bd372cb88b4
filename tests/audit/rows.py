"""The audit's rows: every subject as it is, then each way in which it can be broken."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from tests.audit.figures import FIGURES
from tests.audit.findings import Bound, Finding, Subject
from tests.audit.inside import INSIDE
from tests.audit.sums import SUMS
from tests.audit.trainings import TRAININGS

__all__ = ["SUBJECTS", "Outcome", "Row", "conclusion", "examined", "rows"]

SUBJECTS: Final = {subject.name: subject for subject in (*SUMS, *TRAININGS, *FIGURES, *INSIDE)}


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A subject by its name, and what is broken in it; nothing where that is empty."""

    subject: str
    broken: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """A row as it went."""

    row: Row
    finding: Finding
    seconds: float

    @property
    def right(self) -> bool:
        """Whether a broken mechanism was caught, or a real one was not."""
        return self.finding.caught is bool(self.row.broken)

    @property
    def verdict(self) -> str:
        if self.row.broken:
            return "caught" if self.right else "NOT CAUGHT"
        return "as stated" if self.right else "ACCUSED"

    @property
    def document(self) -> dict[str, Any]:
        """For programs."""
        finding = dataclasses.asdict(self.finding)
        return {**dataclasses.asdict(self.row), "verdict": self.verdict, **finding, "seconds": round(self.seconds, 2)}


def rows(subjects: Iterable[Subject]) -> Iterator[Row]:
    """The real ones first."""
    for subject in subjects:
        yield from (Row(subject.name, broken) for broken in ("", *subject.broken))


def examined(row: Row, quick: bool) -> Outcome:
    """Run it."""
    subject, start = SUBJECTS[row.subject], time.monotonic()
    finding = subject.examine(subject.broken[row.broken] if row.broken else subject.real, quick)
    return Outcome(row, finding, time.monotonic() - start)


def conclusion(outcomes: Iterable[Outcome]) -> str:
    """The line that counts."""
    all_ = list(outcomes)
    bounds = [one for one in all_ if not one.row.broken and isinstance(one.finding, Bound)]
    looks = [one for one in all_ if not one.row.broken and not isinstance(one.finding, Bound)]
    broken = [one for one in all_ if one.row.broken]
    by_audit = sum(one.right for one in broken if isinstance(one.finding, Bound))
    return (
        f"{len(bounds)} real mechanisms: {_share(bounds)} lower bounds below the stated epsilon, "
        f"{len(looks)} looked at from inside: {_share(looks)} as they should be; "
        f"{len(broken)} broken ones: {_share(broken)} caught "
        f"({by_audit} by the audit, {sum(one.right for one in broken) - by_audit} by structure)"
    )


def _share(outcomes: list[Outcome]) -> str:
    right = sum(one.right for one in outcomes)
    return "all" if right == len(outcomes) else f"ONLY {right}"
