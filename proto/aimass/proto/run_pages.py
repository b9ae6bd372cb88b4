"""A run's view with all its steps, read in pages: a run of many thousand steps fits into no one document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from aimass.proto.errors import Unavailable
from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import decode_json
from aimass.proto.views import RunView, StepView
from aimass.proto.wire import error_of

__all__ = ["changes", "whole"]

_PAGE: Final = 1_000
"""Steps in one document, of which the server puts fewer into it where they are large."""
_RECONNECT_S: Final = 0.5


async def whole(control: Any, run_id: str, page: int = _PAGE) -> RunView:
    """The run now. `control` is the service's stub; raises what its calls raise."""
    steps: list[StepView] = []
    while True:
        first = steps[-1].index + 1 if steps else 0
        document = await control.ShowRun(pb.RunRequest(run_id=run_id, first_step=first, most_steps=page))
        view = decode_json(RunView, document.json, "the server's answer")
        steps += view.steps
        if _last(view, page):
            return msgspec.structs.replace(view, steps=tuple(steps))


async def changes(control: Any, run_id: str, page: int = _PAGE) -> AsyncIterator[RunView]:
    """The run now and at each change until it has ended, through restarts of the server; raises its refusal."""
    steps: dict[int, StepView] = {}
    ended = False
    while not ended:
        try:
            async for document in control.WatchRun(pb.RunRequest(run_id=run_id, most_steps=page)):
                view = decode_json(RunView, document.json, "the server's answer")
                steps |= {step.index: step for step in view.steps}
                if _last(view, page):
                    yield msgspec.structs.replace(view, steps=tuple(steps[index] for index in sorted(steps)))
                    ended = view.summary.state.final
        except grpc.aio.AioRpcError as raised:
            error = error_of(raised)
            if not (ended or isinstance(error, Unavailable)):
                raise error from None
        if not ended:
            await asyncio.sleep(_RECONNECT_S)


def _last(view: RunView, page: int) -> bool:
    return not view.more and len(view.steps) < page
