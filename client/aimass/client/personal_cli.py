"""`aimass client model list | export | remove`: the partner's own models of runs that ended in personal ones."""

from __future__ import annotations

import argparse

from aimass.proto.console import emit

__all__ = ["model_export", "model_list", "model_remove"]


def model_list(args: argparse.Namespace) -> int:
    """What is kept here, with its measures on the held-out rows before and after."""
    from aimass.client.personal_models import PersonalModels
    from aimass.proto.durable import UNINTERRUPTED

    models = list(PersonalModels(args.dir, UNINTERRUPTED).all())
    if args.json:
        emit(args, models)
        return 0
    emit(
        args,
        [
            {
                "run": model.run_id[:8],
                "plan": model.plan,
                "task": model.task,
                "bytes": model.bytes,
                **{
                    name: f"{model.before[name]:.4f} -> {after:.4f}" if name in model.before else f"{after:.4f}"
                    for name, after in model.after.items()
                },
            }
            for model in models
        ],
    )
    return 0


def model_export(args: argparse.Namespace) -> int:
    """Write one as a safetensors file. The file is this partner's alone: it was tuned on its rows without noise."""
    from aimass.client.personal_models import PersonalModels
    from aimass.proto.durable import UNINTERRUPTED, write_file

    model, path = PersonalModels(args.dir, UNINTERRUPTED).find(args.run)
    write_file(args.path, path.read_bytes(), UNINTERRUPTED, "client.export")
    emit(args, {"written": str(args.path), "digest": model.digest, "bytes": model.bytes})
    return 0


def model_remove(args: argparse.Namespace) -> int:
    """Delete one; a run that has ended makes no other."""
    from aimass.client.personal_models import PersonalModels
    from aimass.proto.durable import UNINTERRUPTED

    model = PersonalModels(args.dir, UNINTERRUPTED).remove(args.run)
    emit(args, {"removed": model.run_id, "plan": model.plan, "bytes": model.bytes})
    return 0
