"""The pages: what each is called, whom it is for, and the module that renders it."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable
from typing import Final, cast

from aimass.explain.app.house import Here
from aimass.explain.app.people import RUNS, SEES, Person
from aimass.privacy.pki import Role

__all__ = ["PAGES", "PageSpec", "pages_for"]


@dataclasses.dataclass(frozen=True, slots=True)
class PageSpec:
    """`name` is the last part of its address and its module; roles that may not see it do not know of it.

    Of people who log in these are `login_roles`: theirs are the eyes that a service shows more than this machine's.
    """

    name: str
    title: str
    icon: str
    group: str
    roles: frozenset[Role] = SEES
    login_roles: frozenset[Role] = SEES

    def is_for(self, person: Person) -> bool:
        """Whether there is such a page for this person."""
        return person.is_any(self.roles) and (person.token is None or person.is_any(self.login_roles))

    @property
    def module(self) -> str:
        """Where `render` is."""
        return f"aimass.explain.app.views.{self.name}"

    @property
    def render(self) -> Callable[[Here], None]:
        """The page's function, loaded when it is called."""
        return cast("Callable[[Here], None]", importlib.import_module(self.module).render)


PAGES: Final = (
    PageSpec("home", "Home", ":material/home:", ""),
    PageSpec("tour", "Tour", ":material/tour:", ""),
    PageSpec("runs", "Runs", ":material/monitoring:", "Training"),
    PageSpec("compare", "Compare", ":material/balance:", "Training"),
    PageSpec("tuning", "Tuning", ":material/tune:", "Training"),
    PageSpec("parameters", "Parameters", ":material/grid_on:", "Training"),
    PageSpec("lpi", "LPI: why this prediction", ":material/person_search:", "Explanations"),
    PageSpec("gap", "GAP: what the model uses", ":material/bar_chart:", "Explanations"),
    PageSpec("prim", "PRIM: where predictions fall", ":material/crop_free:", "Explanations"),
    PageSpec("segviz", "SegViz: where it is wrong", ":material/texture:", "Explanations"),
    PageSpec("models", "Models", ":material/deployed_code:", "Operations"),
    PageSpec("serving", "Serving", ":material/dns:", "Operations", login_roles=RUNS),
    PageSpec("data", "Data", ":material/database:", "Operations", RUNS),
    PageSpec("privacy", "Privacy", ":material/shield:", "Operations"),
)


def pages_for(person: Person) -> tuple[PageSpec, ...]:
    """Those that this person may see, in order."""
    return tuple(page for page in PAGES if page.is_for(person) and importlib.util.find_spec(page.module))
