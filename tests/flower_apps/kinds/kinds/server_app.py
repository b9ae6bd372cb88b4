"""Sends one array and one value of each kind, and says what came back."""

import json

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()

ARRAYS = {
    "double": np.arange(6, dtype=np.float64).reshape(2, 3) / 3,
    "single": np.ones(3, np.float32),
    "half": np.ones(2, np.float16),
    "scalar": np.array(2.5),
    "count": np.array(7, np.int64),
    "buffer": np.arange(4, dtype=np.int32),
    "bytes": np.arange(3, dtype=np.uint8),
    "words": np.arange(3, dtype=np.uint32),
    "mask": np.array([True, False]),
    "none": np.zeros((0, 3)),
}
CONFIG = {
    "int": 3,
    "float": 3.0,
    "str": "three",
    "bytes": b"\x00\xff",
    "bool": True,
    "large": 2**62,
    "ints": [1, 2],
    "floats": [1.0, 2.0],
    "strs": ["a", ""],
    "bytess": [b"", b"a"],
    "bools": [True, False],
}


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One exchange of training, one query."""
    nodes = sorted(grid.get_node_ids())
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(array) for name, array in ARRAYS.items()}),
            "config": ConfigRecord(CONFIG),
        }
    )
    replies = list(grid.send_and_receive([Message(content, node, "train") for node in nodes]))
    for reply in replies:
        arrays = {name: array.numpy() for name, array in reply.content["arrays"].items()}
        shown = json.loads(reply.content["seen"]["seen"])
        shown["back"] = {name: [str(array.dtype), list(array.shape)] for name, array in arrays.items()}
        shown["one more"] = all(
            np.array_equal(array, ~ARRAYS[name] if name == "mask" else ARRAYS[name] + 1)
            for name, array in arrays.items()
        )
        shown["config back"] = dict(reply.content["config"]) == CONFIG and list(reply.content["config"]) == list(CONFIG)
        shown["metrics"] = {key: repr(value) for key, value in reply.content["metrics"].items()}
        shown["records"] = list(reply.content)
        print("SHOW", json.dumps(shown), flush=True)
    for reply in grid.send_and_receive([Message(content, node, "query.bfloat16") for node in nodes]):
        print("SHOW", json.dumps({"refused": reply.error.reason if reply.has_error() else None}), flush=True)
