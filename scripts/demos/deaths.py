"""Who is killed in the demo, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aimass.client.session import Session
from aimass.proto.step import StepKind
from aimass.proto.values import decode_json
from aimass.proto.views import RunView
from scripts.demos.glimpse import Glimpse, look
from scripts.demos.house import House
from scripts.demos.traps import Trap

__all__ = ["Deaths"]


class Deaths:
    """Who is killed when: after its masked input is in, before it is ready, and the server in the midst of a step."""

    def __init__(
        self, house: House, rounds: int, say: Callable[[str], None], partners: Sequence[str], *, secure: bool
    ) -> None:
        """In a run of so many rounds, 0 for nobody; the first of two `partners` dies with its masked input in."""
        self._house, self._say, self._secure, self._masked = house, say, secure, partners[0]
        self._due: dict[int, str] = {}
        if rounds:
            self._due = {rounds // 3: partners[0], rounds // 2: partners[1], 2 * rounds // 3: "server"}
        self._set: list[Trap] = []
        self.killed: list[str] = []
        self.glimpse: Glimpse | None = None

    def at(self, view: RunView) -> None:
        """Whoever is due in the round that a view is of."""
        victim = self._due.pop(view.summary.round, None)
        if victim is None:
            return
        self.over()
        log = self._house.folder
        if victim == "server":
            self._kill("server", "")
        elif victim == self._masked and self._secure:
            seen = rf"run (\w+) step (\d+) {victim}: masked input stored"
            self._set.append(Trap(log / "server.log", seen, lambda match: self._seen(view, int(match[2]))))
        else:
            self._set.append(
                Trap(log / f"{victim}.log", ": counted", lambda _: self._kill(victim, "before it is ready"))
            )

    def _seen(self, view: RunView, index: int) -> bool:
        """Keep copies of what the server holds of a masked input and of what it hides, and kill its partner; False for
        an input to an evaluation, or one that is summed and deleted already."""
        victim, folder = self._masked, self._house.folder
        run_id = view.summary.run_id
        kept = folder / victim / "state" / "runs" / run_id
        try:
            payload = (folder / "server" / "data" / "spool" / f"{run_id}-{index}-{victim}").read_bytes()
            lanes = (kept / f"step-{index}.safetensors").read_bytes()
            beside = (kept / f"step-{index}.beside.json").read_bytes()
            step = decode_json(Session, (kept / "session.json").read_bytes(), "the session").step
        except FileNotFoundError:
            return False
        if step is None or step.index != index or step.kind is not StepKind.TRAIN:
            return False
        self.glimpse = look(view.plan, step, victim, lanes, payload, beside)
        return self._kill(victim, f"when its masked input of step {index} is in")

    def _kill(self, victim: str, when: str) -> bool:
        self._say(f"       kill -9 {victim}{', ' if when else ''}{when}; starting it again")
        self._house.kill(victim)
        self.killed.append(victim)
        self._house.start_server() if victim == "server" else self._house.start_partner(victim)
        return True

    def over(self) -> None:
        """Wait for what was set."""
        while self._set:
            self._set.pop().done()
