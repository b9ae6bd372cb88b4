"""Write dp/noise.json: `python -m tests.vectors.make_dp`. Change it only with the protocol's version."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.dp_vectors import noise

if __name__ == "__main__":
    Path(__file__).with_name("dp").joinpath("noise.json").write_text(json.dumps(noise(), indent=1) + "\n")
