"""Which runs of a study "name" and "name/head" stand for."""

from collections.abc import Mapping

from featcache import heads
from featcache.commands import ensemble
from featcache.commands.finetune.plan import HEAD
from featcache.core.registry import Registry
from featcache.study.base import Finetune, Member, Train

ALL = "all"
Blocks = Mapping[str, Train | Finetune | None]  # None for an ``[[ensemble]]``


def member(text: str, blocks: Blocks) -> Member:
    """The block, and perhaps the head in it, that is meant.

    Args:
        text: "name" or "name/head".
        blocks: What may be meant, by name.

    Raises:
        UnknownNameError: There is no such one.
    """
    name, _, head = (text, "", "") if text in blocks else text.rpartition("/")
    block = Registry("block or block/head", blocks)[name or text]
    if head:
        known = dict.fromkeys(_heads(block, blocks), True)
        Registry(f"head of {name}", known)[head]
    return name, head or None


def spelled(reference: Member) -> str:
    """As the file spells it."""
    return "/".join(filter(None, reference))


def _heads(block: Train | Finetune | None, blocks: Blocks) -> list[str]:
    """The heads that the runs of a block have."""
    if isinstance(block, Train):
        names = block.settings.get("heads", [ALL])
        return [h for g in names for h in (heads.HEADS if g == ALL else [g])]
    if isinstance(block, Finetune) and block.init_head:
        name, head = block.init_head
        starts = [head] if head else _heads(blocks[name], blocks)
        return [f"{HEAD}-from-{start}" for start in starts]
    return [HEAD if block else ensemble.HEAD]
