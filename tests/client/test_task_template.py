"""A newcomer's task: what is written works, and its test goes on working when the schema becomes another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from aimass.client.task_template import write_task

OTHER = """            Number(name="stay", minimum=-3, maximum=365, unit="days"),
            Category(name="unit", values=("surgery", "icu")),
            Category(name="sent by", values=("a", "b", "c", "d", "e")),
            Text(name="note"),
        ),
        label=Category(name="readmitted", values=("never", "soon", "later"), required=True),
"""


def _tested(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def test_the_test_of_a_new_task_passes_and_still_does_with_other_columns_and_labels(tmp_path: Path) -> None:
    folder = write_task("readmission", tmp_path)
    done = _tested(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    module = folder / "readmission" / "__init__.py"
    text = module.read_text()
    start, end = text.index('            Number(name="age"'), text.index("    )\n\n    def build")
    changed = text[:start] + OTHER + text[end:]
    changed = changed.replace("Number, Schema", "Number, Schema, Text")
    module.write_text(changed.replace("Linear(16, 2)", "Linear(16, 3)"))
    done = _tested(folder)
    assert done.returncode == 0, done.stdout + done.stderr
