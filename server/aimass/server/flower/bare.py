"""A bare strategy as an app's server side: it is given what it does not say itself, a first model and the rounds."""

from __future__ import annotations

# isort: off
from aimass.proto.errors import BadInput
from aimass.proto.flower.names import Array, ArrayRecord, Context, Grid, ServerApp
from aimass.proto.tensors import Blob
from flwr.server import ServerAppComponents, ServerConfig  # after `names`, the door
from flwr.server.strategy import Strategy as OlderStrategy
from flwr.serverapp.strategy import Strategy
# isort: on

__all__ = ["serving"]


def serving(part: ServerApp | Strategy | OlderStrategy, first: Blob, rounds: int) -> ServerApp:
    """The app's own ServerApp, or one that does so many rounds of a bare strategy.

    Strategies of the newer kind start from the model `first`. Those of the older kind, whose arrays have no names, have
    a first model of their own or ask one node for it. Raises `BadInput` where `first` is missing, or not wanted.
    """
    match part:
        case Strategy():
            return _newer(part, _arrays(first), rounds)
        case OlderStrategy():
            _check_none(first, "a strategy of Flower's older kind has its own first model, or asks a node for it")
            parts = ServerAppComponents(strategy=part, config=ServerConfig(num_rounds=rounds))
            return ServerApp(server_fn=lambda _: parts)
        case _:
            _check_none(first, "a ServerApp brings its own first model")
            return part


def _newer(strategy: Strategy, arrays: ArrayRecord, rounds: int) -> ServerApp:
    app = ServerApp()

    @app.main()  # type: ignore[untyped-decorator]
    def main(grid: Grid, _: Context) -> None:
        strategy.start(grid, arrays, num_rounds=rounds)

    return app


def _arrays(first: Blob) -> ArrayRecord:
    """The model by name, in the order of its blob."""
    arrays = first.arrays()
    if not arrays:
        raise BadInput(
            "the app's server side is a bare strategy, and nobody says what it starts from",
            code="flower.initial",
            cure="Submit it with --initial FILE, or make it a ServerApp whose @app.main() calls strategy.start.",
        )
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def _check_none(first: Blob, why: str) -> None:
    if first.arrays():
        raise BadInput(f"the run has a first model, and {why}", code="flower.initial", cure="Leave --initial out.")
