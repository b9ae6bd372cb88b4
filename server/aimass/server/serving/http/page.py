"""One page that says how to ask the models that are served here: nothing is fetched from elsewhere, nothing is run."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aimass.server.serving.http.examples import example_row, example_tensors
from aimass.server.serving.http.openapi import Described

__all__ = ["PAGE_HEADERS", "curl_line", "page"]

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.6rem}h2{font-size:1.25rem;margin-top:2.2rem;border-top:1px solid #d0d7de;padding-top:1rem}
pre{background:#f6f8fa;border:1px solid #d0d7de;border-radius:6px;padding:.8rem;overflow-x:auto;font-size:.85rem}
table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}pre{background:#161b22;border-color:#30363d}}
"""
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
}
_HOST: Final = "localhost:8080"


def page(models: Sequence[Described], release: str, host: str) -> bytes:
    """The page, for who reached it as `host`."""
    where = host if host and all(letter.isalnum() or letter in ".-:[]" for letter in host) else _HOST
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>AIMass serving</title><style>{_STYLE}</style>",
        f"<h1>AIMass serving {_text(release)}</h1>",
        "<p>Models answer named features at <code>/predict/NAME</code>, and tensors by the Open Inference Protocol at ",
        "<code>/v2/models/NAME/infer</code>. The whole API: <a href=/openapi.json>/openapi.json</a>. ",
        "Where the server has tokens, add <code>-H 'Authorization: Bearer TOKEN'</code>.</p>",
    ]
    for model in models:
        parts += _model(model, where)
    return "".join(parts).encode()


def curl_line(where: str, path: str, body: object) -> str:
    """A line for a shell that sends `body` as JSON."""
    text = json.dumps(body).replace("'", "'\\''")
    return f"curl -s http://{where}{path} -d '{text}'"


def _model(model: Described, where: str) -> Iterable[str]:
    if model.loaded is None:
        yield f"<h2>{_text(model.name)}</h2><p>is not ready yet.</p>"
        return
    yield f"<h2>{_text(model.name)}, version {model.loaded.version}</h2>"
    if model.schema is not None:
        yield f"<p>By named features:</p>{_shown(where, f'/predict/{model.name}', example_row(model.schema))}"
    yield f"<p>By tensors:</p>{_shown(where, f'/v2/models/{model.name}/infer', example_tensors(model.loaded.inputs))}"
    yield "<table><tr><th>input<th>datatype<th>shape</tr>"
    for spec in (*model.loaded.inputs, *model.loaded.outputs):
        kind = "" if spec in model.loaded.inputs else " (answer)"
        yield f"<tr><td>{_text(spec.name)}{kind}<td>{spec.datatype}<td>{list(spec.shape)}</tr>"
    yield "</table>"


def _shown(where: str, path: str, body: Any) -> str:
    return f"<pre>{_text(curl_line(where, path, body))}</pre>"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
