"""The demo's picture: learning curves and the three ways side by side, as PNG and as one HTML page."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from scripts.demos.ways import Way

COLOURS = {"alone": "#b0643c", "federated": "#1f6f6b", "pooled": "#8a8f98", "private": "#6b4c9a"}


def draw(ways: Mapping[str, Way], path: Path) -> None:
    """Write the PNG."""

    figure, (curves, bars) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=[1.2, 1], layout="constrained")
    for name, way in ways.items():
        rounds = range(1, len(way.curve) + 1)
        width = 2.6 if name == "federated" else 1.6
        curves.plot(rounds, way.curve, color=COLOURS[name], linewidth=width, label=name)
    curves.set(xlabel="round", ylabel="AUC on held-out rows, weighted by rows", title="Learning")
    curves.xaxis.get_major_locator().set_params(integer=True)
    curves.legend(frameon=False, loc="lower right")
    partners = sorted({partner for way in ways.values() for partner in way.by_partner})
    labels = ["all", *partners]
    width = 0.78 / len(ways)
    for position, (name, way) in enumerate(ways.items()):
        values = [way.weighted, *(way.by_partner.get(partner, float("nan")) for partner in partners)]
        places = [index + (position - (len(ways) - 1) / 2) * width for index in range(len(labels))]
        bars.bar(places, values, 0.92 * width, color=COLOURS[name], label=name)
    bars.set(xticks=range(len(labels)), ylim=(0.5, 1.0), title="Side by side, by hospital")
    bars.set_xticklabels(labels, rotation=18, ha="right")
    for axes in (curves, bars):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def write_page(
    ways: Mapping[str, Way], picture: Path, page: Path, facts: Mapping[str, str], masks: Path | None = None
) -> None:
    """Write a page that opens without a network; `masks` is the picture of a masked input."""
    secret = ""
    if masks is not None:
        secret = (
            "<h2>What the server held of one update</h2>"
            f"{_image(masks, 'histograms of an update, and of the masked input that hides it')}"
        )
    partners = sorted({partner for way in ways.values() for partner in way.by_partner})
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ways)
    rows = _row("all hospitals", [way.weighted for way in ways.values()])
    rows += "".join(_row(partner, [way.by_partner.get(partner) for way in ways.values()]) for partner in partners)
    notes = "".join(f"<li>{html.escape(name)}: {html.escape(value)}</li>" for name, value in facts.items())
    page.write_text(
        "<!doctype html><meta charset=utf-8><title>AIMass demo</title>"
        "<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:62rem;padding:0 1rem}img{max-width:100%}"
        "td,th{padding:.2rem .8rem;text-align:right}td:first-child{text-align:left}</style>"
        "<h1>Four hospitals, one model, no rows moved</h1>"
        f"{_image(picture, 'learning curves and AUC by hospital')}"
        f"<table><tr><th></th>{head}</tr>{rows}</table>{secret}<ul>{notes}</ul>",
        "utf-8",
    )


def _image(path: Path, words: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{data}">'


def _row(label: str, values: Sequence[float | None]) -> str:
    cells = "".join("<td>-</td>" if value is None else f"<td>{value:.3f}</td>" for value in values)
    return f"<tr><td>{html.escape(label)}</td>{cells}</tr>"
