"""Handlers of training: the usual one and one by name."""

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def answer(message: Message, text: str) -> Message:
    """A reply that says who answered."""
    return Message(RecordDict({"who": ConfigRecord({"who": text})}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """The usual handler."""
    return answer(message, "default")


@app.train("foo")
def foo(message: Message, context: Context) -> Message:
    """The handler by name."""
    return answer(message, f"foo of {message.metadata.message_type}")


@app.query("bar")
def bar(message: Message, context: Context) -> Message:
    """A query by name."""
    return answer(message, "bar")
