"""What the doctor says of `[people]`: whether tokens could be checked, and whether somebody may bring them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aimass.privacy.trust_bundle import Trust
from aimass.proto.checks import Finding, fault, good, of_error
from aimass.proto.errors import AimassError
from aimass.server.people.key_sets import read_key_set
from aimass.server.people.settings import PeopleSettings
from aimass.server.people.sources import key_source

__all__ = ["people_findings"]


def people_findings(settings: PeopleSettings, folder: Path, trust: Trust | None) -> Iterator[Finding]:
    """Nothing where no token counts. Asks the provider for its keys."""
    if not settings.issuer:
        return
    try:
        keys = read_key_set(key_source(settings, folder)(), settings.algorithms)
    except AimassError as error:
        yield of_error("people", error, error.cure or "Look at people.keys: the provider's jwks_uri, or a file.")
    else:
        yield good("people", f"keys of {settings.issuer} that tokens may be signed with: {len(keys)}")
    if trust is None:
        return
    for name in settings.services:
        if f"service/{name}" not in trust.certificates:
            what = f"the service {name}, which may bring people, has no certificate"
            fix = f"aimass pki token {name} --role service at the root, and enrol it; or mend people.services."
            yield fault("people", "people.service_unknown", what, fix)
