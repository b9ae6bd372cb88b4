"""Write tensors.json: `python tests/vectors/make_tensors.py`. Change it only with the format's version."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from aimass.proto.tensors import encode_numpy

MODELS = [
    {},
    {"scalar": {"dtype": "float64", "shape": [], "values": 1.5}},
    {
        "b.weight": {"dtype": "float32", "shape": [2, 2], "values": [[1, 2], [3, 4]]},
        "a.count": {"dtype": "int64", "shape": [1], "values": [7]},
        "mask": {"dtype": "bool", "shape": [3], "values": [True, False, True]},
        "empty": {"dtype": "float16", "shape": [0], "values": []},
    },
]


def main() -> None:
    vectors = []
    for model in MODELS:
        arrays = {n: np.array(v["values"], dtype=v["dtype"]).reshape(v["shape"]) for n, v in model.items()}  # type: ignore[call-overload]
        blob = encode_numpy(arrays)
        vectors.append({"model": model, "hex": blob.hex(), "sha256": hashlib.sha256(blob).hexdigest()})
    Path(__file__).with_name("tensors.json").write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
