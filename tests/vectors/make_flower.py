"""Write flower.json: what Flower's server strategies make of a few rounds, and its robust rules of one.

Run by a Python that has flwr==1.41.0, as `.venv-peers` of `./scripts/bench --peers`: `python tests/vectors/make_flower.py`.
"""

import json
from pathlib import Path

import numpy as np
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi
from flwr.server.strategy.aggregate import aggregate_krum, aggregate_median, aggregate_trimmed_avg

ROUNDS = 6
SHAPES = {"a": (3, 2), "b": (5,)}
EXAMPLES = (10, 25, 7)
CASES = [
    ("fedavg", FedAvg, {}),
    ("fedavgm", FedAvgM, {"server_learning_rate": 0.7, "server_momentum": 0.9}),
    ("fedadagrad", FedAdagrad, {"eta": 0.1, "tau": 1e-3}),
    ("fedadam", FedAdam, {"eta": 0.1, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-3}),
    ("fedyogi", FedYogi, {"eta": 0.01, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-3}),
]
"""All of an algorithm's own options; the rest is Flower's default."""


def run(strategy, first, updates, first_v):
    """The parameters after each round; `first_v` stands in for Flower's zeros in v."""
    if first_v is not None:
        strategy.v_t = [np.full(values.shape, first_v) for values in first]
    now, made = first, []
    for number, of_partners in enumerate(updates, 1):
        results = [
            (
                None,
                FitRes(
                    Status(Code.OK, ""), ndarrays_to_parameters([x + d for x, d in zip(now, part, strict=True)]), n, {}
                ),
            )
            for part, n in zip(of_partners, EXAMPLES, strict=True)
        ]
        now = parameters_to_ndarrays(strategy.aggregate_fit(number, results, [])[0])
        made.append([values.tolist() for values in now])
    return made


def robust():
    """Its rules over nine updates of which two are lies, all of one weight: Multi-Krum's mean is by rows."""
    updates = np.random.default_rng(22).normal(size=(9, 7))
    updates[4], updates[7] = 30.0, -updates[0] * 50
    results, f = [([row], 1) for row in updates], 2
    cases = {
        "median": aggregate_median(results),
        "trimmed": aggregate_trimmed_avg(results, f / len(updates) + 1e-9),
        "krum": aggregate_krum(results, f, 0),
        "multi-krum": aggregate_krum(results, f, len(updates) - f - 2),
    }
    return {
        "updates": updates.tolist(),
        "cases": [{"rule": rule, "tolerated": f, "made": made[0].tolist()} for rule, made in cases.items()],
    }


def main():
    chance = np.random.default_rng(21)
    first = [chance.normal(size=shape) for shape in SHAPES.values()]
    updates = [
        [[chance.normal(size=shape) * 10.0 ** chance.integers(-4, 1) for shape in SHAPES.values()] for _ in EXAMPLES]
        for _ in range(ROUNDS)
    ]
    cases = []
    for name, strategy, options in CASES:
        for first_v in (None, options["tau"] ** 2) if "tau" in options else (None,):
            made = strategy(initial_parameters=ndarrays_to_parameters(first), **options)
            cases.append(
                {"algorithm": name, "options": options, "first_v": first_v, "after": run(made, first, updates, first_v)}
            )
    vectors = {
        "flwr": "1.41.0",
        "names": list(SHAPES),
        "examples": EXAMPLES,
        "first": [values.tolist() for values in first],
        "updates": [[[values.tolist() for values in part] for part in of_partners] for of_partners in updates],
        "cases": cases,
        "robust": robust(),
    }
    Path(__file__).with_name("flower.json").write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
