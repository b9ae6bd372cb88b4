"""The doctor in tests: what it finds in a folder, by the codes of what is not as it should be."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aimass.proto.checks import Finding, State
from aimass.proto.examination import findings_of

__all__ = ["codes", "examine", "fault_of"]


async def examine(folder: Path) -> list[Finding]:
    """All findings, away from the loop in which a test's server runs."""
    return await asyncio.to_thread(lambda: list(findings_of(folder)))


def codes(findings: list[Finding], state: State = State.FAULT) -> list[str]:
    """Codes of the findings in one state, in order."""
    return [finding.code for finding in findings if finding.state is state]


def fault_of(findings: list[Finding], code: str) -> Finding:
    """The one finding of this code, which has a cure."""
    (found,) = [finding for finding in findings if finding.code == code]
    assert found.fix, found
    return found
