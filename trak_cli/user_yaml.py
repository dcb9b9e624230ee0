"""YAML that somebody else wrote: aliases can stand for far more nodes than the text has, and nesting exhausts the stack."""

from __future__ import annotations

from typing import Any

import yaml  # type: ignore[import-untyped]

#: Bytes of a text, at most; the levels of its nesting; and the nodes that its aliases stand for.
MAX_BYTES, MAX_DEPTH, MAX_ALIASED = 1 << 20, 40, 100_000

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def require_simple(text: str) -> None:
    """Refuse a text that is too long, nested too deeply, or whose aliases stand for too many nodes.

    It reads events only, so that no node is built.

    Raises:
        ValueError: it is one of these.
        yaml.YAMLError: it is not YAML.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"a YAML text of more than {MAX_BYTES:,} characters")
    anchors: dict[str, tuple[int, int]] = {}
    open_nodes: list[list[Any]] = [[None, 0, 0]]  # anchor, number of nodes inside, their levels
    written = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append([event.anchor, 1, 1])
            written += 1
            continue
        if isinstance(event, yaml.AliasEvent):
            if any(event.anchor == anchor for anchor, _, _ in open_nodes):
                raise ValueError(f"the alias *{event.anchor} inside what it stands for")
            nodes, levels = anchors.get(event.anchor, (1, 1))
        elif isinstance(event, yaml.ScalarEvent):
            nodes, levels, written = 1, 1, written + 1
            anchors[event.anchor] = nodes, levels
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, nodes, levels = open_nodes.pop()
            anchors[anchor] = nodes, levels
        else:
            continue
        parent = open_nodes[-1]
        parent[1] += nodes
        parent[2] = max(parent[2], levels + 1)
        if len(open_nodes) + levels > MAX_DEPTH:
            raise ValueError(f"YAML nested in more than {MAX_DEPTH} levels")
        if parent[1] > written + MAX_ALIASED:
            raise ValueError(f"aliases that stand for more than {MAX_ALIASED:,} values")


def parse_yaml(text: str) -> Any:
    """The value of a text, made of plain values only.

    Raises:
        ValueError: it is not YAML, or :func:`require_simple` refuses it.
    """
    try:
        require_simple(text)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
