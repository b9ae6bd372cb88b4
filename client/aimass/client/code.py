"""What a person means who names code here: an installed task, analysis or Flower app."""

from __future__ import annotations

from pathlib import Path

from aimass.client.policy import AdmittedTask
from aimass.proto.analysis import installed_analyses, locate_analysis
from aimass.proto.apps import installed
from aimass.proto.errors import Conflict, NotFound
from aimass.proto.task import installed_tasks, locate

__all__ = ["code_named"]


def code_named(folder: Path, name: str, digest: str = "") -> AdmittedTask:
    """The code of this name, and of this digest where one is given, as a policy admits it.

    The digest of a task or analysis may be that of a version that is not installed yet; an app is installed first, as
    its code is what is read. Raises `NotFound` where there is none, and `Conflict` where there are several.
    """
    found = [
        AdmittedTask(name=name, digest=app.digest, kind="app")
        for app in installed(folder)
        if app.name == name and digest in ("", app.digest)
    ]
    if name in installed_tasks() and not (digest and found):
        found.append(AdmittedTask(name=name, digest=digest or locate(name).digest))
    if name in installed_analyses() and not (digest and found):
        found.append(AdmittedTask(name=name, digest=digest or locate_analysis(name).digest, kind="analysis"))
    if not found:
        raise NotFound(
            "no such task, analysis or app is installed here",
            code="code.unknown",
            value=f"{name} {digest}".strip(),
            limit=", ".join(
                (*installed_tasks(), *installed_analyses(), *sorted({app.name for app in installed(folder)}))
            )
            or "none",
            cure="Install the code's package, or the app: aimass client app install FOLDER. Code never travels.",
        )
    if len(found) > 1:
        raise Conflict(
            "several have this name",
            code="code.several",
            value=", ".join(f"{each.kind} {each.digest}" for each in found),
            cure="Name the one that you have read by --digest.",
        )
    return found[0]
