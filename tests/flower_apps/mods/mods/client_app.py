"""Mods say when they go in and out; Flower's own clip what comes out."""

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod


def tracing(name: str):
    """A mod that writes into the state when it goes in, and when out."""

    def mod(message: Message, context: Context, call_next) -> Message:
        trace = context.state.setdefault("trace", ConfigRecord({"steps": []}))
        trace["steps"] = [*trace["steps"], f"{name} in"]
        reply = call_next(message, context)
        trace["steps"] = [*trace["steps"], f"{name} out"]
        reply.content["trace"] = ConfigRecord({"steps": list(trace["steps"])})
        return reply

    return mod


def ten(message: Message, context: Context) -> Message:
    """An update of ten in the one number."""
    if "trace" in context.state:
        trace = context.state["trace"]
        trace["steps"] = [*trace["steps"], "handler"]
    arrays = {name: Array(array.numpy() + 10.0) for name, array in message.content["arrays"].items()}
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})})
    return Message(content, reply_to=message)


app = ClientApp(mods=[tracing("first"), tracing("second")])
app.train(mods=[tracing("inner")])(ten)
app.train("clipped", mods=[fixedclipping_mod])(ten)
app.train("private", mods=[LocalDpMod(2.0, 0.0, 1.0, 1e-5)])(ten)
