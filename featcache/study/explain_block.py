"""The ``[explain]`` of a study file."""

from featcache.commands.explain import explain
from featcache.commands.explain.explained_images import check_selection
from featcache.commands.explain.heatmaps import checked_method
from featcache.study.base import Explain
from featcache.study.document import Block
from featcache.study.keys import SECTIONS
from featcache.study.members import Blocks, member


def read(block: Block, blocks: Blocks) -> Explain:
    """Checks the block.

    Args:
        block: The block.
        blocks: Those whose runs may be explained.

    Raises:
        UsageError: A setting that can never work.
    """
    settings = SECTIONS["explain"].arguments(explain, block.own)
    for i, name in enumerate(settings.get("methods", ())):
        with block.blaming("methods", i):
            checked_method(name)
    errors, per_class = block.own.get("errors"), block.own.get("per_class")
    with block.blaming("errors" if errors is not None else "per_class"):
        check_selection(block.own.get("images", ()), errors, per_class)
    with block.blaming("run"):
        named = member(block.own["run"], blocks) if "run" in block.own else None
    return Explain(named, bool(block.own.get("cells")), settings)
