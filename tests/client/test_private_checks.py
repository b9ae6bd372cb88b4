"""Which models are trained row by row, and what the others are told."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import nn

from aimass.client.private_checks import private_findings, replacement, require_private
from aimass.client.tasks.digits import task as digits
from aimass.client.tasks.fashion import task as fashion
from aimass.client.tasks.heart import Heart
from aimass.client.tasks.heart import task as heart
from aimass.client.tasks.mnist import Mnist
from aimass.client.tasks.mnist import task as mnist
from aimass.proto.checks import State, sound
from aimass.proto.commands import main
from aimass.proto.errors import Refused
from aimass.proto.task import Task


def flat(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), Scaled(), *layers)


class Scaled(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float() / 255


class Mixing(nn.Module):
    """Takes away the batch's mean; its last layer begins at zero and hides it at first."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(784, 10)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(x - x.mean(0))
        return out


class Borrowed(nn.Module):
    """Uses a layer's weight without calling the layer, beside calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(784, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(x) + nn.functional.linear(x.flip(1), self.out.weight)
        return out


class Counting(nn.Module):
    """Keeps a mean of what it saw."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(784, 10)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.seen += x.mean()
        out: torch.Tensor = self.out(x)
        return out


class Sequence(nn.Module):
    def __init__(self, layer: nn.Module, width: int = 12) -> None:
        super().__init__()
        self.layer, self.out = layer, nn.Linear(width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.layer(images.float().reshape(-1, 28, 28) / 255)
        out: torch.Tensor = self.out(x[0][:, -1])
        return out


def of(build: Callable[[], nn.Module]) -> Task:
    class Made(Mnist):
        def build(self) -> nn.Module:
            return build()

    return Made()


BAD: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "batch norm": (lambda: flat(nn.Linear(784, 64), nn.BatchNorm1d(64), nn.Linear(64, 10)), "private.layer", "GroupNorm(1, 64)"),
    "frozen batch norm": (
        lambda: flat(nn.Linear(784, 64), nn.BatchNorm1d(64, affine=False), nn.Linear(64, 10)), "private.layer", "GroupNorm",
    ),
    "lstm": (lambda: Sequence(nn.LSTM(28, 12, batch_first=True)), "private.layer", "DPLSTM"),
    "rnn": (lambda: Sequence(nn.RNN(28, 12, batch_first=True)), "private.layer", "DPRNN(28, 12, batch_first=True)"),
    "projected lstm": (lambda: Sequence(nn.LSTM(28, 12, batch_first=True, proj_size=5), 5), "private.layer", "without LSTM"),
    "attention of another order": (
        lambda: Sequence(nn.TransformerEncoderLayer(28, 4, 16), 28), "private.layer", "batch_first=True",
    ),
    "encoder": (
        lambda: Sequence(nn.TransformerEncoderLayer(28, 4, 16, batch_first=True), 28), "private.layer", "Attention(28, 4",
    ),
    "half": (lambda: flat(nn.Linear(784, 10)).bfloat16(), "private.dtype", "float32"),
    "mixing": (lambda: flat(Mixing()), "private.mixed", ""),
    "borrowed": (lambda: flat(Borrowed()), "private.gradients", ""),
    "counting": (lambda: flat(Counting()), "private.buffers", ""),
    "circular": (
        lambda: nn.Sequential(Scaled(), nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(1568, 10)),
        "private.gradients", "",
    ),
    "nothing trained": (lambda: flat(nn.Linear(784, 10)).requires_grad_(requires_grad=False), "private.nothing", ""),
}  # fmt: skip


@pytest.mark.parametrize("task", [digits, fashion, heart, mnist])
def test_the_tasks_that_ship_can_be_trained_privately(task: Task) -> None:
    assert sound(list(private_findings(task)))


@pytest.mark.parametrize("name", BAD)
def test_what_breaks_a_rows_gradient_is_refused_by_name_with_what_replaces_it(name: str) -> None:
    build, code, fix = BAD[name]
    faults = [finding for finding in private_findings(of(build)) if finding.state is State.FAULT]
    assert faults[0].code == code
    assert fix in faults[0].fix
    with pytest.raises(Refused) as caught:
        require_private(of(build))
    assert caught.value.code == code


def test_an_instance_norm_is_refused_with_statistics_and_welcome_without() -> None:
    def model(*, statistics: bool) -> nn.Module:
        norm = nn.InstanceNorm2d(2, affine=True, track_running_stats=statistics)
        return nn.Sequential(Scaled(), nn.Conv2d(1, 2, 3), norm, nn.Flatten(), nn.Linear(2 * 26 * 26, 10))

    assert sound(list(private_findings(of(lambda: model(statistics=False)))))
    assert not sound(list(private_findings(of(lambda: model(statistics=True)))))


def test_rows_that_are_mixed_before_the_model_are_noticed() -> None:
    class Centred(Heart):
        def inputs(self, batch):  # type: ignore[no-untyped-def]
            numbers, categories = super().inputs(batch)
            return numbers - numbers.nanmean(0), categories

    assert [finding.code for finding in private_findings(Centred())] == ["private.mixed"]


def test_the_replacement_is_shown_as_a_difference() -> None:
    build, _, _ = BAD["batch norm"]
    shown = replacement(of(build)).splitlines()
    assert any(line.startswith("-") and "BatchNorm1d(64" in line for line in shown)
    assert any(line.startswith("+") and "GroupNorm(1, 64" in line for line in shown)
    assert replacement(mnist) == ""


def test_looking_leaves_torchs_randomness_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    list(private_findings(heart))
    assert torch.equal(torch.rand(1), expected)


def test_the_command_says_what_is_wrong_and_shows_what_would_be_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["task", "check", "heart"]) == 0
    assert "each row's gradient is its own" in capsys.readouterr().out
    build, _, _ = BAD["batch norm"]
    monkeypatch.setattr("aimass.proto.task.load", lambda _: of(build))
    assert main(["task", "check", "heart", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert [finding["code"] for finding in shown["findings"]] == ["private.layer"]
    assert any("GroupNorm" in line for line in shown["replacement"])
    assert main(["task", "check", "heart"]) == 1
    assert "replacement:\n" + "\n".join(shown["replacement"]) in capsys.readouterr().out
