"""A client of the older kind: lists of arrays, and numbers beside them."""

import numpy as np
from flwr.app import Context
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp


class Client(NumPyClient):
    """Adds its number to every array."""

    def __init__(self, value: float, weight: int) -> None:
        self._value, self._weight = value, weight

    def get_parameters(self, config: dict) -> list[np.ndarray]:
        """Two arrays of zeros."""
        return [np.zeros((2, 2)), np.zeros(1)]

    def fit(self, parameters: list[np.ndarray], config: dict) -> tuple[list[np.ndarray], int, dict]:
        """What was asked for by `add`, times its number."""
        factor = float(config["add"])
        return [each + factor * self._value for each in parameters], self._weight, {"loss": self._value}

    def evaluate(self, parameters: list[np.ndarray], config: dict) -> tuple[float, int, dict]:
        """Its number as the loss; how much the model is at its first place as a metric."""
        return self._value, self._weight, {"first": float(parameters[0].flat[0]), "step": config["step"]}


def client_fn(context: Context):
    """By the node's configuration."""
    return Client(float(context.node_config["value"]), int(context.node_config["weight"])).to_client()


app = ClientApp(client_fn=client_fn)
