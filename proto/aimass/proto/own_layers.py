"""Which tensors of a model are each participant's own, by the patterns of a plan: `head.*` is the head and all in it.

A participant's own tensors never leave it. FedPer (Arivazhagan et al. 2019) keeps the last layers, LG-FedAvg (Liang et
al. 2020) the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from aimass.proto.errors import BadInput
from aimass.proto.tensors import Layout

__all__ = ["check_keep_local", "is_own"]


def is_own(name: str, patterns: Sequence[str]) -> bool:
    """Whether a tensor's name matches one of the patterns, where `*` stands for anything and `?` for one character."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_keep_local(model: Layout, patterns: Sequence[str]) -> None:
    """Raise `BadInput` for a pattern that matches nothing that the model trains, and where nothing is left to share."""
    trained = [name for name in model.by_name if not name.startswith("preprocess.")]
    for pattern in patterns:
        if not any(is_own(name, [pattern]) for name in trained):
            raise BadInput(
                "train.keep_local names nothing that the model trains",
                code="plan.keep_local",
                value=pattern,
                limit=", ".join(sorted(trained)[:20]),
                cure="Patterns are of tensors' names, as `head.*`.",
            )
    if patterns and all(is_own(name, patterns) for name in trained):
        raise BadInput(
            "train.keep_local keeps everything that the model trains: nothing is left to share",
            code="plan.keep_local",
            value=", ".join(patterns),
            limit=", ".join(sorted(trained)[:20]),
        )
