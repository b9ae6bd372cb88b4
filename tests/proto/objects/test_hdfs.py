"""What all clients of HDFS have in common: the order of keys, the names of errors, and the URLs."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput, Unauthenticated
from aimass.proto.objects import open_objects
from aimass.proto.stores.hdfs_errors import HdfsError, named
from aimass.proto.stores.hdfs_files import Status, in_key_order
from aimass.proto.stores.hdfs_place import place_of, token_of, user_of

_NAMES = st.dictionaries(st.text("a-.0~é", min_size=1, max_size=4), st.booleans(), max_size=12)


@given(_NAMES)
def test_entries_by_name_come_in_the_order_of_their_keys(names: dict[str, bool]) -> None:
    entries = [Status(name, 0, 0, folder=names[name]) for name in sorted(names)]
    found = [f"{one.name}/" if one.folder else one.name for one in in_key_order(entries)]
    wanted = [f"{name}/" if folder else name for name, folder in names.items() if not set(name) & set("~é")]
    assert found == sorted(one for one in wanted if one not in {".", "..", "./", "../"})


@pytest.mark.parametrize(
    ("url", "name_nodes", "root", "said"),
    [
        ("webhdfs://nn/a/b/", ("nn:9870",), "/a/b", "webhdfs://nn:9870/a/b"),
        ("webhdfs://nn:50070", ("nn:50070",), "", "webhdfs://nn:50070/"),
        ("swebhdfs://one,two:1/x", ("one:9871", "two:1"), "/x", "swebhdfs://one:9871,two:1/x"),
        ("webhdfs://[::1]:9870/x%20y", ("[::1]:9870",), "/x y", "webhdfs://[::1]:9870/x%20y"),
        ("hdfs:///x", (), "/x", "hdfs:///x"),
        ("hdfs://service/x", ("service",), "/x", "hdfs://service/x"),
    ],
)
def test_a_url_names_the_name_nodes_and_a_folder(url: str, name_nodes: tuple[str, ...], root: str, said: str) -> None:
    place = place_of(url)
    assert (place.name_nodes, place.root, place.url) == (name_nodes, root, said)
    assert open_objects(url).url == said


@pytest.mark.parametrize(
    "url",
    [
        "webhdfs:///x",
        "webhdfs://nn:70000/x",
        "webhdfs://nn:0/x",
        "webhdfs://a,,b/x",
        "webhdfs://nn/x?user.name=me",
        "webhdfs://nn/x#y",
        "webhdfs://nn/../x",
        "webhdfs://nn//x",
        "webhdfs://nn/a:b",
        "webhdfs://n n/x",
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        open_objects(url)
    assert caught.value.code == "storage.url"


def test_who_we_are_comes_from_the_environment(tmp_path: Path) -> None:
    assert user_of({"HADOOP_USER_NAME": "alice"}) == "alice"
    assert user_of({}) == pwd.getpwuid(os.getuid()).pw_name
    with pytest.raises(BadInput):
        user_of({"HADOOP_USER_NAME": "a&op=DELETE"})
    assert token_of({})() is None
    token = token_of({"AIMASS_HDFS_TOKEN": " gAA "})()
    assert token is not None
    assert token.reveal() == b"gAA"
    with pytest.raises(Unauthenticated) as caught:
        token_of({"AIMASS_HDFS_TOKEN_FILE": f"{tmp_path}/none"})()
    assert caught.value.code == "storage.token_file"


@pytest.mark.parametrize(
    ("java", "message", "code"),
    [
        ("FileNotFoundException", "", "storage.unknown"),
        ("FileAlreadyExistsException", "", "storage.exists"),
        ("ParentNotDirectoryException", "", "storage.folder"),
        ("IOException", "Source /a and destination /b must both be directories", "storage.folder"),
        ("StandbyException", "", "storage.unavailable"),
        ("SafeModeException", "", "storage.unavailable"),
        ("IOException", "All datanodes are bad. Aborting...", "storage.unavailable"),
        ("IOException", "could only be written to 0 of the 1 minReplication nodes", "storage.full"),
        ("DSQuotaExceededException", "", "storage.full"),
        ("AccessControlException", "Permission denied: user=bob", "storage.denied"),
        ("AccessControlException", "SIMPLE authentication is not enabled.  Available:[TOKEN, KERBEROS]", "storage.no_credentials"),
        ("InvalidToken", "token (token for alice) is expired", "storage.expired"),
        ("SecurityException", "Failed to obtain user group information: ...InvalidToken: x", "storage.expired"),
        ("UnsupportedOperationException", "", "storage.refused"),
    ],
)  # fmt: skip
def test_what_java_says_has_a_name(java: str, message: str, code: str) -> None:
    assert named(HdfsError(java, f"{message}\n\tat java.lang.Thread"), open_objects("file:///x"), "a").code == code


def test_a_stack_of_javas_is_not_told() -> None:
    told = named(HdfsError("IOException", "broken\n\tat java.lang.Thread"), open_objects("file:///x"), "a")
    assert "Thread" not in str(told)
    assert "IOException: broken for a" in str(told)
