"""Where a bucket is and how it is spoken to, read from the URL of a store and the environment.

`s3://bucket/prefix?endpoint=https://host:9000&region=eu-central-1&addressing=virtual&anonymous=true`, each option for
itself; `oss://` is Alibaba's OSS at its S3 endpoint, which asks for addressing by host name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from aimass.proto.errors import BadInput
from aimass.proto.objects import check_key

__all__ = ["Place", "place_of"]

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_OPTIONS: Final = ("addressing", "anonymous", "endpoint", "region")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
_PLAIN: Final = "http://"


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket, the prefix of all keys in it, and its endpoint: "" is Amazon's of the region."""

    scheme: str
    bucket: str
    prefix: str
    endpoint: str
    region: str
    virtual: bool
    anonymous: bool
    url: str

    @property
    def plain(self) -> bool:
        """Whether it is spoken to without TLS, which an endpoint says by http://."""
        return self.endpoint.startswith(_PLAIN)

    @property
    def base(self) -> str:
        """The endpoint as requests are sent to: with the bucket's name in the host, if that is the addressing."""
        if not (self.endpoint and self.virtual):
            return self.endpoint
        scheme, _, host = self.endpoint.partition("://")
        return f"{scheme}://{self.bucket}.{host}"


def place_of(url: str, environment: Mapping[str, str]) -> Place:
    """The place that `url` names; what it leaves open is read from the `environment`. Raises `BadInput`."""
    parts = urlsplit(url)
    options = _options(parts.query)
    prefix = parts.path.strip("/")
    if not _BUCKET.fullmatch(parts.netloc) or parts.fragment:
        raise _bad("no bucket in the URL of a store", parts.netloc, "3 to 63 of a-z, 0-9, . and -")
    if prefix:
        check_key(prefix)
    oss = parts.scheme == "oss"
    region = options.get("region") or ("" if oss else _first(environment, _REGIONS))
    endpoint = options.get("endpoint") or (_oss(region) if oss else _first(environment, _ENDPOINTS))
    said = f"?{urlencode(sorted(options.items()), quote_via=quote, safe=':/')}" if options else ""
    return Place(
        scheme=parts.scheme,
        bucket=parts.netloc,
        prefix=prefix,
        endpoint=_endpoint(endpoint),
        region=region,
        virtual=options.get("addressing", "virtual" if oss else "path") == "virtual",
        anonymous=options.get("anonymous") == "true",
        url=f"{parts.scheme}://{parts.netloc}{f'/{prefix}' if prefix else ''}{said}",
    )


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        pairs = [("", "")]
    options = dict(pairs)
    if len(pairs) != len(options) or not options.keys() <= set(_OPTIONS):  # values are not repeated: who knows
        raise _bad("unknown or repeated option in the URL of a store", ", ".join(options), ", ".join(_OPTIONS))
    for name, allowed in (("addressing", ("path", "virtual")), ("anonymous", ("false", "true"))):
        if options.get(name, allowed[0]) not in allowed:
            raise _bad(f"the option {name} in the URL of a store", options[name], " or ".join(allowed))
    return options


def _endpoint(endpoint: str) -> str:
    if not endpoint:
        return ""
    parts = urlsplit(endpoint)
    named = "@" in parts.netloc
    if parts.scheme not in {"http", "https"} or not parts.netloc or named or parts.query or parts.fragment:
        raise _bad("not the endpoint of a store", "" if named else endpoint, "https://host:port")
    return endpoint.rstrip("/")


def _oss(region: str) -> str:
    if not region:
        raise _bad("neither endpoint nor region in an oss:// URL", "", "?region=cn-hangzhou, or ?endpoint=https://...")
    return f"https://s3.oss-{region}.aliyuncs.com"


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _bad(what: str, value: str, limit: str) -> BadInput:
    return BadInput(what, code="storage.url", value=value, limit=limit, cure="See docs/data-sets.md for the URLs.")
