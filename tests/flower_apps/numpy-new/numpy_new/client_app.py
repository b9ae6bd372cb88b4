"""A NumPyClient, in few lines, whose parameters are as many arrays as it is sent."""

from flwr.app import Context
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp


class Adder(NumPyClient):
    """Adds a number of its node's."""

    node: dict

    def fit(self, parameters, config):
        """The update is `add` times the node's value."""
        change = config["add"] * self.node["value"]
        return [array + change for array in parameters], self.node["weight"], {"loss": float(self.node["value"])}

    def evaluate(self, parameters, config):
        """What stands first, and what was sent."""
        metrics = {"first": float(parameters[0][0, 0]), "step": config["step"], "name": "a text has no mean"}
        return float(self.node["value"]), self.node["weight"], metrics


def client_fn(context: Context):
    """For the node of `context`."""
    client = Adder()
    client.node = context.node_config
    return client.to_client()


app = ClientApp(client_fn)
