"""The tables of the run store. Every change of them is a migration; a test compares the two."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

__all__ = [
    "attempts",
    "ended_studies",
    "enrolments",
    "heads",
    "ledger_heads",
    "manifests",
    "metadata",
    "models",
    "receipts",
    "runs",
    "steps",
    "traffic",
    "transcript",
]

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("key", String(200), nullable=False, unique=True),
    Column("owner", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("plan", LargeBinary, nullable=False),
    Column("plan_digest", String(64), nullable=False),
    Column("roster_digest", String(64), nullable=False),
    Column("snapshot", LargeBinary, nullable=False),
)
steps = Table(
    "steps",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("view", LargeBinary, nullable=False),
)
transcript = Table(
    "transcript",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("entry", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("head", String(64), nullable=False),
)
receipts = Table(
    "receipts",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("partner", String(63), primary_key=True),
    Column("entries", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)
heads = Table(
    "heads",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("partner", String(63), primary_key=True),
    Column("entries", Integer, nullable=False),
    Column("head", String(64), nullable=False),
    Column("signature", LargeBinary, nullable=False),
)
ledger_heads = Table(
    "ledger_heads",
    metadata,
    Column("partner", String(63), primary_key=True),
    Column("slot", String(32), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
models = Table(
    "models",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("round", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("committed_at", Float, nullable=False),
    Index("models_by_digest", "digest"),
)
manifests = Table(
    "manifests",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
traffic = Table(
    "traffic",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("down", BigInteger, nullable=False),
    Column("up", BigInteger, nullable=False),
    Column("spared", BigInteger, nullable=False),
)
attempts = Table(
    "attempts",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("entry", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("member", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
ended_studies = Table(
    "ended_studies",
    metadata,
    Column("study", String(32), primary_key=True),
    Column("ended_by", String(63), nullable=False),
    Column("ended_at", Float, nullable=False),
)
enrolments = Table(
    "enrolments",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("role", String(16), nullable=False),
    Column("request", Text, nullable=False),
    Column("received_at", Float, nullable=False),
)
