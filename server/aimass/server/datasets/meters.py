"""What the data set service counts as it works; data sets are named, as there are few and their operator names them."""

from __future__ import annotations

from collections.abc import Iterable

from aimass.proto.meters import Count, Reading
from aimass.proto.vitals import Vitals
from aimass.server.datasets.care import Report

__all__ = ["DataSetMeters", "readings_of"]


class DataSetMeters:
    """Handed to the parts that work; whoever looks reads them."""

    def __init__(self) -> None:
        self.looks = Count("aimass_dataset_looks", "Looks at all copies of a data set.", "depth")
        self.mended = Count("aimass_dataset_copies_mended", "Copies that were made good, or not.", "outcome")
        self.failed = Count("aimass_dataset_look_failures", "Looks that came to nothing, by the error's code.", "code")
        self.deleted = Count("aimass_dataset_objects_deleted", "Unreferenced objects that were deleted.")
        self.leases = Count("aimass_dataset_leases", "Leases that were given, renewed and given back.", "what")
        self.vitals = Vitals()

    def looked(self, report: Report) -> None:
        """Count what a look came to."""
        self.looks.add("deep" if report.deep else "quick")
        for one in report.mended:
            self.mended.add(one.outcome)


def readings_of(reports: Iterable[Report]) -> tuple[Reading, ...]:
    """How each data set was when this service looked at it last."""
    last = {(one.left.data_set,): one for one in reports}
    label = ("data_set",)
    return (
        Reading(
            "aimass_dataset_under_replicated",
            "Shards with fewer good copies than there should be.",
            {name: float(len(one.left.under_replicated)) for name, one in last.items()},
            label,
        ),
        Reading(
            "aimass_dataset_lost",
            "Shards without a true copy in any store that answered.",
            {name: float(len(one.left.lost)) for name, one in last.items()},
            label,
        ),
        Reading(
            "aimass_dataset_looked_at_seconds",
            "When it was looked at, in Unix time.",
            {name: one.at for name, one in last.items()},
            label,
        ),
    )
