"""The node whose number is 2 does what the run's configuration says; the others add one to the model."""

import os
import socket
import sys
import time

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One added, after the fault."""
    fault = context.run_config["fault"] if context.node_config["value"] == 2 else "none"
    arrays = {name: array.numpy() + 1.0 for name, array in message.content["arrays"].items()}
    records = {"arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()})}
    if fault == "raise":
        raise RuntimeError("row 17 of Jane Doe")
    if fault == "hang":
        time.sleep(3600)
    if fault == "exit":
        os._exit(3)
    if fault == "edit":
        for name in list(message.content["arrays"]):
            message.content["arrays"][name] = Array(message.content["arrays"][name].numpy() * 0 + 77.0)
        message.content["config"]["server-round"] = -1
    if fault == "two":
        records["more"] = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    if fault == "print":
        for _ in range(1024):
            sys.stdout.write("x" * (1 << 20))
        sys.stderr.write("x" * (1 << 20))
    if fault == "socket":
        socket.create_connection(("127.0.0.1", context.run_config["port"]), timeout=5)
    if fault == "fork":
        if (child := os.fork()) == 0:
            time.sleep(3600)
        os.kill(child, 0)
    if fault == "nan":
        records["arrays"] = ArrayRecord({name: Array(array * float("nan")) for name, array in arrays.items()})
    if fault == "text":
        return "no message"
    return Message(RecordDict({**records, "metrics": MetricRecord({"num-examples": 1, "loss": 1.0})}), reply_to=message)
