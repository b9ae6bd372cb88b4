"""A plan as an earlier release wrote it: canonical JSON that lacks what came later (here: what a cohort may say).

It stays as it is when the plan gets fields: that is what it is for.
"""

from __future__ import annotations

__all__ = ["older_plan"]

_PLAN = (
    '{"cohort":{"join_deadline_s":100.0,"partners":[],"quorum":%d,"step_deadline_s":100.0},"data_schema":"heart/1",'
    '"early_stop":null,"evaluate":{"batch_size":1024,"every":0},"format":1,"model":"%s","name":"older","seed":1,'
    '"stages":[{"driver":"averaging","options":{"rounds":2}}],"task":{"digest":"%s","name":"heart"},'
    '"train":{"batch_size":1,"epochs":1,"gradient_clip":null,"learning_rate":0.1,"momentum":0.0,"optimizer":"sgd",'
    '"proximal_mu":0.0,"steps":null,"weight":"rows","weight_decay":0.0}}'
)


def older_plan(quorum: int, model: str, task: str = "0" * 64) -> bytes:
    """Two rounds of averaging over the model and the task of these digests."""
    return (_PLAN % (quorum, model, task)).encode()
