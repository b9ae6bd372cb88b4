"""Counts the calls of each handler in `context.state`."""

import time

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def counted(context: Context, handler: str) -> int:
    """One more call of `handler`."""
    calls = context.state.setdefault("calls", ConfigRecord())
    calls[handler] = int(calls.get(handler, 0)) + 1
    time.sleep(context.run_config["seconds"])
    return calls[handler]


@app.train()
def train(message: Message, context: Context) -> Message:
    """How often training was asked for; the model as it came."""
    metrics = MetricRecord({"calls": counted(context, "train"), "num-examples": 1})
    content = RecordDict({"arrays": ArrayRecord(dict(message.content["arrays"])), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """How often evaluation was asked for."""
    metrics = MetricRecord({"calls": counted(context, "evaluate"), "num-examples": 1})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
