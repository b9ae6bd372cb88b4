"""The robust rules once more, as plainly as they can be said: whole matrices, distances by subtraction, loops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


def oracle(rule: str, x: Matrix, f: int) -> Matrix:
    """A rule's value over the rows of `x`."""
    n = len(x)
    match rule:
        case "median":
            made = np.median(x, axis=0)
        case "trimmed":
            made = np.mean([np.sort(x, axis=0)[place] for place in range(f, n - f)], axis=0)
        case "clipped":
            norms = np.linalg.norm(x, axis=1)
            made = np.mean(
                [row * min(1.0, np.median(norms) / max(norm, 1e-300)) for row, norm in zip(x, norms, strict=True)],
                axis=0,
            )
        case "krum":
            made = x[min(range(n), key=lambda i: _score(x, f, i))]
        case "multi-krum":
            best = sorted(range(n), key=lambda i: _score(x, f, i))[: n - f - 2]
            made = x[best].mean(axis=0)
        case "geometric-median":
            made = _weiszfeld(x)
        case _:
            raise ValueError(rule)
    return np.asarray(made)


def _score(x: Matrix, f: int, i: int) -> float:
    distances = sorted(float(np.sum((x[i] - x[j]) ** 2)) for j in range(len(x)) if j != i)
    return sum(distances[: len(x) - f - 2])


def _weiszfeld(x: Matrix) -> Matrix:
    """Pillutla et al. 2022, algorithm 2, from zero; far more iterations change nothing that is seen here."""
    v = np.zeros(x.shape[1])
    nu = max(1e-6 * float(np.median(np.linalg.norm(x, axis=1))), 1e-300)
    for _ in range(100):
        b = 1 / np.maximum(np.linalg.norm(v - x, axis=1), nu)
        v = (b[:, None] * x).sum(axis=0) / b.sum()
    return v
