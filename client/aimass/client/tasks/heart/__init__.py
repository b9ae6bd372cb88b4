"""Heart disease from thirteen findings: a small network that copes with what a hospital did not measure.

Data: UCI heart disease (Janosi, Steinbrunn, Pfisterer, Detrano 1988), four hospitals, CC BY 4.0.
"""

from __future__ import annotations

import torch

from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.preprocess import Tabular
from aimass.proto.task import Task


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
        return Network(Tabular(self.schema))


class Network(torch.nn.Module):
    """The preprocessing and the layers that are trained."""

    def __init__(self, preprocess: Tabular, hidden: int = 32) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.hidden = torch.nn.Linear(preprocess.width, hidden)
        self.dropout = torch.nn.Dropout(0.2)
        self.output = torch.nn.Linear(hidden, 2)

    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        """Logits [n, 2]."""
        hidden = torch.relu(self.hidden(self.preprocess(numbers, categories)))
        logits: torch.Tensor = self.output(self.dropout(hidden))
        return logits


task = Heart()
