"""From a study file to a `Study`: all that can be known before any work is checked."""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from featcache import heads
from featcache.backbones import (
    BASELINES,
    FEATUREWISE,
    IMAGENET,
    RANDOM,
    Network,
    expand,
    resolve_all,
)
from featcache.commands.compare import compare
from featcache.commands.ensemble import ensemble
from featcache.commands.extract import extract
from featcache.commands.scan import NO_SPLIT, scan
from featcache.commands.scan.groups import DICOM, NEAR_DUPLICATE
from featcache.commands.train_head import train_head
from featcache.core.registry import Registry
from featcache.core.text import check_name
from featcache.dataset import manifest, sources
from featcache.dataset.regions import MASK, WHOLE, Region
from featcache.dataset.splits import SplitOptions
from featcache.dataset.views import Policy
from featcache.errors import UsageError
from featcache.study import document, finetune_block
from featcache.study.base import Ensemble, Extract, Finetune, Source, Study, Train
from featcache.study.document import Block
from featcache.study.keys import SECTIONS, TOP
from featcache.study.members import ALL, Blocks, member

_HINT = "Or give a regular expression with one group, or dicom:KEYWORD."


def read(
    path: Path,
    *,
    variables: Mapping[str, str] | None = None,
    seed: int | None = None,
) -> Study:
    """Reads a study file and checks all that can be known before any work.

    Args:
        path: The file.
        variables: What ``${NAME}`` in its paths stands for; by default the
            environment.
        seed: Wins over the file's own.

    Raises:
        UsageError: It cannot be used; names the line and the key.
    """
    found = document.blocks(
        document.read(path, os.environ if variables is None else variables)
    )
    top = found[TOP][0]
    for name in ("dataset", "extract", "train"):
        if not found[name]:
            raise top.error((), f"a section {name}", "none", "See docs/study.md.")
    name = str(top.own.get("name", path.stem))
    with top.blaming("name"):
        check_name(name, "name")
    common = top.own.get("seed", 0) if seed is None else seed
    seeded = replace(top, own={"seed": common})
    trains = _inherit(found["train"], *found["evaluation"], seeded)
    shared = [replace(b, own=_of_splits(b.own)) for b in found["evaluation"]]
    tunes = _inherit(found["finetune"], *shared, seeded, taken=[b.name for b in trains])
    dataset = _dataset(found["dataset"][0], [*trains, *tunes])
    extracts = {b.name: _extract(b) for b in _inherit(found["extract"], seeded)}
    trained = {b.name: _train(b, extracts) for b in trains}
    finetunes = {b.name: finetune_block.read(b, _networks(b), trained) for b in tunes}
    blocks = _inherit(found["ensemble"], seeded, taken=[*trained, *finetunes])
    voters: dict[str, Train | Finetune | None] = {**trained, **finetunes}
    ensembles = {b.name: _ensemble(b, voters) for b in blocks}
    blank = replace(top, own={})
    return Study(
        path=path,
        name=name,
        dataset=dataset,
        extracts=tuple(extracts.values()),
        trains=tuple(trained.values()),
        finetunes=tuple(finetunes.values()),
        ensembles=tuple(ensembles.values()),
        **_report([*found["report"], blank][0], voters | dict.fromkeys(ensembles)),
    )


def _report(block: Block, blocks: Blocks) -> dict[str, Any]:
    """What a study says of its report, by the names of `Study`."""
    given = SECTIONS["report"].arguments(compare, block.own)
    html, against = block.own.get("html", False), given.pop("against", None)
    with block.blaming("against"):
        named = member(against, blocks) if against else None
    return {
        "report": given,
        "against": named,
        "html": block.path(html, "html") if isinstance(html, str) else html,
        "formats": tuple(block.own.get("formats", ())),
    }


def _of_splits(own: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for whole networks too: the other keys are of heads."""
    shared = (*vars(SplitOptions()), "calibrate")
    return {key: own[key] for key in shared if key in own}


def _inherit(
    several: list[Block], *above: Block, taken: Iterable[str] = ()
) -> list[Block]:
    """Puts blocks below others, and refuses two of one name."""
    names = {*taken}
    for block in several:
        if block.name in names:
            way_out = "Rename one of them."
            raise block.error(("name",), "a unique name", repr(block.name), way_out)
        names.add(block.name)
    return [replace(block, above=above) for block in several]


def _dataset(block: Block, trains: list[Block]) -> dict[str, Any]:
    """The arguments of ``scan``; nothing is left to what an earlier scan was told."""
    given = SECTIONS["dataset"].arguments(scan, block.own)
    given["source"] = block.path(given["source"], "source")
    by = given.setdefault("split_by", NO_SPLIT)
    pool = given.setdefault("pool", False)
    if by != NO_SPLIT and pool:
        way_out = "Keep the source's split, or join its parts."
        raise block.error(("pool",), "split_by or pool", "both", way_out)
    with block.blaming("source" if by == NO_SPLIT else "split_by"):
        listing = sources.list_source(
            given["source"], split_by=None if by == NO_SPLIT else by, pool=pool
        )
    columns = list(listing.table.columns)
    if "group_by" in given:
        _check_grouping(block, columns)
    by = given.setdefault("group_by", "group" if "group" in columns else NEAR_DUPLICATE)
    for train in trains:
        _check_narrowing(train, [*columns, *manifest.COLUMNS], by)
    return {"per_class": 0, "on_conflict": "error"} | given


def _check_grouping(block: Block, columns: list[str]) -> None:
    by = block.own["group_by"]
    words = [*columns, manifest.IMAGE, NEAR_DUPLICATE]
    with suppress(re.error):
        if by in words or by.startswith(DICOM) or re.compile(by).groups == 1:
            return
    with block.blaming("group_by"):
        table = Registry("column or word to group by", dict.fromkeys(words), hint=_HINT)
        raise table.unknown(by)


def _check_narrowing(block: Block, columns: list[str], scanned_by: str) -> None:
    """What a ``[[train]]`` leaves out, and how it groups, are columns."""
    table = Registry("column", dict.fromkeys(columns))
    for i, text in enumerate(block.given.get("exclude", ())):
        with block.blaming("exclude", i):
            table[text.partition("=")[0]]
    by = block.given.get("group_by", scanned_by)
    if by not in (scanned_by, manifest.IMAGE):
        with block.blaming("group_by"):
            table[by]


def _extract(block: Block) -> Extract:
    settings = SECTIONS["extract"].arguments(extract, block.given)
    if isinstance(settings.get("taps"), list):
        settings["taps"] = ",".join(settings["taps"])
    asked = SECTIONS["extract"].arguments(Policy, block.given)
    shown = {"kind": asked.get("region", WHOLE), "mask": block.given.get("mask", MASK)}
    asked["region"] = Region(**shown)
    for key, value in asked.items():
        with block.blaming(key):
            Policy(**{key: value})
    policy = Policy(**asked)
    if settings.get("views") and policy.is_identity:
        got, way_out = "one that leaves all views equal", "Allow a change."
        raise block.error(("views",), "a policy that changes the image", got, way_out)
    found = Extract(block.name, tuple(_networks(block)), policy, settings)
    for network in found.networks:
        if settings.get("taps") == "default" and not (
            network.taps or network.is_baseline
        ):
            got = f"default for {network.name}, which has none"
            raise block.error(("taps",), "names of layers", got, "List the layers.")
    return found


def _networks(block: Block) -> list[Network]:
    """What an ``[[extract]]`` runs, each backbone in each input size."""
    words = SECTIONS["extract"].arguments(resolve_all, block.given)
    sizes = words.pop("input_size", None)
    if "weights" in words:
        words["weights"] = _weights(block, words["weights"])
    found: list[Network] = []
    for i, name in enumerate(block.given["backbones"]):
        name = block.filled(name, "backbones", i)
        if name.endswith(".keras"):
            name = str(block.path(name, "backbones", i))
        for size in sizes if isinstance(sizes, list) else [sizes]:
            # What only networks have means nothing to a baseline.
            plain = name in (*BASELINES, "baselines")
            options = {} if plain else words | {"input_size": size}
            with block.blaming("backbones", i):
                found += resolve_all([name], **options)
    return list(dict.fromkeys(found))


def _weights(block: Block, text: str) -> str:
    weights = block.filled(text, "weights")
    if weights in (IMAGENET, RANDOM):
        return weights
    path = block.path(text, "weights")
    if not path.is_file():
        got, way_out = f"no such file: {path}", "Correct the path, or use imagenet."
        raise block.error(("weights",), "a weights file", got, way_out)
    return str(path)


def _train(block: Block, extracts: Mapping[str, Extract]) -> Train:
    settings = SECTIONS["train"].arguments(train_head, block.given)
    texts = settings.pop("backbones", [ALL])
    _check_heads(block)
    if isinstance(settings.get("views"), str) and settings["views"] != ALL:
        got = repr(settings["views"])
        raise block.error(("views",), "a number of views, or all", got, "Use all.")
    of = block.given.get("from", list(extracts))
    table = Registry("name of an [[extract]]", extracts)
    candidates: list[Source] = []
    for name in [of] if isinstance(of, str) else of:
        with block.blaming("from"):
            candidates += [Source(name, n) for n in table[name].networks]
    sets: list[tuple[Source, ...]] = []
    for i, text in enumerate(texts):
        with block.blaming("backbones", i):
            sets += _sets(text, candidates)
    train = Train(block.name, tuple(dict.fromkeys(sets)), settings)
    _check_regions(block, train, extracts)
    _check_rows(block, train, extracts)
    _check_statistics(block, train, extracts)
    return train


def _check_heads(block: Block) -> None:
    given = {
        k: v for k, v in block.given.items() if k in signature(heads.make).parameters
    }
    given.pop("name", None)
    for i, name in enumerate(block.given.get("heads", [ALL])):
        for head in heads.HEADS if name == ALL else [name]:
            with block.blaming("heads", i):
                heads.make(head)
            for key, value in given.items():
                with block.blaming(key):
                    heads.make(head, **{key: value})


def _sets(text: str, candidates: list[Source]) -> list[tuple[Source, ...]]:
    """What a name, or a feature set such as "a@224+a@320", stands for."""
    terms = [_matching(term.strip(), candidates) for term in text.split("+")]
    if len(terms) == 1:
        return [(source,) for source in terms[0]]
    for term, found in zip(text.split("+"), terms, strict=True):
        if len(found) > 1:
            listed = ", ".join(f"{s.extract}: {s.label}" for s in found)
            way_out = "Add @ and the input size, or select an [[extract]] with from."
            raise UsageError(f"one backbone for {term} of {text}", listed, way_out)
    return [tuple(found[0] for found in terms)]


def _matching(term: str, candidates: list[Source]) -> list[Source]:
    if term == ALL:
        return candidates
    found = [s for s in candidates for n in expand([term]) if s.answers_to(n)]
    if not found:
        known = [n for s in candidates for n in (s.network.name, s.label)]
        raise Registry("backbone of [[extract]]", dict.fromkeys(known)).unknown(term)
    return found


def _check_regions(block: Block, train: Train, extracts: Mapping[str, Extract]) -> None:
    """What stands side by side shows the same of an image."""
    for chosen in train.sets:
        names = {extracts[s.extract].policy.region: s.extract for s in chosen}
        if len(names) > 1:
            got = ", ".join(f"{r.kind} in {name}" for r, name in names.items())
            way_out = "Select one [[extract]] with from."
            raise block.error(("backbones",), "one region per set", got, way_out)


def _check_rows(block: Block, train: Train, extracts: Mapping[str, Extract]) -> None:
    """What is trained on is extracted: views and taps."""
    views, taps = train.settings.get("views", ALL), train.settings.get("taps", "none")
    for source in (source for chosen in train.sets for source in chosen):
        most = extracts[source.extract].views
        if isinstance(views, int) and views > most:
            expected = f"at most the {most} views of [[extract]] {source.extract}"
            way_out = "Extract more views, or train on fewer."
            raise block.error(("views",), expected, str(views), way_out)
    if taps == "none":
        return
    kept = [extracts[s.extract].taps(s.network) for c in train.sets for s in c]
    table = Registry("tap of [[extract]]", dict.fromkeys(n for k in kept for n in k))
    with block.blaming("taps"):
        if taps == ALL and not table:
            raise table.unknown(ALL)
        for name in taps.split(",") if isinstance(taps, str) else taps:
            if name != ALL:
                table[name]


def _check_statistics(
    block: Block, train: Train, extracts: Mapping[str, Extract]
) -> None:
    """Featurewise statistics are those of the default split's training images."""
    default = vars(SplitOptions())
    for source in {source for chosen in train.sets for source in chosen}:
        if source.network.preprocess != FEATUREWISE:
            continue
        usual = default | {"seed": extracts[source.extract].policy.seed}
        for key in ("folds", "test_size", "seed", "split", "group_by", "exclude"):
            value = train.settings.get(key, usual[key])
            if value != usual[key]:
                raise block.error(
                    (key,),
                    f"{key} to be {usual[key]} because an [[extract]] is "
                    "featurewise and was standardised on the training images of the "
                    "default split",
                    str(value),
                    f"Leave {key} out, or use another preprocess.",
                )


def _ensemble(block: Block, voters: Blocks) -> Ensemble:
    settings = SECTIONS["ensemble"].arguments(ensemble, block.given)
    members = []
    for i, text in enumerate(settings.pop("members")):
        with block.blaming("members", i):
            members.append(member(text, voters))
    return Ensemble(block.name, tuple(members), settings)
