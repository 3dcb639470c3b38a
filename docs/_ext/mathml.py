"""Formulas as MathML, made at build: browsers draw it without a script and without a network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util.logging import getLogger

logger = getLogger(__name__)


def setup(app: Any) -> dict[str, Any]:
    """Register the renderer.

    Args:
        app: Sphinx.
    """
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _mathml(node: nodes.Node, **options: Any) -> str:
    """A formula; what the converter does not know keeps its backslash, which is a warning."""
    formula = convert(node.astext(), **options)
    if "\\" in re.sub("<annotation.*?</annotation>", "", formula):
        logger.warning("unknown command in the formula %s", node.astext(), location=node)
    return formula


def _inline(writer: Any, node: nodes.Node) -> None:
    writer.body.append(_mathml(node))
    raise nodes.SkipNode


def _block(writer: Any, node: Any) -> None:
    number = f'<span class="eqno">({node["number"]})</span>' if node["number"] else ""
    formula = _mathml(node, display="block")
    writer.body.append(f'<div class="math">{number}{formula}</div>\n')
    raise nodes.SkipNode
