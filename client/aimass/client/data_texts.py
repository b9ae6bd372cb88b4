"""What becomes of the public texts and of the encoder that reads them: tables of snippets, tensors of our names."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from typing import Any, Final

from aimass.proto.tensors import encode_numpy, read_arrays

__all__ = ["Columns", "encoder", "our_name", "reviews"]

Columns = dict[str, list[Any]]
_DOMAINS: Final = {
    "amazonReviewSnippets": "products",
    "movieReviewSnippets": "films",
    "nytEditorialSnippets": "editorials",
    "tweets": "tweets",
}
_EMBEDDINGS: Final = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "segments",
    "embeddings.LayerNorm": "norm",
}
_LAYER: Final = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attended",
    "attention.output.LayerNorm": "attended_norm",
    "intermediate.dense": "widen",
    "output.dense": "narrow",
    "output.LayerNorm": "norm",
}


def reviews(files: Mapping[str, bytes]) -> dict[str, Columns]:
    """Snippets and the mean of at least twenty people's ratings, from -4 to 4 (Hutto and Gilbert 2014).

    `sentiment` is the rating's sign; a snippet rated 0 has none and is left out. `document` says which review,
    article or tweet a snippet is from.
    """
    (archive,) = files.values()
    tables: dict[str, Columns] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for stem, domain in _DOMAINS.items():
            member = tar.extractfile(f"hutto_ICWSM_2014/{stem}_GroundTruth.txt")
            text = member.read().decode() if member else ""
            rows = [line.split("\t") for line in text.split("\r\n") if line]
            rated = [(key, float(rating), snippet) for key, rating, snippet in rows if float(rating) != 0]
            tables[f"{domain}.parquet"] = {
                "text": [snippet for _, _, snippet in rated],
                "sentiment": ["positive" if rating > 0 else "negative" for _, rating, _ in rated],
                "rating": [rating for _, rating, _ in rated],
                "document": [key.partition("_")[0] for key, _, _ in rated],
            }
    return tables


def encoder(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The tensors under the names of `encoder.SentenceEncoder`, and the vocabulary as it is."""
    named = {our_name(name): array for name, array in read_arrays(files["model/model.safetensors"]).items()}
    tensors = {name: array for name, array in named.items() if name is not None}
    return {"minilm.safetensors": encode_numpy(tensors), "vocab.txt": files["model/vocab.txt"]}


def our_name(name: str) -> str | None:
    """The name here of a tensor of BERT (transformers' `BertModel`); None for what a mean over tokens does not need."""
    path, _, leaf = name.rpartition(".")
    if path in _EMBEDDINGS:
        return f"{_EMBEDDINGS[path]}.{leaf}"
    if path.startswith("encoder.layer."):
        index, _, part = path.removeprefix("encoder.layer.").partition(".")
        return f"layers.{index}.{_LAYER[part]}.{leaf}"
    return None
