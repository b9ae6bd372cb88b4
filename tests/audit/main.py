"""`./scripts/audit`: every private mechanism, real and broken, with the epsilon that is stated and what can be proven."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.audit.findings import CONFIDENCE, FAMILY, Bound
from tests.audit.rows import SUBJECTS, Outcome, Row, conclusion, examined, rows

HELP = """
A canary is a row, or a partner's contribution, that a guesser looks for in what a mechanism put out; the guesser sees
what the accountant assumes to be seen, and knows everything else. From how often it is right follows a lower bound of
epsilon (docs/privacy.md, "What the audit finds"):

  game      many runs with the canary and without: a threshold from one half of them, judged on the other, and the
            shares bounded as Clopper and Pearson do
  one run   many canaries in one training, each in or out by its own coin (Steinke, Nasr and Jagielski 2023)

A broken mechanism is the real one with one seam replaced. It is caught where its bound lies above the stated epsilon,
or by a look from inside: the audit of outputs would need more trials there than anybody has.

The canaries' coins are seeded; noise and samples are the mechanisms' own, so every run finds other numbers.
"""


def line(outcome: Outcome) -> str:
    """For people."""
    finding, row = outcome.finding, outcome.row
    if isinstance(finding, Bound):
        cells, by = (f"{finding.stated:.3f}", f"{finding.least:.3f}", f"{finding.trials:,}"), str(finding.method)
    else:
        cells, by = ("", "", ""), f"{finding.what} ({Path(finding.test.partition('::')[0]).name})"
    return _columns(f"  {row.broken}" if row.broken else row.subject, *cells, f"{outcome.verdict}: {by}")


def _columns(name: str, stated: str, least: str, count: str, verdict: str) -> str:
    return f"{name:<42} {stated:>7} {least:>9} {count:>10}  {verdict}"


def outcomes(chosen: list[Row], *, quick: bool) -> Iterator[Outcome]:
    """Each row in its order, a process for each core: a noise stream is not carried over a fork."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(chosen), os.cpu_count() or 1), mp_context=context) as pool:
        yield from pool.map(partial(examined, quick=quick), chosen)


def audit(chosen: list[Row], *, quick: bool, as_json: bool) -> int:
    """Print what is found; how many rows went wrong."""
    done: list[Outcome] = []
    live = sys.stderr.isatty()
    if not as_json:
        sys.stdout.write(_columns("mechanism", "stated", "at least", "trials", "verdict") + "\n")
    for outcome in outcomes(chosen, quick=quick):
        done.append(outcome)
        if not as_json:
            sys.stdout.write(f"\r{line(outcome)}\n" if live else f"{line(outcome)}\n")
            sys.stdout.flush()
        if live:
            sys.stderr.write(f"\r{len(done)} of {len(chosen)} " if len(done) < len(chosen) else "\r")
            sys.stderr.flush()
    wrong = sum(not one.right for one in done)
    if as_json:
        document = {
            "confidence": CONFIDENCE, "false_alarms": FAMILY, "rows": [one.document for one in done],
            "conclusion": conclusion(done), "wrong": wrong,
        }  # fmt: skip
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        sys.stdout.write(
            f"\nBounds hold with a confidence of {CONFIDENCE:.3%} each: a right mechanism is accused by chance in one run "
            f"of {1 / FAMILY:,.0f} at most.\n{conclusion(done)}\n"
        )
    return wrong


def main() -> int:
    """1 where a broken mechanism was not caught, or a real one was accused."""
    parser = argparse.ArgumentParser(
        prog="./scripts/audit",
        description="Audit every private mechanism: a lower bound of epsilon beside the stated one, and broken mechanisms.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="mechanisms whose name has one of these words; else all"
    )
    parser.add_argument("--quick", action="store_true", help="fewer trials: under a minute on two cores")
    parser.add_argument("--json", action="store_true", help="one document at the end, for programs")
    args = parser.parse_args()
    chosen = [one for one in SUBJECTS.values() if not args.words or any(word in one.name for word in args.words)]
    if not chosen:
        parser.error(f"no mechanism has such a name: they are {'; '.join(SUBJECTS)}")
    return min(1, audit(list(rows(chosen)), quick=args.quick, as_json=args.json))


if __name__ == "__main__":
    sys.exit(main())
