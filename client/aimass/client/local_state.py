"""What a participant keeps between the steps of a run: named sections of tensors in one canonical blob.

A section belongs to one mechanism (an optimiser's moments, own layers) that alone knows what its tensors mean. The
blob names its tensors `SECTION/TENSOR`. Before there were sections, all was an optimiser's, as `POSITION/KEY`: such a
blob is read as that section.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from aimass.proto.errors import AimassError, BadInput
from aimass.proto.tensors import Blob, encode_torch

__all__ = ["Section", "pack_state", "unpack_state"]

Section = Mapping[str, torch.Tensor]


def pack_state(sections: Mapping[str, Section]) -> bytes:
    """The blob of all sections; empty where they are."""
    tensors = {f"{section}/{name}": value for section, held in sections.items() for name, value in held.items()}
    return encode_torch(tensors) if tensors else b""


def unpack_state(state: bytes) -> dict[str, dict[str, torch.Tensor]]:
    """The sections of a blob, none of an empty one. Raises `BadInput` for what `pack_state` did not make."""
    sections: dict[str, dict[str, torch.Tensor]] = {}
    if not state:
        return sections
    try:
        blob = Blob(state)
        for name in blob.layout.by_name:
            section, _, tensor = (f"optimizer/{name}" if name[:1].isdigit() else name).partition("/")
            sections.setdefault(section, {})[tensor] = blob.torch(name).clone()
    except AimassError as error:
        raise BadInput("what was kept between steps cannot be read", code="trainer.local_state") from error
    return sections
