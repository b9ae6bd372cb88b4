"""What was found of a data set the last time, kept in its home for every service and for who asks."""

from __future__ import annotations

from aimass.proto.data_views import DataSetHealth
from aimass.proto.errors import NotFound
from aimass.proto.objects import ObjectStore
from aimass.proto.values import Value, canonical_json, decode_canonical_json
from aimass.server.datasets.care import Report
from aimass.server.datasets.layout import report_key

__all__ = ["CareRecord", "due", "health_of", "keep_record", "record_of"]


class CareRecord(Value, frozen=True):
    """The last report, and when every byte was read last, in Unix time; 0 for never."""

    report: Report
    deep_at: float = 0.0


def due(record: CareRecord | None, now: float, every_s: float, *, deep: bool) -> bool:
    """Whether the last look, or the last that read every byte, was `every_s` ago."""
    return record is None or now - (record.deep_at if deep else record.report.at) >= every_s


def record_of(store: ObjectStore, name: str) -> CareRecord | None:
    """What stands there; None before the first look."""
    try:
        return decode_canonical_json(CareRecord, store.read(report_key(name)), "what was found of a data set")
    except NotFound:
        return None


def keep_record(store: ObjectStore, report: Report, before: CareRecord | None) -> CareRecord:
    """Put `report` in its place."""
    deep_at = report.at if report.deep else 0.0 if before is None else before.deep_at
    record = CareRecord(report=report, deep_at=deep_at)
    store.put(report_key(report.left.data_set), canonical_json(record))
    return record


def health_of(report: Report) -> DataSetHealth:
    """A report as people are shown it."""
    left, documents = report.left, report.documents
    return DataSetHealth(
        looked_at=report.at,
        deep=report.deep,
        whole=report.whole,
        wanted=left.wanted,
        good=left.good,
        missing=left.missing,
        false=left.false,
        mended=sum(one.outcome == "copied" for one in report.mended) + len(documents.mirrored),
        under_replicated=len(left.under_replicated),
        away=left.away,
        lost=left.lost,
        unknown=left.unknown,
        documents=(*documents.incomplete, *documents.damaged, *documents.disputed),
    )
