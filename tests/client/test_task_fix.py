"""What a stranger does with a task that cannot be trained privately: look, have it mended, and look again."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from aimass.client.task_fix import source_fix
from aimass.proto.commands import main
from aimass.proto.task import Task

SOURCE = '''"""Ein Läufer."""

import torch

from aimass.client.tasks.mnist import Mnist
from aimass.proto.task import Task


class Strange(Mnist):
    def build(self) -> torch.nn.Module:
        def inner() -> int:
            return 784

        if self.wide: return torch.nn.Sequential(
            torch.nn.Flatten(), ToFloat(), torch.nn.Linear(inner(), 32), torch.nn.BatchNorm1d(32), torch.nn.Linear(32, 10)
        )
        ä = torch.nn.Sequential(torch.nn.Flatten(), ToFloat(), torch.nn.BatchNorm1d(784), torch.nn.Linear(784, 10)); return ä

    wide = True


class ToFloat(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float() / 255


class Other(Task):
    def build(self) -> torch.nn.Module:
        return torch.nn.BatchNorm1d(3)


task = Strange()
'''


def loaded(path: Path) -> Task:
    spec = importlib.util.spec_from_file_location("strange", path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules.pop("strange", None)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    task: Task = module.task
    return task


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task's file, which the commands take for the task `heart`."""
    path = tmp_path / "strange.py"
    path.write_text(SOURCE)
    monkeypatch.setattr("aimass.proto.task.load", lambda _: loaded(path))
    return path


def test_every_return_of_the_tasks_own_build_and_nothing_else_is_changed(source: Path) -> None:
    fix = source_fix(loaded(source))
    assert fix is not None
    assert fix.path == source
    lines = list(
        zip(SOURCE.splitlines(), [line for line in fix.after.splitlines() if "import private" not in line], strict=True)
    )
    changed = [after.strip() for before, after in lines if before != after]
    assert changed == [
        "if self.wide: return private_layers(torch.nn.Sequential(",
        "))",
        lines[16][0].strip().replace("return ä", "return private_layers(ä)"),
    ]
    names = [line for line in fix.after.splitlines() if line.startswith("from aimass")]
    assert names == sorted(names)
    assert "from aimass.proto.private_layers import private_layers" in names


def test_a_task_is_shown_what_would_help_and_mended_only_when_that_is_asked_for(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["task", "check", "heart", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [finding["state"] for finding in told["replaced"]] == ["ok"]
    assert any(line.startswith("+from aimass.proto.private_layers") for line in told["source"])
    assert source.read_text() == SOURCE
    assert main(["task", "check", "heart", "--fix"]) == 0
    assert "partners approve" in capsys.readouterr().out
    assert main(["task", "check", "heart"]) == 0
    assert "each row's gradient is its own" in capsys.readouterr().out


def test_a_source_that_is_mended_or_not_there_is_left_alone(source: Path) -> None:
    task = loaded(source)
    source.write_text(SOURCE.replace("return ä", "return private_layers(ä)"))
    assert source_fix(task) is None
    source.unlink()
    assert source_fix(task) is None


def test_what_no_other_layer_mends_is_not_written(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source.write_text(SOURCE.replace("return images.float() / 255", "return images.float() - images.float().mean(0)"))
    assert main(["task", "check", "heart", "--fix", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [finding["code"] for finding in told["replaced"]] == ["private.mixed"]
    assert "source" not in told
    assert "import private_layers" not in source.read_text()
