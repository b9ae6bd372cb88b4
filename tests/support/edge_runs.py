"""A smallest run for tests of the server's edge: one tensor, one averaging round, partners that only say that they joined."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from aimass.proto.plan import Cohort, Plan, Stage, TaskRef, TrainSettings, encode_plan
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.transfer import SubmitHeader, submit
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from tests.support.edge_federation import Edge, Line, welcomed

PARTNERS = ("north", "south")


def model(elements: int = 4) -> bytes:
    """A first model of one tensor."""
    return encode_numpy({"w": np.zeros(elements, np.float32)})


def plan(blob: bytes) -> bytes:
    """A plan for both partners over `blob`."""
    return encode_plan(
        Plan(
            name="p",
            task=TaskRef(name="heart", digest="0" * 64),
            data_schema="heart/1",
            seed=1,
            model=Blob(blob).digest,
            stages=(Stage(driver="averaging", options={"rounds": 1}),),
            train=TrainSettings(batch_size=1, learning_rate=0.1, epochs=1),
            cohort=Cohort(partners=PARTNERS, quorum=len(PARTNERS)),
        )
    )


async def submit_run(edge: Edge, who: str = "anna", blob: bytes = b"", key: str = "k" * 8) -> str:
    """Upload the model, submit the plan; the run's id."""
    blob = blob or model()
    channel = edge.channel(who)
    header = SubmitHeader(kind="model", size=len(blob), digest=Blob(blob).digest)
    await submit(channel, header, memoryview(blob))
    document = await rpc.ControlStub(channel).SubmitRun(pb.SubmitRunRequest(plan=plan(blob), key=key))
    run_id = msgspec.json.decode(document.json)["summary"]["run_id"]
    assert isinstance(run_id, str)
    return run_id


async def open_step(edge: Edge, blob: bytes) -> tuple[str, dict[str, Line]]:
    """A run whose first step is open at both partners."""
    run_id = await submit_run(edge, blob=blob)
    lines = {name: await welcomed(edge, name) for name in PARTNERS}
    await join(lines, run_id, blob)
    for line in lines.values():
        await line.until("open_step")
    return run_id, lines


async def join(lines: dict[str, Line], run_id: str, blob: bytes) -> None:
    """Everybody says that they take part."""
    digest = hashlib.sha256(plan(blob)).hexdigest()
    for name, line in lines.items():
        joined = pb.Joined(run_id=run_id, plan_digest=digest, participant=name, device="cpu", confinement="process")
        await line.call.write(pb.FromPartner(joined=joined))
