"""The traffic benchmark counts the bytes that partners send."""

from __future__ import annotations

import numpy as np
import pytest
from scripts.benches.traffic_compression import WAYS, update_bytes

from aimass.client.compressing import compressed
from aimass.client.tasks.mnist import task
from aimass.proto.compression import Codec
from aimass.proto.contribution import Contribution, Group
from aimass.proto.elements import update_shapes
from aimass.proto.methods import UPDATE
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob, numpy_dtype


@pytest.mark.parametrize("way", WAYS)
def test_an_update_has_as_many_bytes_as_the_bench_says(way: str) -> None:
    shapes, compress = update_shapes(Blob(first_model(task, 1)).layout), WAYS[way]
    zeros = {name: np.zeros(shape, numpy_dtype(dtype)) for name, (dtype, shape) in shapes.items()}
    made = Contribution({UPDATE: Group(1.0, zeros)}, {}, {})
    if compress is not None:
        made, _ = compressed(Codec(compress, bytes(32), shapes), made, {}, bytes(32))
    assert len(made.encode()) == update_bytes(compress)
