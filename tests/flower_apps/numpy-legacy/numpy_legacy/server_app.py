"""The older kind of server: a function that gives its parts, and the older FedAvg."""

import json

from flwr.app import Context
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg


def weighted(metrics: list[tuple[int, dict]]) -> dict:
    """The mean by examples; printed, as the history is no result."""
    total = sum(count for count, _ in metrics)
    mean = {name: sum(count * each[name] for count, each in metrics) / total for name in metrics[0][1]}
    print("SHOW", json.dumps(mean), flush=True)
    return mean


def server_fn(context: Context) -> ServerAppComponents:
    """FedAvg over four nodes, with values for both sides of a round."""
    strategy = FedAvg(
        min_available_clients=4,
        min_fit_clients=4,
        min_evaluate_clients=4,
        on_fit_config_fn=lambda server_round: {"add": 1.0, "round": server_round},
        on_evaluate_config_fn=lambda server_round: {"step": server_round},
        fit_metrics_aggregation_fn=weighted,
        evaluate_metrics_aggregation_fn=weighted,
    )
    return ServerAppComponents(
        strategy=strategy, config=ServerConfig(num_rounds=context.run_config["num-server-rounds"])
    )


app = ServerApp(server_fn=server_fn)
