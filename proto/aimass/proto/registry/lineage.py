"""Which version came from which, and what names it now: a graph of a model's versions, as text, JSON or DOT. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from aimass.proto.registry.reader import Resolved
from aimass.proto.values import Value

__all__ = ["Lineage", "LineageVersion", "as_dot", "as_text", "lineage_of"]


class LineageVersion(Value, frozen=True):
    """One version in the graph; `parent` is the number of the one that it was trained on from."""

    number: int
    digest: str
    task: str
    parameters: str
    parent: int | None
    run: str
    data_set: str
    published_at: float
    publisher: str
    aliases: tuple[str, ...]


class Lineage(Value, frozen=True):
    """A model's versions, by number."""

    model: str
    versions: tuple[LineageVersion, ...]


def lineage_of(model: str, versions: Iterable[Resolved], aliases: Mapping[str, int]) -> Lineage:
    """The graph of these versions; `aliases` say which number each names."""
    nodes = (_node(found, aliases) for found in versions)
    return Lineage(model=model, versions=tuple(sorted(nodes, key=lambda node: node.number)))


def _node(found: Resolved, aliases: Mapping[str, int]) -> LineageVersion:
    version = found.version
    return LineageVersion(
        number=version.number,
        digest=found.digest,
        task=version.task.name,
        parameters=version.parameters.digest,
        parent=version.parent.number if version.parent is not None else None,
        run=version.run.name if version.run is not None else "",
        data_set=version.run.data_set if version.run is not None else "",
        published_at=version.created_at,
        publisher=found.signer,
        aliases=tuple(sorted(name for name, number in aliases.items() if number == version.number)),
    )


def as_text(lineage: Lineage) -> str:
    """A tree: each version below its parent."""
    return "\n".join(line for root in _roots(lineage) for line in _lines(lineage, root, 0)) + "\n"


def as_dot(lineage: Lineage) -> str:
    """For Graphviz: an edge from each parent to its children, and from a data set to what was trained on it."""
    lines = [f"digraph {_quoted(lineage.model)} {{", "  rankdir=LR;", "  node [shape=box];"]
    for node in lineage.versions:
        lines.append(f"  v{node.number} [label={_quoted(_label(lineage.model, node))}];")
        if node.parent is not None:
            lines.append(f"  v{node.parent} -> v{node.number};")
        if node.data_set:
            lines.append(f"  {_quoted(node.data_set)} -> v{node.number} [style=dashed];")
    return "\n".join([*lines, "}"]) + "\n"


def _roots(lineage: Lineage) -> list[LineageVersion]:
    known = {node.number for node in lineage.versions}
    return [node for node in lineage.versions if node.parent not in known]


def _lines(lineage: Lineage, node: LineageVersion, depth: int) -> Iterator[str]:
    indent = "" if depth == 0 else "  " * (depth - 1) + "└ "
    yield indent + _label(lineage.model, node)
    for child in lineage.versions:
        if child.parent == node.number:
            yield from _lines(lineage, child, depth + 1)


def _label(model: str, node: LineageVersion) -> str:
    made = f"run {node.run}" if node.run else "a file"
    over = f" over {node.data_set}" if node.data_set else ""
    named = f" [{', '.join(node.aliases)}]" if node.aliases else ""
    return f"{model}@{node.number}{named} from {made}{over}, by {node.publisher}"


def _quoted(text: str) -> str:
    return json.dumps(text)
