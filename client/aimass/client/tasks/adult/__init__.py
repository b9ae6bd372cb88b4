"""Census income: does a person earn more than 50,000 dollars a year, by a network or by trees.

Data: UCI Adult (Becker, Kohavi 1996), CC BY 4.0. Of its columns `fnlwgt` is no feature but a sampling weight, and
`education` says in words what `education_num` says in years: neither is in the schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.task import Task
from aimass.proto.tree_task import TreeTask

if TYPE_CHECKING:
    import torch


class Adult(Task):
    """Income above 50K by a network of one hidden layer."""

    schema = Schema(
        name="adult/1",
        columns=(
            Number(name="age", minimum=0, maximum=120, unit="years"),
            Category(
                name="workclass",
                values=(
                    "Federal-gov",
                    "Local-gov",
                    "Never-worked",
                    "Private",
                    "Self-emp-inc",
                    "Self-emp-not-inc",
                    "State-gov",
                    "Without-pay",
                ),
            ),
            Number(name="education_num", minimum=1, maximum=16),
            Category(
                name="marital_status",
                values=(
                    "Divorced",
                    "Married-AF-spouse",
                    "Married-civ-spouse",
                    "Married-spouse-absent",
                    "Never-married",
                    "Separated",
                    "Widowed",
                ),
            ),
            Category(
                name="occupation",
                values=(
                    "Adm-clerical",
                    "Armed-Forces",
                    "Craft-repair",
                    "Exec-managerial",
                    "Farming-fishing",
                    "Handlers-cleaners",
                    "Machine-op-inspct",
                    "Other-service",
                    "Priv-house-serv",
                    "Prof-specialty",
                    "Protective-serv",
                    "Sales",
                    "Tech-support",
                    "Transport-moving",
                ),
            ),
            Category(
                name="relationship",
                values=("Husband", "Not-in-family", "Other-relative", "Own-child", "Unmarried", "Wife"),
            ),
            Category(name="race", values=("Amer-Indian-Eskimo", "Asian-Pac-Islander", "Black", "Other", "White")),
            Category(name="sex", values=("Female", "Male")),
            Number(name="capital_gain", minimum=0, maximum=100_000, unit="dollars"),
            Number(name="capital_loss", minimum=0, maximum=100_000, unit="dollars"),
            Number(name="hours_per_week", minimum=0, maximum=168, unit="hours"),
            Category(
                name="native_country",
                values=(
                    "Cambodia",
                    "Canada",
                    "China",
                    "Columbia",
                    "Cuba",
                    "Dominican-Republic",
                    "Ecuador",
                    "El-Salvador",
                    "England",
                    "France",
                    "Germany",
                    "Greece",
                    "Guatemala",
                    "Haiti",
                    "Holand-Netherlands",
                    "Honduras",
                    "Hong",
                    "Hungary",
                    "India",
                    "Iran",
                    "Ireland",
                    "Italy",
                    "Jamaica",
                    "Japan",
                    "Laos",
                    "Mexico",
                    "Nicaragua",
                    "Outlying-US(Guam-USVI-etc)",
                    "Peru",
                    "Philippines",
                    "Poland",
                    "Portugal",
                    "Puerto-Rico",
                    "Scotland",
                    "South",
                    "Taiwan",
                    "Thailand",
                    "Trinadad&Tobago",
                    "United-States",
                    "Vietnam",
                    "Yugoslavia",
                ),
            ),
        ),
        label=Category(name="income", values=("<=50K", ">50K"), required=True),
    )

    def build(self) -> torch.nn.Module:
        """Standardise, encode, 64 hidden units, two logits."""
        from aimass.client.tasks.adult.network import Network  # noqa: PLC0415  (trees need no torch)
        from aimass.proto.preprocess import Tabular  # noqa: PLC0415

        return Network(Tabular(self.schema))


class AdultTrees(TreeTask):
    """The same by boosted trees."""

    schema = Adult.schema


task = Adult()
trees = AdultTrees()
