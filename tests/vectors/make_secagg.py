"""Write secagg/*.json: `python -m tests.vectors.make_secagg`. Change them only with the protocol's version."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.secagg_vectors import FILES


def main() -> None:
    for name, made in FILES.items():
        Path(__file__).with_name("secagg").joinpath(f"{name}.json").write_text(json.dumps(made(), indent=1) + "\n")


if __name__ == "__main__":
    main()
