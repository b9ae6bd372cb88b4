"""Opening what is explained: a model by the name that a person has for it, and the rows that it is asked about."""

from __future__ import annotations

from aimass.explain.opening.images import open_images
from aimass.explain.opening.models import Subject, Where, open_subject
from aimass.explain.opening.tables import open_rows
from aimass.explain.opening.texts import open_texts

__all__ = ["Subject", "Where", "open_images", "open_rows", "open_subject", "open_texts"]
