"""Layers that keep rows apart: they compute what those compute whose place they take, and nothing else is replaced."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aimass.proto.private_layers import counterpart, private_layers

SIZES = (5, 3, 8)


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        (nn.LSTM(8, 6, num_layers=2, batch_first=True), "opacus.layers.DPLSTM(8, 6, num_layers=2, batch_first=True)"),
        (nn.GRU(8, 6, bidirectional=True), "opacus.layers.DPGRU(8, 6, bidirectional=True)"),
        (nn.RNN(8, 6, nonlinearity="relu"), "opacus.layers.DPRNN(8, 6, nonlinearity='relu')"),
    ],
)
def test_a_recurrent_layers_counterpart_computes_the_same(layer: nn.Module, code: str) -> None:
    found = counterpart(layer)
    assert found is not None
    assert found.code == code
    x = torch.randn(SIZES)
    torch.testing.assert_close(found.layer(x)[0], layer(x)[0])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [8, 4])
def test_attentions_counterpart_computes_the_same_under_every_mask(bias: bool, width: int) -> None:
    torch.manual_seed(1)
    layer = nn.MultiheadAttention(8, 2, bias=bias, kdim=width, vdim=width, batch_first=True)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    found = counterpart(layer)
    assert found is not None
    query, keys = torch.randn(SIZES), torch.randn(5, 4, width)
    hidden, added = torch.rand(3, 4) < 0.5, torch.randn(10, 3, 4)
    hidden[:, 0] = False
    for options in (
        {},
        {"need_weights": False},
        {"average_attn_weights": False},
        {"key_padding_mask": torch.tensor([[False, False, True, True]] * 5)},
        {"attn_mask": hidden},
        {"attn_mask": added},
    ):
        ours, theirs = (each(query, keys, keys, **options) for each in (found.layer, layer))
        torch.testing.assert_close(ours[0], theirs[0])
        assert (ours[1] is None) == (theirs[1] is None)
        if ours[1] is not None:
            torch.testing.assert_close(ours[1], theirs[1])


@pytest.mark.parametrize("training", [True, False])
def test_an_encoder_with_its_attention_replaced_computes_the_same(training: bool) -> None:
    torch.manual_seed(1)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), 2).train(training)
    x = torch.randn(SIZES)
    expected = encoder(x)
    torch.testing.assert_close(private_layers(encoder)(x), expected)


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        (nn.BatchNorm1d(16), "torch.nn.GroupNorm(1, 16)"),
        (nn.BatchNorm2d(64), "torch.nn.GroupNorm(16, 64)"),
        (nn.BatchNorm2d(18, eps=1e-3), "torch.nn.GroupNorm(2, 18, eps=0.001)"),
        (nn.BatchNorm3d(3, affine=False), "torch.nn.GroupNorm(1, 3, affine=False)"),
        (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), "torch.nn.InstanceNorm2d(4, affine=True)"),
    ],
)
def test_a_batch_norms_counterpart_has_groups_of_several_channels(layer: nn.Module, code: str) -> None:
    found = counterpart(layer)
    assert found is not None
    assert found.code == code


def test_a_norm_of_flat_features_still_tells_rows_apart() -> None:
    """A group of one number has that number for its mean: every row would come out the same."""
    found = counterpart(nn.BatchNorm1d(16))
    assert found is not None
    assert float(found.layer(torch.randn(9, 16)).detach().std(0).min()) > 0.1


def test_what_has_no_counterpart_stays() -> None:
    for layer in (
        nn.Linear(3, 3),
        nn.GroupNorm(1, 3),
        nn.InstanceNorm2d(3),
        nn.LSTM(8, 6, proj_size=2),
        nn.MultiheadAttention(8, 2),
        nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True),
    ):
        assert counterpart(layer) is None
        assert private_layers(layer) is layer


def test_every_layer_of_a_model_is_replaced_once_also_one_that_stands_in_two_places() -> None:
    shared = nn.BatchNorm1d(4)
    model = private_layers(nn.Sequential(nn.Linear(4, 4), shared, nn.Sequential(shared, nn.BatchNorm1d(4))))
    found = [module for module in model.modules() if isinstance(module, nn.GroupNorm)]
    assert len(found) == 2
    assert model.get_submodule("1") is model.get_submodule("2.0")
    assert isinstance(private_layers(nn.BatchNorm1d(4)), nn.GroupNorm)
