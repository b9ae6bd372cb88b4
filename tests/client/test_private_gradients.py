"""Clipped sums of per-row gradients: against a loop over rows, for layers of every kind, and what breaks them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from opacus.layers import DPLSTM, DPMultiheadAttention
from torch import nn

from aimass.client.private_gradients import ClippedSums, row_losses, trained
from aimass.client.tasks.heart import task as heart
from aimass.client.tasks.mnist import Mnist
from aimass.client.tasks.mnist import task as mnist
from aimass.proto.adapters import adapted
from aimass.proto.errors import Refused
from aimass.proto.networks import FedAvgCnn
from aimass.proto.private_layers import private_layers
from tests.support.adapters import small

ROWS = 9


class Tied(nn.Module):
    """An embedding whose table is the output layer's, too."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 6, padding_idx=0)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.words.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(self.words(tokens).mean(1))
        return out


class Attention(nn.Module):
    """A transformer's layer, with Opacus's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8, padding_idx=0)
        self.attention = DPMultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.wide, self.narrow = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.words(tokens)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        out: torch.Tensor = (x + self.narrow(torch.relu(self.wide(x)))).mean(1)
        return out


class Encoder(nn.Module):
    """Torch's own, with our attention."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.layer = private_layers(nn.TransformerEncoderLayer(8, 2, 32, 0.0, batch_first=True))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(self.words(tokens)).mean(1)
        return out


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = DPLSTM(5, 7, batch_first=True)
        self.out = nn.Linear(7, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(self.lstm(x)[0][:, -1])
        return out


class Bare(nn.Module):
    """A parameter of its own, beside a layer: Opacus has no rule for it, and torch.func computes it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(5))
        self.out = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(x * self.scale)
        return out


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(torch.relu(self.layer(x)))
        return out


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4))
    model[0].weight.requires_grad_(False)
    return model


def adapters() -> nn.Module:
    """On a frozen body, and not as they begin: at zero one matrix hides the other."""
    model = small()
    for _, layer in adapted(model):
        nn.init.normal_(layer.lora_B.weight)
    return model


def tokens() -> torch.Tensor:
    return torch.randint(0, 11, (ROWS, 6))


def images() -> torch.Tensor:
    return torch.randn(ROWS, 3, 10, 10)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, 4)), lambda: torch.randn(ROWS, 5)),
    "frozen weight": (frozen, lambda: torch.randn(ROWS, 5)),
    "adapters": (adapters, lambda: torch.randn(ROWS, 6)),
    "adapters of positions": (adapters, lambda: torch.randn(ROWS, 5, 6)),
    "four dimensions": (lambda: nn.Sequential(nn.Linear(10, 4), nn.Flatten()), images),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.GroupNorm(3, 6), nn.ReLU(inplace=True),
            nn.Conv2d(6, 4, 3, groups=2), nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 4),
        ),
        images,
    ),
    "embedding": (lambda: nn.Sequential(nn.Embedding(11, 5, padding_idx=0), nn.Flatten(), nn.Linear(30, 4)), tokens),
    "tied": (Tied, tokens),
    "attention": (Attention, tokens),
    "encoder": (Encoder, tokens),
    "recurrent": (Recurrent, lambda: torch.randn(ROWS, 6, 5)),
    "bare parameter": (Bare, lambda: torch.randn(ROWS, 5)),
    "called twice": (Twice, lambda: torch.randn(ROWS, 5)),
}  # fmt: skip


def by_loop(
    model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """One row at a time, by plain autograd: the clipped sum and the norms."""
    total, norms = torch.zeros(sum(p.numel() for p in trained(model).values()), dtype=torch.float64), []
    for row in range(len(labels)):
        loss = nn.functional.cross_entropy(model(inputs[row : row + 1]), labels[row : row + 1])
        parts = torch.autograd.grad(loss, list(trained(model).values()), allow_unused=True, materialize_grads=True)
        gradient = torch.cat([part.reshape(-1) for part in parts]).double()
        norms.append(gradient.norm())
        total += gradient * min(1.0, clip / float(gradient.norm()))
    return total, torch.stack(norms)


def summed(
    model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor]:
    sums = ClippedSums(model, clip)
    total = sums.zeros()
    norms = sums.add(total, row_losses(mnist, model(inputs), labels))
    sums.close()
    return total, norms


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("share", [0.5, 1e9])
def test_a_clipped_sum_is_that_of_a_loop_over_the_rows(name: str, share: float) -> None:
    torch.manual_seed(5)
    build, rows = MODELS[name]
    model, inputs, labels = build().train(), rows(), torch.randint(0, 4, (ROWS,))
    clip = share * float(by_loop(model, inputs, labels, 1.0)[1].median())
    expected, norms = by_loop(model, inputs, labels, clip)
    total, found = summed(model, inputs, labels, clip)
    assert float((found - norms).abs().max() / norms.max()) < 1e-5
    assert float((total - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_the_sum_is_opacus_own_where_opacus_is_asked_directly() -> None:
    torch.manual_seed(5)
    build, rows = MODELS["convolutions"]
    model, inputs, labels = build().train(), rows(), torch.randint(0, 4, (ROWS,))
    model.set_submodule("2", nn.ReLU())  # in place it is more than Opacus's own hooks bear
    total, norms = summed(model, inputs, labels, 0.1)
    wrapped = GradSampleModule(model, loss_reduction="sum")
    nn.functional.cross_entropy(wrapped(inputs), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
    each = torch.cat([p.grad_sample.flatten(1) for p in model.parameters()], dim=1).double()  # type: ignore[attr-defined]
    expected = (each * (0.1 / each.norm(dim=1)).clamp(max=1)[:, None]).sum(0)
    assert float((each.norm(dim=1) - norms).abs().max()) < 1e-5
    assert float((total - expected).abs().max()) < 1e-6


def test_no_row_adds_more_than_the_clip_and_rounding_stays_far_below_what_is_accounted() -> None:
    torch.manual_seed(5)
    model = FedAvgCnn().train()
    inputs, labels = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8), torch.randint(0, 10, (64,))
    whole, _ = summed(model, inputs, labels, 0.5)
    for gone in (0, 31, 63):
        kept = torch.arange(64) != gone
        less, _ = summed(model, inputs[kept], labels[kept], 0.5)
        assert float((whole - less).norm()) <= 0.5 * (1 + 1e-5)


def test_positions_that_cancel_are_not_clipped_too_little() -> None:
    """Two positions whose shares of a row's gradient are ten thousand times the gradient itself."""

    class Cancelling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 64, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x)
            out: torch.Tensor = 1e4 * (y[:, 0] - y[:, 1])
            return out

    torch.manual_seed(5)
    model = Cancelling().train()
    near = torch.randn(ROWS, 1, 64)
    inputs, labels = torch.cat([near, near + 1e-4 * torch.randn(ROWS, 1, 64)], dim=1), torch.randint(0, 64, (ROWS,))
    _, norms = by_loop(model.double(), inputs.double(), labels, 0.01)
    total, found = summed(model.float(), inputs, labels, 0.01)
    assert float(((found - norms) / norms).abs().max()) < 1e-3
    for row in range(ROWS):
        alone, _ = summed(model, inputs[row : row + 1], labels[row : row + 1], 0.01)
        rest, _ = summed(model, inputs[torch.arange(ROWS) != row], labels[torch.arange(ROWS) != row], 0.01)
        assert float(alone.norm()) <= 0.01 * (1 + 1e-6)
        assert float((total - rest).norm()) <= 0.01 * (1 + 1e-5)


def test_a_row_whose_gradient_is_not_finite_counts_as_none() -> None:
    torch.manual_seed(5)
    for name in ("linear", "convolutions", "bare parameter"):
        build, rows = MODELS[name]
        model, inputs, labels = build().train(), rows(), torch.randint(0, 4, (ROWS,))
        inputs[3] = torch.nan
        inputs[4] = torch.inf
        kept = torch.ones(ROWS, dtype=torch.bool)
        kept[3:5] = False
        total, _ = summed(model, inputs, labels, 0.1)
        expected, _ = by_loop(model, inputs[kept], labels[kept], 0.1)
        assert float((total - expected).abs().max()) < 1e-6


def test_a_row_whose_positions_overflow_counts_as_none() -> None:
    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            steepness = torch.where(x[:, 0, :1] == 0, 1e25, 1.0)  # of rows that begin with a zero
            out: torch.Tensor = self.layer(x)[:, 0] * steepness
            return out

    torch.manual_seed(5)
    model, inputs, labels = Steep().train(), torch.randn(ROWS, 2, 64), torch.randint(0, 4, (ROWS,))
    inputs[2, 0] = 0
    total, _ = summed(model, inputs, labels, 0.1)
    kept = torch.arange(ROWS) != 2
    expected, _ = summed(model, inputs[kept], labels[kept], 0.1)
    assert float((total - expected).norm()) <= 0.1 * (1 + 1e-6)


def test_an_input_that_is_changed_after_a_layer_has_read_it_is_refused() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            read = x * 1
            out: torch.Tensor = self.layer(read)
            read += 1
            return out

    with pytest.raises(Refused) as caught:
        summed(Late(), torch.randn(ROWS, 5), torch.zeros(ROWS, dtype=torch.long), 1.0)
    assert caught.value.code == "private.inplace"


def test_a_layer_that_folds_rows_together_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(0, 1), nn.Linear(5, 4), nn.Unflatten(0, (ROWS, 2)), nn.Flatten())
    with pytest.raises(Refused) as caught:
        summed(model, torch.randn(ROWS, 2, 5), torch.zeros(ROWS, dtype=torch.long), 1.0)
    assert caught.value.code == "private.rows"


def test_a_loss_of_ones_own_is_taken_row_by_row() -> None:
    class Coupled(Mnist):
        """The mean of a batch's losses over their largest: each row's depends on the others."""

        def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            losses = nn.functional.cross_entropy(outputs, labels, reduction="none")
            return (losses / losses.max().detach().clamp(min=1)).mean()

    outputs, labels = 5 * torch.randn(ROWS, 10), torch.randint(0, 10, (ROWS,))
    losses = row_losses(Coupled(), outputs, labels)
    alone = [Coupled().loss(outputs[row : row + 1], labels[row : row + 1]) for row in range(ROWS)]
    torch.testing.assert_close(losses, torch.stack(alone))
    torch.testing.assert_close(row_losses(heart, outputs, labels).mean(), heart.loss(outputs, labels))
