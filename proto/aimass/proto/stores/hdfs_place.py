"""Where a folder of an HDFS is, read from the URL of a store: `webhdfs://first:9870,second:9870/folder`.

Two name nodes are those of one cluster, of which one is active. Who we are comes from the environment.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from aimass.proto.errors import BadInput, Unauthenticated
from aimass.proto.secret import Secret

__all__ = ["Place", "place_of", "token_of", "user_of"]

_PORTS: Final[Mapping[str, int]] = {"hdfs": 8020, "swebhdfs": 9871, "webhdfs": 9870}
"""Defaults of Hadoop 3 (hdfs-default.xml)."""
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,99}\$?")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, and the name nodes that know it, as `host:port`; none is what Hadoop's own settings name."""

    scheme: str
    name_nodes: tuple[str, ...]
    root: str
    url: str


def place_of(url: str) -> Place:
    """The place that `url` names; raises `BadInput`. For `hdfs`, a name without a port may be that of a service."""
    parts = urlsplit(url)
    root = unquote(parts.path).rstrip("/")
    names = tuple(_name_node(parts.scheme, host, url) for host in parts.netloc.split(",") if parts.netloc)
    if parts.query or parts.fragment or not (names or parts.scheme == "hdfs"):
        raise _bad("not the URL of a folder of an HDFS", url)
    if root and not all(_is_name(name) for name in root[1:].split("/")):
        raise _bad("not a folder of an HDFS", url)
    return Place(parts.scheme, names, root, f"{parts.scheme}://{','.join(names)}{parts.path.rstrip('/') or '/'}")


def user_of(environment: Mapping[str, str]) -> str:
    """Whom a cluster without Kerberos takes us for, as Hadoop's clients do: HADOOP_USER_NAME, or the process's user."""
    user = environment.get("HADOOP_USER_NAME", "")
    if user and not _USER.fullmatch(user):
        raise BadInput("no user of a cluster has this name", code="storage.user", value=user, limit=_USER.pattern)
    return user or _own_name()


def token_of(environment: Mapping[str, str]) -> Callable[[], Secret | None]:
    """How the delegation token is read, for each request anew: whoever renews it writes another into the file."""
    path, text = environment.get("AIMASS_HDFS_TOKEN_FILE", ""), environment.get("AIMASS_HDFS_TOKEN", "").strip()

    def read() -> Secret | None:
        if not path:
            return Secret(text.encode()) if text else None
        try:
            return Secret(Path(path).read_bytes().strip())
        except OSError as error:
            raise Unauthenticated(
                "the file with the delegation token cannot be read", code="storage.token_file", value=path
            ) from error

    return read


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container, a number may have no name
        return ""


def _name_node(scheme: str, host: str, url: str) -> str:
    found = _HOST.fullmatch(host)
    if found is None or int(found[2] or 1) not in range(1, 1 << 16):
        raise _bad("not a name node of an HDFS", url)
    return host if found[2] or scheme == "hdfs" else f"{host}:{_PORTS[scheme]}"


def _is_name(name: str) -> bool:
    return bool(name) and name not in {".", ".."} and ":" not in name and name.isprintable()


def _bad(what: str, url: str) -> BadInput:
    return BadInput(
        what,
        code="storage.url",
        value=url,
        limit="webhdfs://host:9870/folder, or two name nodes as webhdfs://one:9870,two:9870/folder",
    )
