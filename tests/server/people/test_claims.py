"""Every claim of a token counts: each that is missing, wrong or of another time is refused by its own name."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.pki import Role
from aimass.privacy.roster import NAME
from aimass.proto.errors import AimassError, Refused, Unauthenticated
from aimass.proto.names import PersonName
from aimass.server.people.claims import Person, read_person
from tests.support.identity import AUDIENCE, ISSUER, NOW, RULES, Provider

PROVIDER = Provider()


def read(now: float = NOW, **over: Any) -> Person:
    return read_person(PROVIDER.claims(**over), RULES, now)


def code(now: float = NOW, **over: Any) -> str:
    with pytest.raises(AimassError) as refused:
        read(now, **over)
    return refused.value.code


def test_a_doctor_is_an_analyst_until_the_token_ends() -> None:
    assert read() == Person("cleo@house", Role.ANALYST, NOW + 3600 + RULES.leeway_s)


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ({"iss": None}, "people.issuer"),
        ({"iss": ISSUER + "/"}, "people.issuer"),
        ({"iss": [ISSUER]}, "people.issuer"),
        ({"aud": None}, "people.audience"),
        ({"aud": "another-app"}, "people.audience"),
        ({"aud": [AUDIENCE + "x", AUDIENCE[:-1]]}, "people.audience"),
        ({"aud": {AUDIENCE: 1}}, "people.audience"),
        ({"aud": []}, "people.audience"),
        ({"aud": [AUDIENCE, "another-app"]}, "people.party"),
        ({"aud": [AUDIENCE, "another-app"], "azp": "another-app"}, "people.party"),
        ({"azp": "another-app"}, "people.party"),
        ({"azp": [AUDIENCE]}, "people.party"),
        ({"exp": None}, "people.time"),
        ({"iat": None}, "people.time"),
        ({"exp": str(NOW + 60)}, "people.time"),
        ({"exp": True}, "people.time"),
        ({"exp": math.nan}, "people.time"),
        ({"exp": math.inf}, "people.time"),
        ({"exp": -1}, "people.time"),
        ({"nbf": "now"}, "people.time"),
        ({"nbf": [NOW]}, "people.time"),
        ({"exp": NOW - 31}, "people.expired"),
        ({"nbf": NOW + 31}, "people.not_yet"),
        ({"iat": NOW + 31}, "people.not_yet"),
        ({"iat": NOW + 31, "nbf": NOW - 60}, "people.not_yet"),
        ({"exp": NOW + RULES.most_life_s + 1}, "people.life"),
        ({"iat": NOW + 20, "exp": NOW + 10}, "people.life"),
        ({"sub": None}, "people.name"),
        ({"sub": ""}, "people.name"),
        ({"sub": 7}, "people.name"),
        ({"sub": "../cleo"}, "people.name"),
        ({"sub": ".."}, "people.name"),
        ({"sub": "cleo\n"}, "people.name"),
        ({"sub": "clеo"}, "people.name"),
        ({"sub": "c" * 58}, "people.name"),
        ({"groups": None}, "people.no_role"),
        ({"groups": []}, "people.no_role"),
        ({"groups": ["nurses", 7, None, ["doctors"]]}, "people.no_role"),
        ({"groups": {"doctors": True}}, "people.no_role"),
        ({"groups": "doctors statisticians"}, "people.no_role"),
        ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, "people.kind"),
    ],
)  # fmt: skip
def test_a_claim_that_is_missing_or_wrong_is_refused_by_its_name(over: dict[str, Any], expected: str) -> None:
    assert code(**over) == expected


@given(st.integers(-100_000, 100_000), st.integers(0, 3600))
def test_a_token_counts_from_its_beginning_to_its_end_and_no_longer_but_for_the_leeway(at: int, begins: int) -> None:
    allowed = begins - RULES.leeway_s <= at < 3600 + RULES.leeway_s and at >= -RULES.leeway_s
    if allowed:
        assert read(NOW + at, nbf=NOW + begins).name == "cleo@house"
    else:
        assert code(NOW + at, nbf=NOW + begins) in {"people.expired", "people.not_yet"}


def test_several_audiences_need_the_application_that_the_token_was_made_for() -> None:
    assert read(aud=["another-app", AUDIENCE], azp=AUDIENCE).name == "cleo@house"
    ours = msgspec.structs.replace(RULES, clients=("the-app",))
    assert read_person(PROVIDER.claims(azp="the-app"), ours, NOW).name == "cleo@house"
    for party in (None, AUDIENCE):
        with pytest.raises(Unauthenticated, match="another application"):
            read_person(PROVIDER.claims(azp=party), ours, NOW)


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        ("doctors", Role.ANALYST),
        (["doctors", "statisticians"], Role.SCIENTIST),
        (["doctors", "admins", "statisticians"], Role.OPERATOR),
        (["nurses", "doctors"], Role.ANALYST),
    ],
)
def test_of_several_roles_the_widest_counts(groups: Any, role: Role) -> None:
    assert read(groups=groups).role is role


def test_roles_may_stand_inside_objects_as_one_provider_writes_them() -> None:
    rules = msgspec.structs.replace(RULES, role_claim="realm_access.roles")
    assert read_person(PROVIDER.claims(realm_access={"roles": ["admins"]}), rules, NOW).role is Role.OPERATOR
    others: tuple[Any, ...] = ({"roles": {}}, "admins", ["admins"], None)
    for said in others:
        with pytest.raises(Refused):
            read_person(PROVIDER.claims(realm_access=said), rules, NOW)


def test_an_address_names_somebody_only_where_the_provider_vouches_for_it() -> None:
    rules = msgspec.structs.replace(RULES, name="email")
    claims = PROVIDER.claims(email="cleo@clinic.example", email_verified=True)
    assert read_person(claims, rules, NOW).name == "cleo@clinic.example@house"
    for vouched in (None, False, "true", 1):
        with pytest.raises(Unauthenticated, match="vouch"):
            read_person(claims | {"email_verified": vouched}, rules, NOW)


@given(st.text(alphabet="abzAZ09._@-\n/é ", max_size=70))
def test_no_persons_name_is_a_members_and_each_fits_where_names_are_kept(value: str) -> None:
    try:
        name = read(sub=value).name
    except Unauthenticated:
        return
    assert NAME.fullmatch(name) is None
    assert name.removesuffix("@house") == value
    assert msgspec.convert(name, PersonName) == name


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=8)))
def test_claims_of_any_kind_are_refused_by_name_and_raise_nothing_else(claims: dict[str, Any]) -> None:
    with pytest.raises((Unauthenticated, Refused)):
        read_person(claims, RULES, NOW)
