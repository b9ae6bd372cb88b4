"""Write compression.json: `python -m tests.vectors.make_compression`. Change it only with the format's version."""

from __future__ import annotations

import json
from pathlib import Path

from aimass.proto.compression import mask_key, mask_places

CASES = ((1, 1, "w", 2, 9), (1, 2, "w", 2, 9), (2, 1, "w", 16, 100), (2, 1, "fc.bias", 256, 1_000), (7, 3, "w", 3, 3))

if __name__ == "__main__":
    made = [
        {"seed": seed, "round": round_, "tensor": name, "one_in": one_in, "count": count}
        | {"places": mask_places(mask_key(seed, round_), name, one_in, count, slice(0, -(-count // one_in))).tolist()}
        for seed, round_, name, one_in, count in CASES
    ]
    Path(__file__).with_name("compression.json").write_text(json.dumps(made, indent=1) + "\n")
