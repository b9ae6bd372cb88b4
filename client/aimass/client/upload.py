"""The way of a contribution to the server, plain or under masks: patient, resumed, and told in log and meters."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable

from aimass.client.inbox import patiently
from aimass.client.meters import DaemonMeters
from aimass.client.partner import Partner
from aimass.client.uplink import Uplink
from aimass.proto.clock import Clock, Stopwatch
from aimass.proto.errors import AimassError, WrongState
from aimass.proto.grpc_env import grpc
from aimass.proto.logs import about
from aimass.proto.step import StepKind
from aimass.proto.transfer import SubmitHeader, submit

__all__ = ["Uploads"]

log = logging.getLogger("aimass.client")


@dataclasses.dataclass(frozen=True, slots=True)
class Uploads:
    """What a partner sends goes over whatever connection there is, at the pace that its owner allows.

    `counted` says of a step whether its receipt has come: it may overtake the acknowledgement, on another stream.
    """

    partner: Partner
    uplink: Uplink
    clock: Clock
    meters: DaemonMeters
    counted: Callable[[int], bool] = lambda _: False

    async def bring(self, kind: StepKind, header: SubmitHeader, data: Callable[[], memoryview]) -> bool:
        """Whether the server acknowledged it: False where it is not wanted any more. Raises what it is refused with.

        `data` is opened for each try and held by nobody afterwards: who deletes a file waits for nobody.
        """
        step_log, watch = about(log, header.run_id, header.step), Stopwatch(self.meters.part_seconds)
        try:
            await patiently(step_log, self.clock, lambda: self._sent(header, data))
        except asyncio.CancelledError:
            if self.counted(header.step):
                self._count(kind, header, watch)
            raise
        except WrongState as error:
            step_log.info("not wanted any more: %s", error)
            return False
        except AimassError as error:
            step_log.error("contribution refused: %s", error)
            self.meters.steps.add(kind, "refused")
            raise
        self._count(kind, header, watch)
        step_log.info("%s, %d bytes%s", watch, header.size, " under masks" if header.masked else "")
        return True

    def _count(self, kind: StepKind, header: SubmitHeader, watch: Stopwatch) -> None:
        watch.lap("sent")
        self.meters.steps.add(kind, "sent")
        self.meters.bytes_moved.add("up", by=header.size)

    async def _sent(self, header: SubmitHeader, data: Callable[[], memoryview]) -> None:
        view = data()

        async def send(channel: grpc.aio.Channel) -> None:
            idle_s = self.partner.settings.link.idle_s
            await submit(channel, header, view, pace=self.partner.up, idle_s=idle_s)

        await self.uplink.transfer(send)
