"""What a participant keeps between the steps of a run: named sections of tensors in one canonical blob.

A section belongs to one mechanism (an optimiser's moments, own layers) that alone knows what its tensors mean. The
blob names its tensors `SECTION/TENSOR`. Before there were sections, all was an optimiser's, as `POSITION/KEY`: such a
blob is read as that section.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from aimass.proto.errors import AimassError, BadInput
from aimass.proto.tensors import Blob, encode_torch

if TYPE_CHECKING:
    import torch

__all__ = ["RUN", "RUN_ID", "Section", "State", "pack_state", "run_section", "section_of", "unpack_state"]

Section = Mapping[str, "torch.Tensor"]
State = bytes | memoryview
"""What was kept, or the file of it, mapped: it may be larger than the model."""

RUN: Final = "run"
"""The section that says whose state it is, where what is kept would be wrong in another run without a sign of it."""
RUN_ID: Final = f"{RUN}/id"
"""Its tensor in the blob."""


def run_section(run_id: str) -> Section:
    """The run's id, as a section; empty where there is none."""
    import torch  # noqa: PLC0415  (seconds, which a daemon that only looks at states does not need)

    return {"id": torch.frombuffer(bytearray(run_id.encode()), dtype=torch.uint8)} if run_id else {}


def pack_state(sections: Mapping[str, Section]) -> bytes:
    """The blob of all sections; empty where they are."""
    tensors = {f"{section}/{name}": value for section, held in sections.items() for name, value in held.items()}
    return encode_torch(tensors) if tensors else b""


def unpack_state(state: State) -> dict[str, dict[str, torch.Tensor]]:
    """The sections of a blob, none of an empty one. Raises `BadInput` for what `pack_state` did not make."""
    sections: dict[str, dict[str, torch.Tensor]] = {}
    for section, name, value in _tensors(state):
        sections.setdefault(section, {})[name] = value.clone()
    return sections


def section_of(state: State, wanted: str) -> dict[str, torch.Tensor]:
    """One section of a blob, empty where it has none; the others, which may be as large as the model, are not read.

    Raises as `unpack_state` does.
    """
    return {name: value.clone() for section, name, value in _tensors(state) if section == wanted}


def _tensors(state: State) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Section, name and value of each tensor, over the blob's own bytes."""
    if not state:
        return
    try:
        blob = Blob(state)
        for name in blob.layout.by_name:
            section, _, tensor = (f"optimizer/{name}" if name[:1].isdigit() else name).partition("/")
            yield section, tensor, blob.torch(name)
    except AimassError as error:
        raise BadInput("what was kept between steps cannot be read", code="trainer.local_state") from error
