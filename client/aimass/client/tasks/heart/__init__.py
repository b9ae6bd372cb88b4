"""Heart disease from thirteen findings, whatever of them a hospital did not measure: by a network, or by trees.

Data: UCI heart disease (Janosi, Steinbrunn, Pfisterer, Detrano 1988), four hospitals, CC BY 4.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.task import Task
from aimass.proto.tree_task import TreeTask

if TYPE_CHECKING:
    import torch


class Heart(Task):
    """Presence of heart disease (`num` above 0) by a two-layer network."""

    schema = Schema(
        name="heart/1",
        columns=(
            Number(name="age", minimum=0, maximum=120, unit="years"),
            Category(name="sex", values=("Female", "Male")),
            Category(name="cp", values=("asymptomatic", "atypical angina", "non-anginal", "typical angina")),
            Number(name="trestbps", minimum=0, maximum=300, unit="mm Hg", missing_values=(0,)),
            Number(name="chol", minimum=0, maximum=1000, unit="mg/dl", missing_values=(0,)),
            Category(name="fbs", values=("false", "true")),
            Category(name="restecg", values=("lv hypertrophy", "normal", "st-t abnormality")),
            Number(name="thalch", minimum=0, maximum=300, unit="1/min"),
            Category(name="exang", values=("false", "true")),
            Number(name="oldpeak", minimum=-10, maximum=10, unit="mm"),
            Category(name="slope", values=("downsloping", "flat", "upsloping")),
            Number(name="ca", minimum=0, maximum=3, unit="vessels"),
            Category(name="thal", values=("fixed defect", "normal", "reversable defect")),
        ),
        label=Category(name="disease", values=("no", "yes"), required=True),
    )

    def build(self) -> torch.nn.Module:
        """Standardise, encode, 32 hidden units, two logits."""
        from aimass.client.tasks.heart.network import Network  # noqa: PLC0415  (trees need no torch)
        from aimass.proto.preprocess import Tabular  # noqa: PLC0415

        return Network(Tabular(self.schema))


class HeartTrees(TreeTask):
    """The same by boosted trees."""

    schema = Heart.schema


task = Heart()
trees = HeartTrees()
