"""Asks for handlers that are there and for some that are not, in one exchange and then again."""

import json

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Each answer by the place of its node."""
    nodes = sorted(grid.get_node_ids())
    content = RecordDict({"config": ConfigRecord({"x": 1})})
    for kinds in (("train.foo", "train.baz"), ("train", "train.foo"), ("query.bar", "query")):
        messages = [Message(content, node, kinds[place % 2]) for place, node in enumerate(nodes)]
        told = {}
        for reply in grid.send_and_receive(messages):
            place = nodes.index(reply.metadata.src_node_id)
            told[place] = f"error: {reply.error.reason}" if reply.has_error() else reply.content["who"]["who"]
        print(
            "SHOW",
            json.dumps({"asked": kinds, "answers": [told.get(place) for place in range(len(nodes))]}),
            flush=True,
        )
