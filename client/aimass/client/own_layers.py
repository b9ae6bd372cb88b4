"""A participant's own layers: trained here, kept here, in the place of the global model's wherever that is used here.

FedPer (Arivazhagan et al. 2019, algorithm 1) and LG-FedAvg (Liang et al. 2020, algorithm 1): the model is a shared part
and an own part; each participant trains both together, and the shared part alone is averaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aimass.client.local_state import Section, State, section_of
from aimass.proto.errors import BadInput
from aimass.proto.own_layers import is_own
from aimass.proto.tensors import Blob, encode_torch, odd_forms, torch_forms

__all__ = ["OWN", "own_of", "with_own_layers"]

OWN = "own"


def own_of(model: torch.nn.Module, keep_local: Sequence[str]) -> Section:
    """The model's own layers, as a section of the local state."""
    return {name: value for name, value in model.state_dict().items() if is_own(name, keep_local)}


def with_own_layers(model: Blob, state: State, keep_local: Sequence[str]) -> Blob:
    """The global model with this participant's own layers in it; as it is where none are kept yet.

    Raises `BadInput` where they are another model's.
    """
    held = section_of(state, OWN) if keep_local else {}
    if not held:
        return model
    theirs = {name: form for name, form in model.layout.shapes().items() if name in held}
    if odd := odd_forms(torch_forms(held), theirs):
        what = "the layers that are kept here are another model's"
        raise BadInput(what, code="trainer.local_state", value=", ".join(odd[:5]))
    return Blob(encode_torch({name: held.get(name, model.torch(name)) for name in model.layout.by_name}))
