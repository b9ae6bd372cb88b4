"""A task whose model is boosted trees over the schema's own numbers and categories, as they are read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aimass.proto.errors import BadInput
from aimass.proto.predictors import Predictor
from aimass.proto.rows import Batch
from aimass.proto.task import Task
from aimass.proto.tensors import Blob
from aimass.proto.tree_scores import features, predictions, scorer
from aimass.proto.trees import Ensemble, Objective, decode, encode, feature_sizes

__all__ = ["TreeTask"]


class TreeTask(Task):
    """Classification of rows by trees, or regression; subclass with `schema`. The driver `trees` grows them."""

    def empty(self) -> Ensemble:
        """No trees yet: logistic loss of two labels, softmax of more, squared error of a number; every margin 0."""
        match len(self.schema.classes):
            case 0:
                objective, outputs = Objective.SQUARED_ERROR, 1
            case 2:
                objective, outputs = Objective.LOGISTIC, 1
            case classes:
                objective, outputs = Objective.SOFTMAX, classes
        return Ensemble(objective, np.zeros(outputs, np.float32), feature_sizes(self.schema))

    def ensemble(self, parameters: Blob) -> Ensemble:
        """The trees of a blob; raises `BadInput` where they are none, or another schema's."""
        found, expected = decode(parameters), self.empty()
        same = found.objective is expected.objective and len(found.base) == len(expected.base)
        if not same or found.sizes.tolist() != expected.sizes.tolist():
            raise BadInput(
                "the trees are not of this task's columns and labels",
                code="task.parameters",
                value=f"{found.objective}, {len(found.base)} outputs, features {found.sizes.tolist()}",
                limit=f"{expected.objective}, {len(expected.base)} outputs, features {expected.sizes.tolist()}",
            )
        return found

    def first(self, seed: int) -> bytes:
        """The blob of no trees; the seed decides nothing yet."""
        return encode(self.empty())

    def predictor(self, parameters: Blob, device: str = "cpu") -> Predictor:
        """Probabilities [n, labels], or a number's predictions [n, 1], on the CPU."""
        ensemble = self.ensemble(parameters)
        score = scorer(ensemble)

        def predict(batch: Batch, _size: int = 1024, /) -> npt.NDArray[np.float64]:
            return predictions(ensemble.objective, score(features(batch)))

        return predict
