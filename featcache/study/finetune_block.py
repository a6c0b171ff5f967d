"""A ``[[finetune]]`` of a study file."""

from collections.abc import Iterable, Mapping

from featcache.backbones import Network
from featcache.commands.finetune import finetune
from featcache.commands.finetune.settings import FOLDS
from featcache.core.options import arguments
from featcache.core.registry import Registry
from featcache.dataset.views import Policy
from featcache.study.base import Finetune, Train
from featcache.study.document import Block
from featcache.study.keys import SECTIONS
from featcache.study.members import member


def read(
    block: Block, networks: Iterable[Network], trains: Mapping[str, Train]
) -> Finetune:
    """Checks a block.

    Args:
        block: The block.
        networks: Its backbones, each of which counts once.
        trains: The ``[[train]]`` that its heads may come from.

    Raises:
        UsageError: A setting that can never work.
    """
    section, distinct = SECTIONS["finetune"], tuple(dict.fromkeys(networks))
    settings = section.arguments(finetune, block.settings)
    init_head = settings.pop("init_head", None)
    recipe = section.arguments(Policy, block.settings)
    for key, value in recipe.items():
        with block.blaming(key):
            Policy(**{key: value})
    for key, value in settings.items():
        with block.blaming(key):
            arguments(finetune, {key: value})
    if "fold" in settings:
        with block.blaming("fold"):
            Registry("fold", dict.fromkeys(FOLDS))[settings["fold"]]
    for network in distinct:
        if network.is_baseline:
            got, hint = network.name, "A baseline has no weights: leave it out."
            raise block.error(("backbones",), "networks", got, hint)
    with block.blaming("init_head"):
        named = member(init_head, trains) if init_head else None
    return Finetune(block.name, distinct, Policy(**recipe), named, settings)
