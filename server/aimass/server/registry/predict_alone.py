"""Predicts with the model in this folder; it needs torch and nothing else.

    python predict.py '{"age": 63, "sex": "Male"}'

In a program: `Model(folder)([{...}, ...])` gives for each row the probability of every label, or the number predicted.
A column that is left out, or None, counts as missing.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

Row = Mapping[str, Any]


class Model:
    """The model whose `model.pt2` and `schema.json` are in a folder."""

    def __init__(self, folder: Path) -> None:
        self.schema = json.loads((folder / "schema.json").read_text("utf-8"))
        self._run = torch.export.load(folder / "model.pt2").module()

    def __call__(self, rows: Sequence[Row]) -> list[Any]:
        """By label its probability, for each row; or the number that is predicted."""
        with torch.no_grad():
            outputs = self._run(*self.tensors(rows)).tolist()
        labels = self.schema["label"].get("values")
        return [dict(zip(labels, row, strict=True)) if labels else row[0] for row in outputs]

    def tensors(self, rows: Sequence[Row]) -> tuple[torch.Tensor, ...]:
        """The rows as the model takes them: images, or numbers and categories."""
        columns: dict[str, list[dict[str, Any]]] = {"number": [], "category": [], "image": []}
        for column in self.schema["columns"]:
            columns[column["kind"]].append(column)
        if columns["image"]:
            return (torch.stack([_image(columns["image"][0], row) for row in rows]),)
        numbers = [[_number(column, row) for column in columns["number"]] for row in rows]
        categories = [[_category(column, row) for column in columns["category"]] for row in rows]
        return (
            torch.tensor(numbers, dtype=torch.float32).reshape(len(rows), len(columns["number"])),
            torch.tensor(categories, dtype=torch.int64).reshape(len(rows), len(columns["category"])),
        )


def _image(column: dict[str, Any], row: Row) -> torch.Tensor:
    """Pixels of 0 to 255, row by row or nested: uint8 [1, height, width, ...]."""
    return torch.tensor(row[column["name"]], dtype=torch.uint8).reshape(1, *column["shape"])


def _number(column: dict[str, Any], row: Row) -> float:
    value = row.get(column["name"])
    if value is None or value in column["missing_values"]:
        return math.nan
    if not column["minimum"] <= float(value) <= column["maximum"]:
        raise ValueError(f"{column['name']} is {value}, outside {column['minimum']} to {column['maximum']}")
    return float(value)


def _category(column: dict[str, Any], row: Row) -> int:
    value = row.get(column["name"])
    if value is None or value in column["missing_values"]:
        return -1
    if value not in column["values"]:
        raise ValueError(f"{column['name']} is {value!r}, and has to be one of {', '.join(column['values'])}")
    return int(column["values"].index(value))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(Model(Path(__file__).parent)([json.loads(sys.argv[1])])[0]) + "\n")
