"""Certificates that are renewed, and a root that another takes the place of."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.client.keeper import Keeper
from aimass.privacy.enrolment import make_request
from aimass.privacy.keys import create_keys
from aimass.privacy.pki import Role, peer_of
from aimass.privacy.renewal import renew, succeed
from aimass.privacy.root_store import RootStore
from aimass.privacy.roster import Change
from aimass.privacy.signing import Label, sign
from aimass.privacy.trust_bundle import decode_bundle, encode_bundle, open_bundle
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import AimassError, Conflict, IntegrityError, Unauthenticated

DAY = 86_400.0
NOW = time.time()


@pytest.fixture
def root(tmp_path: Path) -> RootStore:
    """A root with a server and a partner, whose folder is complete."""
    store = RootStore.create(tmp_path / "root", "first", NOW)
    requests = []
    for name, role, hosts in (("hub", Role.SERVER, ("localhost", "127.0.0.1")), ("north", Role.PARTNER, ())):
        keys = create_keys(tmp_path / name / "keys")
        requests.append(make_request(store.token(name, role, hosts, NOW + 60), keys))
    bundle = store.sign(requests, NOW)
    trust = tmp_path / "north" / "trust"
    trust.mkdir()
    (trust / "root.pem").write_bytes(store.root.to_pem())
    (trust / "bundle.json").write_bytes(bundle)
    (trust / "certificate.pem").write_bytes(open_bundle(bundle, store.root).certificates["partner/north"])
    return store


def _keeper(tmp_path: Path) -> Keeper:
    return Keeper(tmp_path / "north", UNINTERRUPTED)


def _certificate(tmp_path: Path) -> bytes:
    return (tmp_path / "north" / "trust" / "certificate.pem").read_bytes()


def test_whoever_ends_soon_is_certified_anew_over_the_same_key_and_nobody_else(root: RootStore) -> None:
    before = open_bundle(root.bundle(), root.root)
    assert renew(root, NOW + 10 * DAY, 90 * DAY) == ()
    assert renew(root, NOW + 350 * DAY, 90 * DAY) == ("hub", "north")
    after = open_bundle(root.bundle(), root.root)
    assert after.roster == before.roster
    for name in ("server/hub", "partner/north"):
        old, new = peer_of(before.certificates[name]), peer_of(after.certificates[name])
        assert (new.role, new.name, new.tls_sha256) == (old.role, old.name, old.tls_sha256)
        assert new.not_after > old.not_after + 300 * DAY
    hosts = x509.load_pem_x509_certificate(after.certificates["server/hub"]).extensions
    names = hosts.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]


def test_revoking_ends_every_certificate_of_the_key(root: RootStore) -> None:
    first = peer_of(open_bundle(root.bundle(), root.root).certificates["partner/north"]).serial
    renew(root, NOW + 390 * DAY, 90 * DAY)
    second = peer_of(open_bundle(root.bundle(), root.root).certificates["partner/north"]).serial
    assert {first, second} <= open_bundle(root.revoke("north"), root.root).revoked


def test_a_partner_takes_its_renewed_certificate_by_itself_and_an_older_one_never(
    tmp_path: Path, root: RootStore
) -> None:
    keeper, old_bundle, old = _keeper(tmp_path), root.bundle(), _certificate(tmp_path)
    renew(root, NOW + 390 * DAY, 90 * DAY)
    assert keeper.offer(root.bundle()) is Change.SAME
    renewed = _certificate(tmp_path)
    assert peer_of(renewed).not_after > peer_of(old).not_after
    keeper.offer(old_bundle)
    assert _certificate(tmp_path) == renewed


def test_a_certificate_that_the_root_did_not_issue_or_for_another_key_is_not_taken(
    tmp_path: Path, root: RootStore
) -> None:
    keeper, held = _keeper(tmp_path), _certificate(tmp_path)
    stranger = RootStore.create(tmp_path / "stranger", "first", NOW)
    keys = create_keys(tmp_path / "other")
    forged = open_bundle(
        stranger.sign([make_request(stranger.token("north", Role.PARTNER, (), NOW + 10 * DAY), keys)], NOW + 9 * DAY),
        stranger.root,
    ).certificates["partner/north"]
    bundle = decode_bundle(root.bundle())
    for pem in (forged.decode(), bundle.certificates["server/hub"]):
        keeper.offer(encode_bundle(msgspec.structs.replace(bundle, certificates={"partner/north": pem})))
        assert _certificate(tmp_path) == held


def test_a_new_root_waits_for_a_person_and_then_holds_with_its_certificate(tmp_path: Path, root: RootStore) -> None:
    keeper = _keeper(tmp_path)
    new = succeed(root, tmp_path / "new", "second", NOW)
    assert keeper.offer(new.bundle()) is Change.NEEDS_APPROVAL
    assert keeper.root == root.root
    assert keeper.pending is not None
    assert keeper.pending.root.fingerprint == new.root.fingerprint
    keeper.approve()
    again = _keeper(tmp_path)
    assert again.root == new.root
    assert again.roster.epoch == 2
    own = x509.load_pem_x509_certificate(_certificate(tmp_path))
    own.verify_directly_issued_by(x509.load_pem_x509_certificate(new.root.certificate_pem))
    # Whoever still holds the old root's word cannot go back to it.
    with pytest.raises((IntegrityError, Unauthenticated)):
        again.offer(root.bundle())


def test_a_successor_goes_on_as_the_root_and_the_old_one_signs_nothing_more(tmp_path: Path, root: RootStore) -> None:
    new = succeed(root, tmp_path / "new", "second", NOW)
    for attempt in (
        lambda: root.revoke("north"),
        lambda: root.token("west", Role.PARTNER, (), NOW + 60),
        lambda: root.sign([], NOW),
        lambda: succeed(root, tmp_path / "third", "third", NOW),
        lambda: renew(root, NOW, DAY),
    ):
        with pytest.raises(Conflict) as caught:
            attempt()
        assert caught.value.code == "pki.succeeded"
    keys = create_keys(tmp_path / "west")
    bundle = new.sign([make_request(new.token("west", Role.PARTNER, (), NOW + 60), keys)], NOW)
    # A member that slept through the succession catches up with any later bundle.
    assert open_bundle(bundle, root.root).roster.partners == ("north", "west")
    assert open_bundle(bundle, new.root).root == new.root


def test_a_root_that_nobody_signed_is_refused(tmp_path: Path, root: RootStore) -> None:
    stranger = RootStore.create(tmp_path / "stranger", "stranger", NOW)
    keys = create_keys(tmp_path / "hub2")
    stranger.sign([make_request(stranger.token("hub", Role.SERVER, ("localhost",), NOW + 60), keys)], NOW)
    new = succeed(stranger, tmp_path / "new", "second", NOW)
    with pytest.raises(Unauthenticated):
        open_bundle(new.bundle(), root.root)
    held = decode_bundle(new.bundle())
    assert held.succession is not None
    # Signed by the right root under another label: a roster's signature is no succession.
    wrong = base64.b64encode(sign(root.signing_key(), Label.ROSTER, new.root.to_pem())).decode()
    forged = msgspec.structs.replace(held, succession=msgspec.structs.replace(held.succession, signature=wrong))
    with pytest.raises(Unauthenticated):
        open_bundle(encode_bundle(forged), root.root)


@settings(max_examples=60)
@given(position=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_changed_byte_of_a_succession_is_never_taken_for_another_root(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("roots")
    old = RootStore.create(folder / "old", "old", NOW)
    keys = create_keys(folder / "hub")
    old.sign([make_request(old.token("hub", Role.SERVER, ("localhost",), NOW + 60), keys)], NOW)
    new = succeed(old, folder / "new", "new", NOW)
    data = bytearray(new.bundle())
    data[position % len(data)] ^= flip
    try:
        trust = open_bundle(bytes(data), old.root)
    except AimassError:
        return
    assert trust.root == new.root


@pytest.mark.parametrize("written", [1, 2])
def test_a_crash_between_the_files_of_an_approved_succession_is_mended_at_the_next_start(
    tmp_path: Path, root: RootStore, written: int
) -> None:
    class Crash(Exception):
        pass

    class After:
        left = 2 * written

        def reached(self, _: str) -> None:
            self.left -= 1
            if self.left == 0:
                raise Crash

    new = succeed(root, tmp_path / "new", "second", NOW)
    _keeper(tmp_path).offer(new.bundle())
    with pytest.raises(Crash):
        Keeper(tmp_path / "north", After()).approve()
    assert _keeper(tmp_path).root == new.root
    x509.load_pem_x509_certificate(_certificate(tmp_path)).verify_directly_issued_by(
        x509.load_pem_x509_certificate(new.root.certificate_pem)
    )
