"""What the process loads before somebody asks for it, and is not looked through for garbage ever after."""

from __future__ import annotations

import gc
import importlib
import logging
import threading
from collections.abc import Sequence
from typing import Final

from aimass.explain.app.pages_table import PAGES

__all__ = ["settle", "settled_beside"]

_COMPUTING: Final = ("torch", "captum.attr", "scipy.stats")
"""What the first answer loads: seconds of it on a small machine."""
log = logging.getLogger("aimass.explain.app")


def settled_beside(*, computing: bool) -> threading.Thread:
    """`settle` in a thread of its own: the first page is shown meanwhile."""
    modules = [page.module for page in PAGES] + (list(_COMPUTING) if computing else [])
    thread = threading.Thread(target=settle, args=(modules,), name="aimass-settling", daemon=True)
    thread.start()
    return thread


def settle(modules: Sequence[str]) -> None:
    """Load these, and let collections of garbage pass by all that there is then.

    Libraries are some 400,000 objects that live as long as the process. A whole collection looks at each of them, and
    nobody is served meanwhile.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:  # the page that needs it says so to whoever opens it
            log.warning("%s cannot be loaded: %s", name, type(error).__name__)
    gc.collect()
    gc.freeze()
