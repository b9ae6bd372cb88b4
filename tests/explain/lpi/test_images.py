"""Where a model sees what it says of an image: planted marks are found, closed forms hold, wrong methods are refused."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from captum.attr import DeepLift, IntegratedGradients, NoiseTunnel
from safetensors.torch import save
from sklearn.datasets import load_digits

from aimass.explain.images import FunctionImageModel, Images, image_model_of_function, image_model_of_task
from aimass.explain.lpi.deeplift import deeplift, why_not_deeplift
from aimass.explain.lpi.image_explaining import ImageLpiResult, explain_image
from aimass.explain.lpi.image_map import ImageMap
from aimass.explain.lpi.image_options import ImageLpiOptions
from aimass.explain.lpi.maps import LogOdds, as_tensor, baseline_of, gradcam, integrated, occlusion, smoothed
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound, Stopped
from aimass.proto.networks import FedAvgCnn, UNet
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob

DIGITS = load(locate("digits"))
Pixels = npt.NDArray[np.uint8]


class Linear(torch.nn.Module):
    """Two logits, each a weighted sum of pixels."""

    def __init__(self, weights: npt.NDArray[np.float64]) -> None:
        super().__init__()
        self.weights = torch.from_numpy(weights)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        one = (images[:, 0].double() * self.weights).sum(dim=(1, 2)) / 255
        return torch.stack([torch.zeros_like(one), one], dim=1)


class Modular(torch.nn.Module):
    """A small network of modules alone."""

    def __init__(self, *, reused: bool = False, functional: bool = False) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 3, padding=1)
        self.one = torch.nn.ReLU()
        self.other = self.one if reused else torch.nn.ReLU()
        self.output = torch.nn.Linear(4 * 64, 3)
        self.functional = functional

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.one(self.first(images / 16))
        x = self.second(x)
        x = torch.relu(x) if self.functional else self.other(x)
        logits: torch.Tensor = self.output(x.flatten(1))
        return logits


def image(seed: int, *shape: int, most: int = 255) -> Pixels:
    return np.random.default_rng(seed).integers(0, most + 1, shape).astype(np.uint8)


@functools.cache
def digits() -> Images:
    known = load_digits()
    return Images(known.images.astype(np.uint8), tuple("0123456789"), known.target.astype(np.int64), name="digits")


@functools.cache
def trained() -> bytes:
    torch.manual_seed(0)
    network = DIGITS.network(Blob(first_model(DIGITS, 0))).train()
    pixels, labels = torch.from_numpy(digits().pixels)[:, None], torch.from_numpy(digits().need_labels())
    steps = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        steps.zero_grad()
        torch.nn.functional.cross_entropy(network(pixels), labels).backward()  # type: ignore[no-untyped-call]
        steps.step()
    return save(network.state_dict())


def model(blob: bytes) -> FunctionImageModel:
    return image_model_of_task(DIGITS, Blob(blob), name="digits", digest="d")


def by_method(found: ImageLpiResult) -> dict[str, ImageMap]:
    return {one.method: one for one in found.maps}


def test_a_linear_network_has_its_closed_form() -> None:
    weights, pixels = np.random.default_rng(1).normal(size=(6, 5)), image(2, 6, 5)
    score = LogOdds(Linear(weights), 1)
    for kind in ("black", "mean", "blur"):
        baseline = baseline_of(pixels, kind)
        found, missed, _ = integrated(score, pixels, baseline, 16, 5)
        np.testing.assert_allclose(found, weights * (pixels - baseline.astype(np.float64)) / 255, atol=1e-5)
        assert missed < 1e-4
    away = np.zeros((6, 5))
    away[2, 3] = weights[2, 3] * pixels[2, 3] / 255

    def odds(some: Pixels) -> npt.NDArray[np.float64]:
        return np.asarray((some * weights).sum(axis=(1, 2)) / 255)

    alone = occlusion(odds, pixels, np.zeros((6, 5), np.float32), 1, 7)
    assert alone[2, 3] == pytest.approx(away[2, 3])


def test_a_covered_pixel_counts_with_all_its_colours_once() -> None:
    weights, pixels = np.random.default_rng(4).normal(size=(6, 5, 3)), image(5, 6, 5, 3)

    def odds(some: Pixels) -> npt.NDArray[np.float64]:
        return np.asarray((some * weights).sum(axis=(1, 2, 3)))

    alone = occlusion(odds, pixels, np.zeros((6, 5, 3), np.float32), 1, 7)
    np.testing.assert_allclose(alone, (pixels * weights).sum(axis=2), rtol=1e-4)


def test_baselines_are_what_they_say() -> None:
    pixels = image(3, 12, 12, 3)
    assert not baseline_of(pixels, "black").any()
    np.testing.assert_allclose(baseline_of(pixels, "mean")[4, 4], pixels.mean(axis=(0, 1)), rtol=1e-5)
    blurred = baseline_of(pixels, "blur")
    assert blurred.std() < 0.2 * pixels.std()
    flat = np.full((9, 9), 77, np.uint8)
    np.testing.assert_allclose(baseline_of(flat, "blur"), 77, rtol=1e-5)


def test_maps_of_a_trained_model_beat_random_orders_and_sum_to_the_change() -> None:
    found = explain_image(model(trained()), digits(), ImageLpiOptions(image=3, samples=8))
    maps = by_method(found)
    assert list(maps) == ["Integrated gradients", "With noise", "GradCAM", "Occlusion"]
    for name in ("Integrated gradients", "With noise", "Occlusion"):
        assert maps[name].beaten < 0.1
    network = model(trained()).network
    assert network is not None
    pixels = digits().pixels[3]
    score = LogOdds(network, 3)
    with torch.no_grad():
        change = float(score(as_tensor(pixels)) - score(as_tensor(np.zeros_like(pixels))))
    assert maps["Integrated gradients"].values.sum() == pytest.approx(change, rel=0.01)
    assert ImageLpiResult.from_json(found.to_json()) == found
    assert found.picture().numbers() > 4 * 64
    assert len(set(map(len, found.to_columns().values()))) == 1


def test_attributions_change_when_the_weights_are_randomised() -> None:
    learnt = by_method(explain_image(model(trained()), digits(), ImageLpiOptions(image=3, samples=4)))
    alike = []
    for seed in (4, 5, 6):
        blob = first_model(DIGITS, seed)
        drawn = by_method(explain_image(model(blob), digits(), ImageLpiOptions(image=3, output="3", samples=4)))
        alike += [np.corrcoef(learnt[name].values.ravel(), drawn[name].values.ravel())[0, 1] for name in learnt]
    assert np.mean(alike) < 0.5


def test_noise_and_orders_are_the_seeds() -> None:
    options = ImageLpiOptions(image=5, samples=2, orders=10)
    one, again = (explain_image(model(trained()), digits(), options, Work(7)) for _ in range(2))
    other = explain_image(model(trained()), digits(), options, Work(8))
    assert one == again
    assert (by_method(one)["With noise"].values != by_method(other)["With noise"].values).any()


def test_a_mark_is_found_where_it_is_planted() -> None:
    """A model of one square: every map has its largest value there."""
    weights = np.zeros((16, 16))
    weights[4:8, 10:14] = 0.2
    pixels = np.full((1, 16, 16), 200, np.uint8)
    network = Linear(weights)

    def predict(some: Pixels) -> npt.NDArray[np.float64]:
        with torch.no_grad():
            said: npt.NDArray[np.float64] = network(torch.from_numpy(some)[:, None].float()).softmax(1).numpy()
        return said

    marked = FunctionImageModel(predict, ("no", "yes"), network=network)
    found = explain_image(marked, Images(pixels, ("no", "yes")), ImageLpiOptions(output="yes"))
    assert "no convolution" in found.caveats[0]
    for one in found.maps:
        row, column = np.unravel_index(one.values.argmax(), one.values.shape)
        assert 3 <= row < 9
        assert 9 <= column < 15


def test_a_bare_function_is_asked_by_occlusion_alone() -> None:
    bare = image_model_of_function(lambda some: some.mean(axis=(1, 2, 3)) / 255, ("no", "yes"))
    found = explain_image(bare, Images(image(5, 2, 20, 24, 3)), ImageLpiOptions(image=1, output="yes"))
    assert [one.method for one in found.maps] == ["Occlusion"]
    assert any("bare function" in line for line in found.warnings())


def test_a_segmentation_is_explained_over_the_pixels_that_are_called_so() -> None:
    torch.manual_seed(2)
    network = UNet(1, 2, width=4, levels=2).eval()

    def predict(some: Pixels) -> npt.NDArray[np.float64]:
        with torch.no_grad():
            said: npt.NDArray[np.float64] = network(torch.from_numpy(some)[:, None]).double().softmax(1).numpy()
        return said

    pixels = image(6, 1, 18, 22)
    seen = FunctionImageModel(predict, ("none", "cell"), True, network=network)
    found = explain_image(seen, Images(pixels), ImageLpiOptions(samples=2, orders=10))
    region = predict(pixels)[0].argmax(axis=0) == 1
    output = found.maps[0].output
    place = ("none", "cell").index(output)
    assert found.maps[0].said == pytest.approx(predict(pixels)[0, place][region == (place == 1)].mean())
    assert found.maps[0].values.shape == (18, 22)
    never = image_model_of_function(lambda some: np.zeros(some.shape), ("none", "cell"), segments=True)
    with pytest.raises(BadInput, match="no pixel"):
        explain_image(never, Images(pixels), ImageLpiOptions(output="cell"))


def test_gradcam_names_the_last_convolution_with_places() -> None:
    torch.manual_seed(3)
    _, layer = gradcam(LogOdds(FedAvgCnn().eval(), 2), image(7, 28, 28))
    assert layer == "second"
    _, layer = gradcam(LogOdds(UNet(1, 2, width=4, levels=2).eval(), 1, np.ones((16, 16), bool)), image(8, 16, 16))
    assert layer.startswith("up.")


def test_deeplift_is_captums_where_it_is_right_and_refused_by_name_where_it_is_not() -> None:
    torch.manual_seed(4)
    pixels, baseline = image(9, 8, 8, most=16), np.zeros((8, 8), np.float32)
    good = Modular().eval()
    assert why_not_deeplift(good, as_tensor(pixels)) == ""
    found = deeplift(LogOdds(good, 1), pixels, baseline)
    centring = torch.nn.Linear(3, 1, bias=False)
    centring.weight = torch.nn.Parameter(torch.tensor([[-1 / 3, 2 / 3, -1 / 3]]))
    with pytest.warns(UserWarning, match="hooks|gradients"):
        known = DeepLift(torch.nn.Sequential(good, centring)).attribute(as_tensor(pixels), as_tensor(baseline))
    expected = known.detach().numpy()[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for network, reason in (
        (Modular(reused=True).eval(), "one called more than once"),
        (Modular(functional=True).eval(), "relu called as a function"),
    ):
        with pytest.raises(BadInput, match=reason):
            deeplift(LogOdds(network, 1), pixels, baseline)
    with pytest.raises(BadInput, match="as a function"):
        deeplift(LogOdds(FedAvgCnn().eval(), 1), image(1, 28, 28), np.zeros((28, 28), np.float32))


def test_a_map_by_deeplift_is_had_or_the_reason_why_not() -> None:
    options = ImageLpiOptions(image=1, samples=2, orders=10, deeplift=True)
    refused = explain_image(model(trained()), digits(), options)
    assert "DeepLift" not in by_method(refused)
    assert any("DeepLift would be wrong" in line for line in refused.warnings())
    torch.manual_seed(5)
    network = Modular().eval()

    def predict(some: Pixels) -> npt.NDArray[np.float64]:
        with torch.no_grad():
            said: npt.NDArray[np.float64] = network(as_tensors(some)).double().softmax(1).numpy()
        return said

    trusted = FunctionImageModel(predict, ("a", "b", "c"), network=network)
    found = explain_image(trusted, Images(digits().pixels[:2]), options)
    assert "DeepLift" in by_method(found)
    assert not found.caveats


def as_tensors(some: Pixels) -> torch.Tensor:
    return torch.from_numpy(some)[:, None].float()


def test_no_more_images_are_computed_at_once_than_fit_the_memory() -> None:
    most = [0]

    def predict(some: Pixels) -> npt.NDArray[np.float64]:
        most[0] = max(most[0], len(some))
        return np.asarray(some.mean(axis=(1, 2)) / 255)

    bare = image_model_of_function(predict, ("no", "yes"))
    pixels, little = Images(image(7, 1, 64, 64)), Work(memory_bytes=4 << 20)
    small = explain_image(bare, pixels, ImageLpiOptions(orders=10), little)
    assert most[0] <= (4 << 20) // (64 * 64 * 768)
    whole = explain_image(bare, pixels, ImageLpiOptions(orders=10))
    np.testing.assert_allclose(small.maps[0].values, whole.maps[0].values, atol=1e-5)


def test_progress_goes_forward_alone() -> None:
    shares: list[float] = []
    work = Work(tell=lambda share, _: shares.append(share))
    explain_image(model(trained()), digits(), ImageLpiOptions(samples=2, orders=10), work)
    assert len(shares) > 3
    assert shares == sorted(shares)


def test_what_cannot_be_answered_is_refused() -> None:
    few = digits().take(slice(0, 2))
    with pytest.raises(BadInput, match="no such image"):
        explain_image(model(trained()), few, ImageLpiOptions(image=2))
    with pytest.raises(NotFound, match="no such class"):
        explain_image(model(trained()), few, ImageLpiOptions(output="ten"))
    with pytest.raises(BadInput, match="another size"):
        explain_image(model(trained()), Images(image(1, 1, 9, 9)))
    with pytest.raises(Stopped):
        explain_image(model(trained()), few, work=Work(stopped=lambda: True))


# ---------------------------------------------------------------- noise


class Beside(torch.nn.Module):
    """A network beside which somebody else draws from torch's one generator, as work in another thread may."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        torch.rand(3)
        logits: torch.Tensor = self.network(images)
        return logits


def noisy(network: torch.nn.Module) -> npt.NDArray[np.float64]:
    pixels = load_digits().images[0].astype(np.uint8)
    return smoothed(LogOdds(network, 1), pixels, baseline_of(pixels, "black"), 8, 4, 16, Work(seed=3).rng("noise"))


def test_the_mean_over_noise_is_that_of_captums_tunnel() -> None:
    torch.manual_seed(0)
    network = Modular().eval()
    pixels = load_digits().images[0].astype(np.uint8)
    torch.manual_seed(int(Work(seed=3).rng("noise").integers(1 << 62)))
    tunnel = NoiseTunnel(IntegratedGradients(LogOdds(network, 1))).attribute(
        as_tensor(pixels), nt_samples=4, nt_samples_batch_size=1, stdevs=0.1 * float(np.ptp(pixels)),
        baselines=as_tensor(baseline_of(pixels, "black")), n_steps=8, internal_batch_size=16,
    )  # fmt: skip
    np.testing.assert_allclose(noisy(network), tunnel.detach().double().numpy()[0, 0], rtol=1e-5, atol=1e-7)


def test_the_noise_of_one_work_is_not_changed_by_another_beside_it_and_changes_none() -> None:
    torch.manual_seed(0)
    network = Modular().eval()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    alone = noisy(network)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(noisy(Beside(network)), alone)
