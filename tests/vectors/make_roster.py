"""Write roster.json: `python tests/vectors/make_roster.py`. Change it only with the format's version."""

from __future__ import annotations

import json
from pathlib import Path

from tests.privacy.test_trust import ROSTER

Path(__file__).with_name("roster.json").write_text(
    json.dumps({"hex": ROSTER.data.hex(), "sha256": ROSTER.digest}, indent=1) + "\n"
)
