"""Enrolled partners in folders of their own, whose policy a test writes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from aimass.client.partner import Partner, open_partner
from aimass.privacy.enrolment import make_request
from aimass.privacy.keys import create_keys
from aimass.privacy.pki import Role
from aimass.privacy.root_store import RootStore
from aimass.proto.clock import SystemClock
from aimass.proto.durable import UNINTERRUPTED, Durability

__all__ = ["enrolled", "opened"]


def enrolled(folder: Path, names: Sequence[str], policy: str) -> RootStore:
    """A root, a server `hub` and partners below `folder`, each with rows that it declared and this policy."""
    store = RootStore.create(folder / "root", "test", time.time())
    requests = []
    for name, role, hosts in (("hub", Role.SERVER, ("localhost",)), *((name, Role.PARTNER, ()) for name in names)):
        keys = create_keys(folder / name / "keys")
        requests.append(make_request(store.token(name, role, hosts, time.time() + 60), keys))
    bundle = store.sign(requests, time.time())
    for name in names:
        home = folder / name
        (home / "trust").mkdir()
        (home / "data").mkdir()
        (home / "trust" / "bundle.json").write_bytes(bundle)
        (home / "trust" / "root.pem").write_bytes(store.root.to_pem())
        (home / "client.toml").write_text(f'name = "{name}"\nserver = "localhost:1"\nenrol = "localhost:2"\n')
        (home / "policy.toml").write_text(policy)
        (home / "data" / "x.csv").write_text(f"age,name\n63,{name}\n")
        (home / "data" / "heart.toml").write_text(
            f'name = "heart"\ndata_schema = "heart/1"\nuris = ["x.csv"]\nformat = "csv"\nparticipant = "{name}"\n'
            f'salt = "{"00" * 32}"\nheld_out = 0.2\n'
        )
    return store


def opened(folder: Path, durability: Durability = UNINTERRUPTED) -> Partner:
    """A partner as its daemon opens it."""
    return open_partner(folder, durability, SystemClock())
