"""A token's signature: only by a key of the provider's, only in a way that is allowed, over exactly these bytes."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import AimassError, Unauthenticated
from aimass.proto.secret import Secret
from aimass.server.people.key_sets import read_key_set
from aimass.server.people.tokens import MOST_BYTES, read_header, verified
from tests.support.identity import Provider, encoded, made, p384, sealed, signed

ALLOWED = ("RS256", "ES256", "Ed25519")
PROVIDER = Provider()
TOKEN = PROVIDER.token()


def claims(token: Secret, provider: Provider = PROVIDER) -> Any:
    header = read_header(token, ALLOWED)
    return verified(token, header, read_key_set(provider.key_set(), ALLOWED)[header.key_id])


def code(token: Secret, provider: Provider = PROVIDER) -> str:
    with pytest.raises(Unauthenticated) as refused:
        claims(token, provider)
    text = token.reveal().decode("latin-1")
    assert len(text) < 40 or text not in str(refused.value)
    return refused.value.code


@pytest.mark.parametrize("kind", ["RSA", "EC", "OKP"])
def test_what_the_provider_signed_is_read(kind: str) -> None:
    provider = Provider(key=made(kind))
    assert claims(provider.token(), provider)["sub"] == "cleo"


@pytest.mark.parametrize("kind", [None, "JWT", "jwt", "at+jwt", "application/at+JWT"])
def test_kinds_that_are_tokens_of_people(kind: str | None) -> None:
    assert claims(PROVIDER.token(typ=kind))["sub"] == "cleo"


@pytest.mark.parametrize("kind", ["logout+jwt", "dpop+jwt", "secevent+jwt", 7, ["JWT"]])
def test_kinds_that_are_not(kind: Any) -> None:
    assert code(PROVIDER.token(typ=kind)) == "people.kind"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "", None, 5, ["ES256"], "HS256", "es256", "ES512", "A128KW"]
)
def test_no_other_algorithm_counts_whatever_the_token_says(algorithm: Any) -> None:
    head = {"alg": algorithm} if algorithm is not None else {}
    token = sealed(PROVIDER.key, json.dumps(head | {"kid": "first"}).encode(), json.dumps(PROVIDER.claims()).encode())
    assert code(token) == "people.algorithm"


def test_an_unsigned_token_is_none() -> None:
    head, body, _ = PROVIDER.token(alg="none").reveal().split(b".")
    for text in (head + b"." + body + b".", head + b"." + body):
        assert code(Secret(text)) == "people.token"


def test_a_public_key_is_no_password() -> None:
    """The classic confusion: HS256 keyed with the published key, in every spelling of it."""
    provider = Provider(key=made("RSA"))
    public = provider.key.as_pem(private=False)
    for secret in (public, public.strip(), provider.key_set()):
        said = [{"alg": "HS256", "kid": "first"}, provider.claims()]
        text = b".".join(encoded(json.dumps(part).encode()) for part in said)
        forged = Secret(text + b"." + encoded(hmac.digest(secret, text, "sha256")))
        assert code(forged, provider) == "people.algorithm"
        with pytest.raises(Unauthenticated):  # even where somebody allowed it
            header = read_header(forged, ("HS256",))
            verified(forged, header, read_key_set(provider.key_set(), ALLOWED)["first"])


@pytest.mark.parametrize("other", ["RSA", "EC"])
def test_anothers_key_under_the_same_id_has_not_signed(other: str) -> None:
    assert code(signed(made(other, 1), PROVIDER.claims(), PROVIDER.header())) == "people.signature"


def test_an_algorithm_of_another_kind_than_the_keys_has_not_signed() -> None:
    assert code(signed(made("RSA"), PROVIDER.claims(), PROVIDER.header() | {"alg": "RS256"})) == "people.signature"


def test_a_key_that_is_for_one_algorithm_signs_by_no_other() -> None:
    provider = Provider(key=made("RSA"))
    fields = json.loads(provider.key_set())
    fields["keys"][0]["alg"] = "PS256"
    key = read_key_set(json.dumps(fields).encode(), (*ALLOWED, "PS256"))["first"]
    token = provider.token()
    with pytest.raises(Unauthenticated, match="signature"):
        verified(token, read_header(token, ALLOWED), key)


def test_a_key_in_the_token_itself_counts_for_nothing() -> None:
    thief = made("EC", 1)
    head = PROVIDER.header() | {"jwk": thief.as_dict(private=False), "jku": "https://thief.example/keys"}
    assert code(signed(thief, PROVIDER.claims(), head)) == "people.signature"


@pytest.mark.parametrize(
    "over", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"b64": True}, {"kid": 7}, {"kid": "k" * 257}]
)
def test_extensions_that_must_be_understood_are_not(over: dict[str, Any]) -> None:
    assert code(PROVIDER.token(**over)) == "people.token"


@pytest.mark.parametrize(
    "text",
    [b"", b"a", b"a.b", b"a.b.c.d.e", b"..", b"a.b.", b"a b.c.d", b"a.b.c\n", b"\xff.b.c", b"e30.e30.e30="],
)  # fmt: skip
def test_what_is_no_token_is_none(text: bytes) -> None:
    assert code(Secret(text)) == "people.token"


def test_a_token_that_is_too_large_is_told_so() -> None:
    assert code(Secret(b"a" * (MOST_BYTES + 1))) == "people.token_size"


@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b"7",
        b"{",
        b"\xff",
        b"[" * 2000,
        b'{"alg":"none","alg":"ES256"}',
        b'{"alg":NaN}',
        b'{"x":{"a":1,"a":2},"alg":"ES256"}',
    ],
)
def test_a_header_that_is_no_single_object_is_refused(head: bytes) -> None:
    assert code(sealed(PROVIDER.key, head, b"{}")) == "people.token"


@pytest.mark.parametrize("body", [b"[]", b"7", b"", b"{", b'{"sub":"a","sub":"b"}', b'{"exp":Infinity}', b"\xff"])
def test_signed_claims_that_are_no_single_object_are_refused(body: bytes) -> None:
    token = signed(PROVIDER.key, body, PROVIDER.header())
    assert code(token) == "people.token"


@given(st.data())
def test_a_token_in_which_any_bit_of_any_part_changed_does_not_count(data: st.DataObject) -> None:
    text = bytearray(TOKEN.reveal())
    parts = bytes(text).split(b".")
    # The last letter of a part may hold bits that stand for nothing; what they say is not part of the message.
    free = {len(parts[0]) - 1, len(parts[0]) + len(parts[1]), len(text) - 1}
    at = data.draw(st.integers(0, len(text) - 1).filter(lambda at: text[at] != ord(".") and at not in free))
    new = data.draw(st.sampled_from(sorted(set(b"ABCxyz019-_") - {text[at]})))
    text[at] = new
    with pytest.raises(AimassError):
        header = read_header(Secret(bytes(text)), ALLOWED)
        keys = read_key_set(PROVIDER.key_set(), ALLOWED)
        if header.key_id not in keys:
            raise Unauthenticated("no such key")
        verified(Secret(bytes(text)), header, keys[header.key_id])


def test_keys_that_nobody_may_sign_with_are_left_out_of_the_set() -> None:
    good = made("EC").as_dict(private=False) | {"kid": "good"}
    private = made("EC", 1).as_dict(private=True) | {"kid": "leaked"}
    bad: list[Any] = [
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "symmetric"},
        good | {"kid": "for encryption", "use": "enc"},
        good | {"kid": "for signing", "key_ops": ["sign"]},
        good | {"kid": "strange", "key_ops": "verify"},
        good | {"kid": "other", "alg": "ES384"},
        good | {"kid": "off the curve", "x": good["y"]},
        {"kty": "RSA", "kid": "small", "n": encoded(b"\xff" * 128).decode(), "e": "AQAB"},
        {"kty": "EC", "kid": "half"}, {"kty": "new"}, {}, 7, None, "key",
    ]  # fmt: skip
    found = read_key_set(json.dumps({"keys": [*bad, good, private]}).encode(), ALLOWED)
    assert set(found) == {"good", "leaked"}
    assert not found["leaked"].key.is_private


def test_a_curve_belongs_to_its_algorithm() -> None:
    keys = read_key_set(json.dumps({"keys": [p384().as_dict(private=False) | {"kid": "first"}]}).encode(), ALLOWED)
    token = PROVIDER.token()
    with pytest.raises(Unauthenticated, match="signature"):
        verified(token, read_header(token, ALLOWED), keys["first"])


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'{"keys":7}', b'{"keys":[]}', b'{"keys":[{"kty":"oct"}]}', b"[" * 5000, b"x" * (1 << 20)],
)
def test_what_is_no_set_of_keys_is_refused(data: bytes) -> None:
    with pytest.raises(AimassError) as refused:
        read_key_set(data, ALLOWED)
    assert refused.value.code == "people.keys"


def test_one_id_for_two_keys_is_refused() -> None:
    entry = made("EC").as_dict(private=False) | {"kid": "one"}
    with pytest.raises(AimassError, match="one id"):
        read_key_set(json.dumps({"keys": [entry, entry]}).encode(), ALLOWED)
