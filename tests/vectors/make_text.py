"""Write text/: `python tests/vectors/make_text.py`, with tokenizers and transformers installed beside aimass.

What they say of the same vocabulary and of the same weights is the oracle: ids of texts that people write and of
characters of chance, as far as Unicode 8 has them (later ones differ with the release of each library); and means of
token vectors of a small BERT of chance, under the names that it has there.
"""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel

HERE = Path(__file__).parent
VOCABULARY = HERE.parents[1] / "client/aimass/client/tasks/reviews/vocab.txt"
TEXTS = (
    "Yay. Another good phone interview.",
    "The gorgeously elaborate continuation of ''The Lord of the Rings'' is unaffordable!?",
    "it's $5.99 + tax=~6 <b>now</b> | `cat` ^_^ #win @anonymous http://url_removed",
    "Jirí Hubac's script – “a gem” … naïve CLICHÉS, İstanbul, ΣΊΣΥΦΟΣ, Straße",
    "中文字 mixed with words, 日本語 かな, 한국어, ไทย, हिन्दी, العربية",
    "tabs\tand\nlines\r\nand\x00nulls\x1f, \u200bzero\ufeff width, no\u00a0break\u2028 \ufffd",
    "😀 :-) 😭😭 ½ ﬁne Ⅷ ² € ₿",
    "x" * 100,
    "x" * 101,
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "",
    "   ",
    "a",
    "##ing ## [UNK",
)
SIZES = {"vocab_size": 40, "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2, "num_hidden_layers": 2}


def main() -> None:
    tokenizer = BertWordPieceTokenizer(str(VOCABULARY))
    texts = [*TEXTS, *chance(40)]
    cases = [{"text": text, "ids": tokenizer.encode(text).ids} for text in texts]
    (HERE / "text" / "wordpiece.json").write_text(json.dumps(cases, indent=1) + "\n")
    torch.manual_seed(1)
    model = BertModel(BertConfig(**SIZES, max_position_embeddings=10)).eval()
    for parameter in model.parameters():  # as they begin, norms and biases would hide a swap
        torch.nn.init.normal_(parameter, std=0.5)
    ids = torch.randint(1, 40, (5, 10))
    for row, length in enumerate((7, 1, 4, 9, 5)):
        ids[row, length:] = 0
    mask = ids != 0
    with torch.no_grad():
        vectors = model(ids, attention_mask=mask.long()).last_hidden_state
    mean = (vectors * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    save_file({**model.state_dict(), "ids": ids, "mean": mean}, HERE / "text" / "bert.safetensors")


def chance(count: int) -> list[str]:
    """Texts of characters below U+2C00 that are as old as Unicode 8."""
    drawn = random.Random(1)
    old = [chr(code) for code in range(0x20, 0x2C00) if unicodedata.ucd_3_2_0.category(chr(code)) != "Cn"]
    return ["".join(drawn.choices(old, k=drawn.randrange(1, 20))) for _ in range(count)]


if __name__ == "__main__":
    main()
