"""The Python SDK: a typed client of the server for people, notebooks and our own commands.

    with Federation.open("scientist") as federation:
        run = federation.submit("plan.toml")
        for view in run.watch():
            print(view.summary.round, view.summary.state)

Calls block; the network runs on a thread of its own, so they work inside a notebook's event loop too. A broken link is
waited for where nothing is lost by it (watching, fetching), and for a while where something is sent; a refusal raises
the server's named error.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import queue
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from aimass.proto.app_plan import AppDraft, app_plan, initial_arrays
from aimass.proto.apps import read_app
from aimass.proto.bases import own_bases
from aimass.proto.bearer import Token
from aimass.proto.clock import Clock, SystemClock
from aimass.proto.connection import Connection, named
from aimass.proto.drafts import completed
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.home import HomeSettings, load_home, tls_identity
from aimass.proto.model_manifest import decode_manifest
from aimass.proto.origin import Schedule
from aimass.proto.plan import Plan, PlanDraft, encode_plan, read_plan_draft
from aimass.proto.resuming import Progress, resumed
from aimass.proto.run_pages import changes, whole
from aimass.proto.storage import Spool
from aimass.proto.transfer import FetchRequest, SubmitHeader, fetch, submit
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import Scalar, Value, decode_json
from aimass.proto.views import (
    EnrolmentList,
    ModelList,
    ModelView,
    PersonView,
    ReceiptList,
    RunList,
    RunSummary,
    RunView,
    ServerView,
    StudyView,
)

__all__ = ["Federation", "Run"]

T = TypeVar("T")
V = TypeVar("V", bound=Value)
_MAX_MODEL = 1 << 36


class Federation(Connection):
    """A person's connection to a server; a context manager. Make it with `Federation.open`."""

    def __init__(
        self, settings: HomeSettings, folder: Path, clock: Clock | None = None, token: Token | None = None
    ) -> None:
        self.settings, self._folder, self._clock = settings, folder, clock or SystemClock()
        super().__init__(settings.server, tls_identity(folder), token)
        self.control = rpc.ControlStub(self._channel)

    @staticmethod
    def open(home: str | Path, token: Token | None = None) -> Federation:
        """Connect as the person whose folder this is; raises `NotFound` before enrolment.

        With a `token` the folder is a service's, which brings a person: `token` gives that person's ID or access token
        at each call, and the server's `[people]` says whose count.
        """
        folder = Path(home)
        return Federation(load_home(folder), folder, token=token)

    # ---------------------------------------------------------------- runs

    def submit(
        self,
        plan: str | Path | PlanDraft | Plan,
        *,
        model: bytes | None = None,
        key: str = "",
        base: bool = False,
        progress: Progress | None = None,
    ) -> Run:
        """Start a run from a plan: a TOML file, a draft, or a complete plan whose first model is given or uploaded.

        For a draft the task's digest is taken from what is installed here, and the first model is built from the
        plan's seed. The same `key` gives the same run, so a submission can be repeated safely. With `base` the task's
        base, if it has one, is sent first, for partners that do not hold it. `progress` hears of the bytes that are
        sent of a model and of all.
        """
        complete, blob = _completed(plan, model)
        if base and complete.base is not None:
            self.upload(own_bases().open(complete.base).data, progress)
        if blob:
            self.upload(blob, progress)
        request = pb.SubmitRunRequest(plan=encode_plan(complete), key=key or secrets.token_hex(16))
        return self._begun(self.control.SubmitRun, request, reached=bool(blob))

    def submit_offline(
        self,
        plan: str | Path | PlanDraft | Plan,
        data_set: str,
        *,
        schedule: Schedule = "averaging",
        key: str = "",
        progress: Progress | None = None,
    ) -> Run:
        """Have the service train a plan, as `submit` takes it, over a data set in one of its stores: NAME or NAME@N.

        The same `key` gives the same run.
        """
        complete, blob = _completed(plan, None)
        if blob:
            self.upload(blob, progress)
        request = pb.SubmitOfflineRequest(
            plan=encode_plan(complete), key=key or secrets.token_hex(16), data_set=data_set, schedule=schedule
        )
        return self._begun(self.control.SubmitOffline, request, reached=True)

    def _begun(self, method: Callable[..., Awaitable[pb.Document]], request: object, *, reached: bool) -> Run:
        """It may have been taken although no answer came: with its key it is the same run."""

        async def ask(_: Progress) -> pb.Document:
            with named():
                return await method(request)

        document = self._await(resumed(ask, self._clock, "the plan was not sent", reached=reached))
        return Run(self, decode_json(RunView, document.json, "the server's answer"))

    def submit_app(
        self,
        folder: str | Path,
        draft: AppDraft | None = None,
        run_config: Mapping[str, Scalar] | None = None,
        *,
        initial: str | Path | None = None,
        key: str = "",
    ) -> Run:
        """Start a run of the Flower app in `folder`: `run_config` over its own, `draft` what else there is to say.

        `initial` is the first model of an app whose server side is a bare strategy: a safetensors file. The server and
        each partner need the app installed; the plan carries its digest, and no code.
        """
        first = None if initial is None else initial_arrays(Path(initial))
        plan, model = app_plan(read_app(Path(folder)), draft or AppDraft(), run_config or {}, first)
        return self.submit(plan, model=model, key=key)

    def upload(self, blob: bytes | memoryview, progress: Progress | None = None) -> str:
        """Send a first model, or a base; returns its digest. Sent before, it is not sent again.

        Goes on where a broken link stopped it, unless nothing moves on for two minutes: `Unavailable` says so then.
        """
        digest = hashlib.sha256(blob).hexdigest()
        header = SubmitHeader(kind="model", size=len(blob), digest=digest)

        async def send(heard: Progress) -> None:
            idle_s = self.settings.link.idle_s
            await submit(self._channel, header, memoryview(blob), heard, idle_s=idle_s)

        self._await(resumed(send, self._clock, "the first model was not sent", progress=progress))
        return digest

    def runs(self, state: str = "", limit: int = 50) -> tuple[RunSummary, ...]:
        """Runs that this person may see, newest first."""
        return self.ask(self.control.ListRuns, pb.ListRequest(state=state, limit=limit), RunList).runs

    def end_study(self, study: str) -> StudyView:
        """End a study: no run of it begins any more, and partners free what they reserved for it and no run has spent.

        Those that are away hear of it when they connect again. Again it changes nothing. Raises `NotFound` for a study
        of no run, `Refused` for another's, `WrongState` while a run of it goes on.
        """
        return self.ask(self.control.EndStudy, pb.EndStudyRequest(study=study), StudyView)

    def run(self, run_id: str) -> Run:
        """One run by its id, by the first digits of it where they are enough, or `last` for the newest."""
        if run_id == "last":
            newest = self.runs(limit=1)
            if not newest:
                raise NotFound("there is no run yet", code="run.none", cure="aimass run submit PLAN starts one.")
            run_id = newest[0].run_id
        elif 0 < len(run_id) < 32:
            matches = [run.run_id for run in self.runs(limit=1_000_000) if run.run_id.startswith(run_id)]
            run_id = matches[0] if len(matches) == 1 else run_id
        return Run(self, self._run_view(run_id))

    def _run_view(self, run_id: str) -> RunView:
        async def read() -> RunView:
            return await whole(self.control, run_id)

        return self._await(read())

    # ---------------------------------------------------------------- models

    def models(self, run_id: str = "", limit: int = 100) -> tuple[ModelView, ...]:
        """Committed models, newest first."""
        return self.ask(self.control.ListModels, pb.ListRequest(run_id=run_id, limit=limit), ModelList).models

    def model(self, digest: str) -> ModelView:
        """One committed model by its digest, by the first digits of it where they are enough, or `last`: the newest."""
        return self.ask(self.control.ShowModel, pb.ModelRequest(digest=self._whole(digest)), ModelView)

    def manifest(self, of: str) -> bytes:
        """The manifest of a finished run's last model, in the bytes whose SHA-256 names it.

        `of` is a run as in `run`, or the model as in `model`. `model_manifest.decode_manifest` reads the bytes.
        """
        run_id, digest = self._run_of(of)

        async def call() -> bytes:
            document: pb.Document = await self.control.ShowManifest(pb.RunRequest(run_id=run_id))
            return document.json

        written = self._await(call())
        if digest and decode_manifest(written).parameters != digest:
            raise NotFound(
                "a manifest is written for the last model of a run alone",
                code="model.no_manifest",
                value=digest,
                limit=decode_manifest(written).parameters,
                cure=f"aimass model manifest {run_id[:8]} shows that of its run's last model.",
            )
        return written

    def _run_of(self, of: str) -> tuple[str, str]:
        """A run, and the digest of its model that was meant, where a model was."""
        if len(of) < 64:
            with contextlib.suppress(NotFound):
                return self.run(of).id, ""
        model = self.model(of)
        return model.run_id, model.digest

    def _whole(self, digest: str) -> str:
        if digest == "last" or len(digest) < 64:
            models = self.models(limit=1 if digest == "last" else 1_000_000)
            found = {model.digest for model in models if digest == "last" or model.digest.startswith(digest)}
            if not found and digest == "last":
                raise NotFound("there is no model yet", code="model.none", cure="aimass run watch last shows why.")
            if len(found) != 1:
                raise NotFound(
                    "no one model has a digest that begins so",
                    code="model.unknown",
                    value=digest,
                    limit=f"{len(found)} found",
                    cure="aimass model list shows all.",
                )
            return found.pop()
        return digest

    def export(self, digest: str, path: str | Path, progress: Progress | None = None) -> Path:
        """Fetch a model's safetensors file, verified.

        Goes on where a broken fetch stopped, unless nothing moves on for two minutes: `Unavailable` says so then.
        """
        target, digest = Path(path), self._whole(digest)
        if target.is_dir():
            raise BadInput("a folder stands where the model would go", code="model.path", value=target)
        folder = target.parent / f".{target.name}.fetch"
        spool = Spool(folder)

        async def get(heard: Progress) -> Path:
            return await fetch(self._channel, FetchRequest(digest=digest), spool, _MAX_MODEL, heard)

        try:
            told = resumed(get, self._clock, "the model was not fetched", reached=True, progress=progress)
            self._await(told).replace(target)
            shutil.rmtree(folder)  # with what broken fetches of other models left
        except NotFound:
            shutil.rmtree(folder)
            raise
        finally:
            with contextlib.suppress(OSError):  # gone, or it holds what the next try goes on from
                folder.rmdir()
        return target

    def who_am_i(self) -> PersonView:
        """Whom the server takes the caller for: by the certificate, or by the token that the connection shows."""
        return self.ask(self.control.WhoAmI, pb.StatusRequest(), PersonView)

    # ---------------------------------------------------------------- operators

    def status(self) -> ServerView:
        """The server at a glance."""
        return self.ask(self.control.Status, pb.StatusRequest(), ServerView)

    def enrolments(self) -> EnrolmentList:
        """Requests that wait for the root holder."""
        return self.ask(self.control.ListEnrolments, pb.StatusRequest(), EnrolmentList)

    def install_trust(self, bundle: bytes) -> ServerView:
        """Install a bundle that the root signed."""
        return self.ask(self.control.InstallTrust, pb.InstallTrustRequest(bundle=bundle), ServerView)


def _completed(plan: str | Path | PlanDraft | Plan, model: bytes | None) -> tuple[Plan, bytes]:
    """A plan with its first model: made of a draft, as it is otherwise, empty where it was sent before."""
    if isinstance(plan, str | Path):
        plan = read_plan_draft(Path(plan).read_text("utf-8"), str(plan))
    return completed(plan, model) if isinstance(plan, PlanDraft) else (plan, model or b"")


class Run:
    """A run on the server."""

    def __init__(self, federation: Federation, view: RunView) -> None:
        self._federation = federation
        self.view = view
        self._views: queue.Queue[RunView | BaseException | None] = queue.Queue(maxsize=64)
        self._left = False

    @property
    def id(self) -> str:
        """Its id."""
        return self.view.summary.run_id

    def refresh(self) -> RunView:
        """The run now."""
        self.view = self._federation._run_view(self.id)
        return self.view

    def watch(self) -> Iterator[RunView]:
        """The run at each change until it has ended, or this is left; survives a restart of the server."""
        views = self._views = queue.Queue(maxsize=64)
        task = asyncio.run_coroutine_threadsafe(self._watch_into(views), self._federation._loop)
        try:
            while not self._left and (item := views.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                self.view = item
                yield item
        finally:
            task.cancel()

    async def _watch_into(self, views: queue.Queue[RunView | BaseException | None]) -> None:
        try:
            async for view in changes(self._federation.control, self.id):
                while True:
                    try:
                        views.put_nowait(view)
                        break
                    except queue.Full:
                        await asyncio.sleep(0.05)
            views.put(None)
        except BaseException as error:  # noqa: BLE001  (raised again on the caller's side)
            views.put(error)

    def leave(self) -> None:
        """Have a `watch` end soon that another thread is in; the run goes on, and this object watches it no more."""
        self._left = True
        with contextlib.suppress(queue.Full):  # who has so much to read looks up before the next
            self._views.put_nowait(None)

    def wait(self) -> RunView:
        """Block until the run has ended."""
        for _ in self.watch():
            pass
        return self.view

    def _change(self, change: str, partner: str = "") -> RunView:
        request = pb.ChangeRunRequest(run_id=self.id, change=change, partner=partner, most_steps=1)
        self._federation.ask(self._federation.control.ChangeRun, request, RunView)
        return self.refresh()

    def pause(self) -> RunView:
        """Open no new steps."""
        return self._change("pause")

    def resume(self) -> RunView:
        """Go on after a pause."""
        return self._change("resume")

    def stop(self) -> RunView:
        """End the run; what was committed stays."""
        return self._change("stop")

    def readmit(self, partner: str) -> RunView:
        """Ask a partner again that was excluded after failing too often."""
        return self._change("readmit", partner)

    def prune(self) -> RunView:
        """Keep the first, last and best model of a run that has ended, and free the rest."""
        return self._change("prune")

    def receipts(self) -> ReceiptList:
        """What was counted of whom."""
        request = pb.RunRequest(run_id=self.id)
        return self._federation.ask(self._federation.control.ListReceipts, request, ReceiptList)
