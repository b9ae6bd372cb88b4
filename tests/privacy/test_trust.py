"""Who is in the federation, and everything that a lying server or a thief might try against that."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.enrolment import EnrolRequest, Token, check_request, make_request, read_token, write_token
from aimass.privacy.keys import KeyPair, create_keys, load_keys
from aimass.privacy.pki import Role, peer_of
from aimass.privacy.root_store import RootStore
from aimass.privacy.roster import Change, Member, MemberRole, Roster, compare, decode_roster
from aimass.privacy.signing import Label, check_public_key, public_key, sign, verify
from aimass.privacy.transcript import (
    Chain,
    Receipt,
    check_history,
    check_receipt,
    entry_bytes,
    sign_head,
    sign_receipt,
)
from aimass.privacy.trust_bundle import Root, open_bundle
from aimass.proto.errors import AimassError, BadInput, IntegrityError, Refused, Unauthenticated

NOW = 1_800_000_000.0


def key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def member(identifier: int, name: str, role: MemberRole = MemberRole.PARTNER) -> Member:
    return Member(identifier, role, name, public_key(key(identifier)), bytes([identifier]) * 32)


ROSTER = Roster.of(3, [member(1, "server", MemberRole.SERVER), member(2, "north"), member(7, "south")])


@pytest.fixture
def store(tmp_path: Path) -> RootStore:
    return RootStore.create(tmp_path / "root", "test", NOW)


def newcomer(store: RootStore, folder: Path, name: str = "north", role: Role = Role.PARTNER) -> tuple[Token, KeyPair]:
    hosts = ("127.0.0.1",) if role is Role.SERVER else ()
    return store.token(name, role, hosts, NOW + 3600), create_keys(folder / name)


def code_of(work: object, *arguments: object) -> str:
    with pytest.raises(AimassError) as caught:
        work(*arguments)  # type: ignore[operator]
    return caught.value.code


# ---------------------------------------------------------------- roster


def test_the_roster_keeps_its_golden_bytes() -> None:
    vector = json.loads((Path(__file__).parents[1] / "vectors" / "roster.json").read_text())
    assert ROSTER.data.hex() == vector["hex"]
    assert ROSTER.digest == vector["sha256"]
    assert decode_roster(bytes.fromhex(vector["hex"])) == ROSTER


@given(st.integers(0, len(ROSTER.data) - 1), st.integers(1, 255))
def test_a_changed_byte_of_a_roster_never_decodes_to_the_same_roster(position: int, change: int) -> None:
    data = bytearray(ROSTER.data)
    data[position] ^= change
    try:
        assert decode_roster(bytes(data)) != ROSTER
    except AimassError:
        return


@pytest.mark.parametrize("data", [ROSTER.data[:-1], ROSTER.data + b"\0", b"", ROSTER.data[:40]])
def test_a_cut_or_longer_roster_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        decode_roster(data)


def test_two_servers_two_equal_names_or_two_equal_keys_are_refused() -> None:
    for other in (
        member(9, "other", MemberRole.SERVER),
        Member(9, MemberRole.PARTNER, "north", public_key(key(9)), bytes(32)),
        Member(9, MemberRole.PARTNER, "other", public_key(key(2)), bytes(32)),
    ):
        with pytest.raises(BadInput):
            Roster.of(3, [*ROSTER.members, other])


def test_removals_are_taken_at_once_and_everything_else_waits_for_a_person() -> None:
    fewer = Roster.of(4, ROSTER.members[:2])
    more = Roster.of(4, [*ROSTER.members, member(9, "west")])
    rekeyed = Roster.of(4, [*ROSTER.members[:2], Member(7, MemberRole.PARTNER, "south", public_key(key(8)), bytes(32))])
    assert compare(ROSTER, ROSTER) is Change.SAME
    assert compare(ROSTER, fewer) is Change.ONLY_REMOVALS
    assert compare(ROSTER, more) is Change.NEEDS_APPROVAL
    assert compare(ROSTER, rekeyed) is Change.NEEDS_APPROVAL


def test_an_older_roster_and_another_one_of_the_same_epoch_are_refused() -> None:
    assert code_of(compare, ROSTER, Roster.of(2, ROSTER.members)) == "roster.older"
    assert code_of(compare, ROSTER, Roster.of(3, ROSTER.members[:2])) == "roster.forked"


# ---------------------------------------------------------------- signatures


@pytest.mark.parametrize(
    "encoded",
    [
        "01" + "00" * 31,
        "00" * 32,
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "01" + "00" * 30 + "80",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ],
)
def test_keys_of_small_order_or_not_reduced_are_refused(encoded: str) -> None:
    assert code_of(check_public_key, bytes.fromhex(encoded)) == "identity.key"


def test_a_signature_under_one_label_does_not_pass_under_another() -> None:
    signature = sign(key(1), Label.RECEIPT, b"body")
    verify(public_key(key(1)), Label.RECEIPT, b"body", signature, "x")
    for label in Label:
        if label is not Label.RECEIPT:
            with pytest.raises(Unauthenticated):
                verify(public_key(key(1)), label, b"body", signature, "x")


# ---------------------------------------------------------------- enrolment


def test_an_honest_newcomer_is_enrolled_and_its_certificate_says_who_it_is(store: RootStore, tmp_path: Path) -> None:
    token, keys = newcomer(store, tmp_path)
    trust = open_bundle(store.sign([make_request(token, keys)], NOW), store.root)
    assert trust.roster.partners == ("north",)
    peer = peer_of(trust.certificates["partner/north"])
    assert (peer.role, peer.name) == (Role.PARTNER, "north")
    assert peer.tls_sha256 == trust.roster.by_name["north"].tls_sha256


def test_a_server_that_puts_its_own_keys_into_a_request_is_refused(store: RootStore, tmp_path: Path) -> None:
    token, keys = newcomer(store, tmp_path)
    honest = make_request(token, keys)
    forger = create_keys(tmp_path / "forger")
    guess = msgspec.structs.replace(token, secret="00" * 32)
    forged = make_request(guess, forger)
    swapped = msgspec.structs.replace(honest, identity=forged.identity, identity_proof=forged.identity_proof)
    for request in (forged, swapped, msgspec.structs.replace(forged, mac=honest.mac)):
        assert code_of(check_request, request, token, NOW) == "enrol.mac"


@pytest.mark.parametrize("change", [{"name": "south"}, {"role": Role.OPERATOR}, {"hosts": ("evil.example",)}])
def test_another_name_role_or_host_than_the_tokens_is_refused(
    store: RootStore, tmp_path: Path, change: dict[str, object]
) -> None:
    token, keys = newcomer(store, tmp_path)
    greedy = make_request(msgspec.structs.replace(token, **change), keys)
    assert code_of(check_request, greedy, token, NOW) == "enrol.subject"


def test_expired_unknown_and_used_tokens_are_refused_and_a_repeated_request_changes_nothing(
    store: RootStore, tmp_path: Path
) -> None:
    token, keys = newcomer(store, tmp_path)
    request = make_request(token, keys)
    assert code_of(check_request, request, token, NOW + 7200) == "enrol.expired"
    assert code_of(store.sign, [msgspec.structs.replace(request, token_id="00" * 16)], NOW) == "enrol.unknown_token"
    first = store.sign([request], NOW)
    assert store.sign([request], NOW) == first
    other = make_request(token, create_keys(tmp_path / "other"))
    assert code_of(store.sign, [other], NOW) == "enrol.used_token"


def test_a_refused_request_among_several_leaves_the_root_unchanged(store: RootStore, tmp_path: Path) -> None:
    good, keys = newcomer(store, tmp_path)
    bad, other = newcomer(store, tmp_path, "south")
    forged: EnrolRequest = msgspec.structs.replace(make_request(bad, other), mac="00" * 32)
    before = store.state
    with pytest.raises(Unauthenticated):
        store.sign([make_request(good, keys), forged], NOW)
    assert store.state == before


def test_a_revoked_partner_leaves_the_roster_and_its_serial_is_listed(store: RootStore, tmp_path: Path) -> None:
    token, keys = newcomer(store, tmp_path)
    before = open_bundle(store.sign([make_request(token, keys)], NOW), store.root)
    after = open_bundle(store.revoke("north"), store.root)
    assert after.roster.partners == ()
    assert peer_of(before.certificates["partner/north"]).serial in after.revoked
    assert compare(before.roster, after.roster) is Change.ONLY_REMOVALS


def test_a_bundle_of_another_root_or_with_any_part_changed_is_refused(store: RootStore, tmp_path: Path) -> None:
    token, keys = newcomer(store, tmp_path)
    data = store.sign([make_request(token, keys)], NOW)
    stranger = RootStore.create(tmp_path / "stranger", "stranger", NOW).root
    with pytest.raises(Unauthenticated):
        open_bundle(data, stranger)
    fields = json.loads(data)
    for changed in (
        {"revoked": ["ff"]},
        {"roster": fields["roster"][:-4] + "AAAA"},
        {"roster_signature": fields["revoked_signature"]},
    ):
        with pytest.raises(AimassError):
            open_bundle(msgspec.json.encode(fields | changed, order="sorted"), store.root)


def test_a_token_is_read_back_and_a_damaged_one_is_refused_without_repeating_it(store: RootStore) -> None:
    token = store.token("north", Role.PARTNER, (), NOW)
    assert read_token(write_token(token)) == token
    assert token.secret not in repr(token)
    with pytest.raises(BadInput) as caught:
        read_token(write_token(token)[:-8])
    assert token.secret not in str(caught.value)


def test_the_root_is_read_back_from_its_file(store: RootStore) -> None:
    assert Root.from_pem(store.root.to_pem()).fingerprint == store.root.fingerprint


def test_a_key_that_others_can_read_is_refused_with_the_cure(tmp_path: Path) -> None:
    create_keys(tmp_path / "keys")
    (tmp_path / "keys" / "tls.key").chmod(0o644)
    with pytest.raises(Refused, match="chmod 600"):
        load_keys(tmp_path / "keys")


# ---------------------------------------------------------------- transcript

RUN = "ab" * 16


def history(bodies: list[bytes]) -> tuple[list[bytes], list[Chain]]:
    chain, entries, chains = Chain(), [], [Chain()]
    for body in bodies:
        entry = entry_bytes(RUN, chain, body)
        chain = chain.extended(entry)
        entries.append(entry)
        chains.append(chain)
    return entries, chains


@given(st.integers(0, 5), st.integers(0, 5))
def test_any_tail_of_the_history_extends_what_is_held(held: int, first: int) -> None:
    entries, chains = history([bytes([i]) for i in range(5)])
    first = min(first, held)
    signature = sign_head(key(1), RUN, chains[5])
    assert check_history(RUN, chains[held], first, entries[first:], signature, public_key(key(1))) == chains[5]


def test_a_history_that_leaves_out_changes_or_reorders_an_entry_is_refused() -> None:
    entries, chains = history([b"0", b"1", b"2"])
    others, other_chains = history([b"0", b"x", b"2"])
    server = public_key(key(1))
    for first, sent, chain, signed in (
        (1, entries[1:], chains[0], chains[3]),
        (1, others[1:], chains[2], other_chains[3]),
        (0, [entries[1], entries[0]], chains[0], chains[2]),
        (2, others[2:], chains[2], other_chains[3]),
        (0, [entries[0], entries[1][:-1]], chains[0], chains[2]),
    ):
        with pytest.raises(IntegrityError):
            check_history(RUN, chain, first, sent, sign_head(key(1), RUN, signed), server)


def test_a_history_that_the_server_did_not_sign_or_that_goes_back_is_refused() -> None:
    entries, chains = history([b"0", b"1"])
    server = public_key(key(1))
    for sent, signature in (
        (entries, sign_head(key(2), RUN, chains[2])),
        (entries, sign_head(key(1), RUN, chains[1])),
        ([], sign_head(key(1), RUN, chains[1])),
    ):
        with pytest.raises(Unauthenticated):
            check_history(RUN, chains[2], 0 if sent else 2, sent, signature, server)


def test_a_receipt_is_worth_its_signature() -> None:
    receipt = Receipt(
        run_id=RUN,
        step=1,
        partner="north",
        contribution="0" * 64,
        outcome="counted",
        reason="",
        entries=2,
        head="1" * 64,
    )
    body, signature = sign_receipt(key(1), receipt)
    assert check_receipt(body, signature, public_key(key(1))) == receipt
    with pytest.raises(Unauthenticated):
        check_receipt(body.replace(b"counted", b"refused"), signature, public_key(key(1)))
