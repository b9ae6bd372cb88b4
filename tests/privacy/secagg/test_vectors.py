"""The protocol's vectors, byte for byte: from the specification, and from the files that other implementations use."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg import packing
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.field import decode_scalar
from aimass.privacy.signing import check_public_key
from aimass.proto.errors import Unauthenticated
from tests.support.secagg_vectors import DECODERS, FILES, code_of

FOLDER = Path(__file__).parents[2] / "vectors" / "secagg"


def load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


MUST_FAIL = load("must_fail")
ATTEMPT = load("attempt")


@pytest.mark.parametrize("name", sorted(FILES))
def test_each_file_says_what_the_code_computes(name: str) -> None:
    assert json.loads(json.dumps(FILES[name]())) == load(name)


def test_the_streams_are_those_of_the_specification() -> None:
    found = load("streams")
    assert [f"{word:04x}" for word in found["stream"]["u16"]] == ["a1c6", "373b", "8f87", "825b"]
    assert [f"{word:08x}" for word in found["stream"]["u32"]] == ["373ba1c6", "825b8f87", "62814f6f", "79d8c8a1"]


def test_the_keys_are_those_of_the_specification() -> None:
    keys = load("streams")["keys"]
    assert keys["pair_mask"] == "9798c278b7b0649032e6d0ca6d369150"
    assert keys["share_enc_0_1"] == "3cb3e88ccf57d93cbcfda532e5a678d2cc73a95b35373f097693c2482480af3e"
    assert keys["self_mask_of_5"] == "94a9ae2a1d6a3d96ce6640b3fc427dda"
    assert keys["mask_secret_of_5"] == "a8e2d4ca2575d182bbdd3e0f0a93ee838cd033856fda087055c63eca023d537b"


def test_the_shares_are_those_of_the_specification() -> None:
    assert [int(share, 16) for share in load("sharing")["cases"][0]["shares"]] == [48, 68, 102, 150, 212]


def test_the_packed_lanes_are_those_of_the_specification() -> None:
    assert [case["hex"] for case in load("packing")["cases"][:4]] == [
        "0100200000030040000005006000000700800000", "010080ffff7f010000", "bc3a12", "ffffffff0300000000",
    ]  # fmt: skip


def test_the_graphs_are_those_of_the_specification() -> None:
    found = load("graphs")
    orders = {case["n"]: case["order"] for case in found["permutations"]}
    assert orders[10] == [0, 4, 8, 2, 7, 1, 3, 6, 5, 9]
    assert orders[5] == [0, 3, 2, 1, 4]
    assert found["ring"]["neighbours"][0] == [4, 5, 8, 9]


@pytest.mark.parametrize(
    ("name", "wanted"),
    {
        "ctx": "403e6770854c41269ae3e7a52b3cf33cdd53b425d8b185db470ee9c0a6e34822",
        "roster": "d192c4d2221bf42ec909a39b53d5af4e39911b6470c5a05923b35332ba27c02e",
        "perm_seed": "202734f34b6198e9d8582376d4e7783f58df750b1bfd0e198e2c8b715b6767c1",
        "sid": "99b312f366b55751701de38b86cdc38d0d43c11b290f5b2d0a111cc899763e64",
        "sharers_digest": "182a02c9747234d31af233e33e1514a3f2d76f9ff130b367286e0efad44d8e54",
        "survivors_digest": "918e23379c6c0d22de709311d33029921ccc9d5a3a2985c41460ef6b0b4040f9",
        "self_commit_0": "4018a245a4089ff451ad1012b12ed05c382c4317a091e3100aa2fdd795a285e2",
    }.items(),
)
def test_the_attempts_digests_are_those_of_the_specification(name: str, wanted: str) -> None:
    assert ATTEMPT[name] == wanted


def test_the_attempts_messages_are_those_of_the_specification() -> None:
    def sha(data: str) -> str:
        return hashlib.sha256(bytes.fromhex(data)).hexdigest()

    messages = ATTEMPT["messages"]
    assert len(ATTEMPT["context"]) == 2 * 269
    assert sha(messages["advertise"]["0"]) == "056972284a1831800a5aa1d42184fd1e2831ccce82312a69fd57f3d155326de9"
    assert sha(ATTEMPT["box_0_1"]) == "f25a13799de07fbdf6e91e4b68ba6c8c353185d0e8c446ed8ee17489ff48f507"
    assert ATTEMPT["payloads"]["0"] == "84b370b200f9715d7fdf59e8573b0827c16db90e"
    assert ATTEMPT["payloads"]["2"] == "f6cd0ca4bff707fe17fab7daee3fac9c8a846a0e"
    assert sha(messages["input"]["0"][-128:]) == "753bfb36c520056514a63f20450ece12f05d28041ceaad158394d76f6e4511fd"
    assert sha(messages["signature"]["0"][-128:]) == "26b490e4e488d463be9995cc8dafab936f0e9f8650adaf88e5e2508222cf4f40"
    assert ATTEMPT["sum"] == [-999, 1998, -2997, 3996, 5, -6, 7, -7]


def test_the_sizes_are_those_of_the_specification() -> None:
    sizes = {kind: {len(data) // 2 for data in by.values()} for kind, by in ATTEMPT["messages"].items()}
    assert sizes["advertise"] == {164}
    assert sizes["roster"] == {164 * 3 + 44}
    assert sizes["shares"] == {132 + 160 * 2 + 64}
    assert sizes["delivery"] == {32 + 1 + 96 * 2}
    assert sizes["input"] == {32 + 4 + 32 + 8 + 32 + 64}
    assert sizes["survivors"] == {32 + 1 + 100}
    assert sizes["signature"] == {100}
    assert sizes["quorum"] == {32 + 68 * 2}
    assert sizes["unmask"] == {36 + 37 * 3}


@pytest.mark.parametrize("case", MUST_FAIL["cases"], ids=lambda case: f"{case['message']}: {case['why']}")
def test_bytes_that_must_fail_are_refused_by_name(case: dict[str, str]) -> None:
    assert code_of(case["message"], bytes.fromhex(case["hex"])) == case["code"] != "accepted"


def test_every_decoder_has_bytes_that_must_fail() -> None:
    assert {case["message"] for case in MUST_FAIL["cases"]} == set(DECODERS)


@pytest.mark.parametrize("case", MUST_FAIL["x25519_keys"], ids=lambda case: case["hex"][:16])
def test_key_agreement_keys_of_small_order_and_aliases_are_refused(case: dict[str, str]) -> None:
    with pytest.raises(FaultError) as caught:
        shared.exchange(shared.private_key(bytes(range(32))), bytes.fromhex(case["hex"]))
    assert caught.value.fault.code is Code.PK_INVALID


@pytest.mark.parametrize("key", MUST_FAIL["ed25519_keys"])
def test_identity_keys_of_small_order_and_aliases_are_refused(key: str) -> None:
    with pytest.raises(Unauthenticated):
        check_public_key(bytes.fromhex(key))


def test_encodings_outside_the_field_are_refused() -> None:
    for data in load("sharing")["refused_encodings"]:
        with pytest.raises(ValueError, match="field"):
            decode_scalar(bytes.fromhex(data))


@pytest.mark.parametrize("case", load("packing")["refused"], ids=lambda case: case["why"])
def test_packed_bytes_of_another_length_or_with_padding_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"bytes|bits"):
        packing.unpack(bytes.fromhex(case["hex"]), case["count"], case["bits"])
