"""From a study file to a `Study`: all that can be known before any work is checked."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
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
from featcache.backbones.files import is_file
from featcache.backbones.pooling import poolings_of
from featcache.backbones.words import own_options
from featcache.commands.audit import audit
from featcache.commands.compare import compare
from featcache.commands.ensemble import ensemble
from featcache.commands.extract import extract
from featcache.commands.scan import scan
from featcache.commands.train_head import train_head
from featcache.core.registry import Registry
from featcache.core.text import check_name
from featcache.dataset import manifest, sources
from featcache.dataset.grouping import DICOM, NEAR_DUPLICATE
from featcache.dataset.own_split import FOLDER, NO_SPLIT
from featcache.dataset.regions import MASK, WHOLE, Region
from featcache.dataset.splits import SplitOptions
from featcache.dataset.views import Policy
from featcache.errors import UsageError
from featcache.study import document, explain_block, finetune_block
from featcache.study.base import (
    Ensemble,
    Extract,
    Finetune,
    Source,
    Study,
    Train,
)
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
    file = document.read(path, os.environ if variables is None else variables)
    sections = document.blocks(file)
    top = sections[TOP][0]
    for name in ("dataset", "extract", "train"):
        if not sections[name]:
            hint = "See docs/reference/study.md."
            raise top.error((), f"a section {name}", "none", hint)
    name = str(top.own.get("name", path.stem))
    with top.blaming("name"):
        check_name(name, "name")
    common = top.own.get("seed", 0) if seed is None else seed
    seeded = replace(top, own={"seed": common})
    trains = _inherit(sections["train"], *sections["evaluation"], seeded)
    shared = [replace(b, own=_of_splits(b.own)) for b in sections["evaluation"]]
    tunes = _inherit(
        sections["finetune"], *shared, seeded, taken=[b.name for b in trains]
    )
    dataset = _dataset(sections["dataset"][0], [*trains, *tunes])
    extracts = {b.name: _extract(b) for b in _inherit(sections["extract"], seeded)}
    trained = {b.name: _train(b, extracts) for b in trains}
    finetunes = {b.name: finetune_block.read(b, _networks(b), trained) for b in tunes}
    blocks = _inherit(sections["ensemble"], seeded, taken=[*trained, *finetunes])
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
        labels={b.name: b.own.get("label") for b in (*trains, *tunes, *blocks)},
        audit=next((_audit(block) for block in sections["audit"]), None),
        explain=next(
            (explain_block.read(b, voters) for b in sections["explain"]), None
        ),
        **_report([*sections["report"], blank][0], voters | dict.fromkeys(ensembles)),
    )


def _audit(block: Block) -> dict[str, Any]:
    """The arguments of ``audit``: files that the study may write again."""
    names = SECTIONS["audit"].arguments(audit, block.own)
    return {name: block.path(text, name) for name, text in names.items()}


def _report(block: Block, blocks: Blocks) -> dict[str, Any]:
    """What a study says of its report, by the names of `Study`."""
    settings = SECTIONS["report"].arguments(compare, block.own)
    html, against = block.own.get("html", False), settings.pop("against", None)
    with block.blaming("against"):
        named = member(against, blocks) if against else None
    return {
        "report": settings,
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
            hint = "Rename one of them."
            raise block.error(("name",), "a unique name", repr(block.name), hint)
        names.add(block.name)
    return [replace(block, above=above) for block in several]


def _dataset(block: Block, trains: list[Block]) -> dict[str, Any]:
    """The arguments of ``scan``; nothing is left to what an earlier scan was told."""
    settings = SECTIONS["dataset"].arguments(scan, block.own)
    settings["source"] = block.place(settings["source"], "source")
    by = settings.setdefault("split_by", NO_SPLIT)
    pool = settings.setdefault("pool", False)
    if by != NO_SPLIT and pool:
        hint = "Keep the source's split, or join its parts."
        raise block.error(("pool",), "split_by or pool", "both", hint)
    with block.blaming("source" if by == NO_SPLIT else "split_by"):
        listing = sources.list_source(
            settings["source"], split_by=None if by == NO_SPLIT else by, pool=pool
        )
    columns = list(listing.table.columns)
    if "group_by" in settings:
        _check_grouping(block, columns)
    by = settings.setdefault(
        "group_by", "group" if "group" in columns else NEAR_DUPLICATE
    )
    for train in trains:
        _check_narrowing(train, [*columns, *manifest.COLUMNS], by)
    return {"per_class": 0, "on_conflict": "error"} | settings


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
    for i, text in enumerate(block.settings.get("exclude", ())):
        with block.blaming("exclude", i):
            table[text.partition("=")[0]]
    if where := block.settings.get("test_where"):
        with block.blaming("test_where"):
            table[where.partition("=")[0]]
    for key, words in (
        ("group_by", (scanned_by, manifest.IMAGE)),
        ("split_by", (NO_SPLIT, FOLDER)),
    ):
        by = block.settings.get(key, words[0])
        if by not in words:
            with block.blaming(key):
                table[by]


def _extract(block: Block) -> Extract:
    settings = SECTIONS["extract"].arguments(extract, block.settings)
    if isinstance(settings.get("taps"), list):
        settings["taps"] = ",".join(settings["taps"])
    for option in {"pooling", "tap_pooling"} & settings.keys():
        with block.blaming(option):
            poolings_of(settings[option], option)
    recipe = SECTIONS["extract"].arguments(Policy, block.settings)
    kind, mask = recipe.get("region", WHOLE), block.settings.get("mask", MASK)
    with block.blaming("mask" if "mask" in block.settings else "region"):
        recipe["region"] = Region.of_options(kind, mask)
    for key, value in recipe.items():
        with block.blaming(key):
            Policy(**{key: value})
    policy = Policy(**recipe)
    if settings.get("views") and policy.is_identity:
        got = "one that leaves all views identical"
        hint = "Allow flip, brightness or zoom to change the image."
        raise block.error(("views",), "a policy that changes the image", got, hint)
    step = Extract(block.name, tuple(dict.fromkeys(_networks(block))), policy, settings)
    for network in step.networks:
        if settings.get("taps") == "default" and not (
            network.taps or network.is_baseline
        ):
            got = f"default for {network.name}, which has none"
            raise block.error(("taps",), "names of layers", got, "List the layers.")
    return step


def _networks(block: Block) -> Iterator[Network]:
    """What an ``[[extract]]`` runs, each backbone in each input size."""
    words = SECTIONS["extract"].arguments(resolve_all, block.settings)
    sizes = words.pop("input_size", None)
    if "weights" in words:
        words["weights"] = _weights(block, words["weights"])
    for i, name in enumerate(block.settings["backbones"]):
        name = block.filled(name, "backbones", i)
        with block.blaming("backbones", i):
            file, _ = own_options(name)
            has_path = is_file(file)
        if has_path:
            name = str(block.path(file, "backbones", i)) + name[len(file) :]
        for size in sizes if isinstance(sizes, list) else [sizes]:
            # What only networks have means nothing to a baseline.
            plain = name in (*BASELINES, "baselines")
            options = {} if plain else words | {"input_size": size}
            with block.blaming("backbones", i):
                yield from resolve_all([name], **options)


def _weights(block: Block, text: str) -> str:
    weights = block.filled(text, "weights")
    if weights in (IMAGENET, RANDOM):
        return weights
    path = block.path(text, "weights")
    if not path.is_file():
        got, hint = f"no such file: {path}", "Correct the path, or use imagenet."
        raise block.error(("weights",), "a weights file", got, hint)
    return str(path)


def _train(block: Block, extracts: Mapping[str, Extract]) -> Train:
    settings = SECTIONS["train"].arguments(train_head, block.settings)
    texts = settings.pop("backbones", [ALL])
    _check_heads(block)
    if isinstance(settings.get("views"), str) and settings["views"] != ALL:
        got = repr(settings["views"])
        raise block.error(("views",), "a number of views, or all", got, "Use all.")
    of = block.settings.get("from", list(extracts))
    table = Registry("[[extract]]", extracts)
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
    settings = {
        k: v for k, v in block.settings.items() if k in signature(heads.make).parameters
    }
    settings.pop("name", None)
    for i, name in enumerate(block.settings.get("heads", [ALL])):
        for head in heads.HEADS if name == ALL else [name]:
            with block.blaming("heads", i):
                heads.make(head)
            for key, value in settings.items():
                with block.blaming(key):
                    heads.make(head, **{key: value})


def _sets(text: str, candidates: list[Source]) -> list[tuple[Source, ...]]:
    """What a name, or a feature set such as "a@224+a@320", stands for."""
    terms = [_matching(term.strip(), candidates) for term in text.split("+")]
    if len(terms) == 1:
        return [(source,) for source in terms[0]]
    for term, matches in zip(text.split("+"), terms, strict=True):
        if len(matches) > 1:
            listed = ", ".join(f"{s.extract}: {s.label}" for s in matches)
            hint = "Add @ and the input size, or select an [[extract]] with from."
            raise UsageError(f"one backbone for {term} of {text}", listed, hint)
    return [tuple(matches[0] for matches in terms)]


def _matching(term: str, candidates: list[Source]) -> list[Source]:
    if term == ALL:
        return candidates
    matches = [s for s in candidates for n in expand([term]) if s.answers_to(n)]
    if not matches:
        names = [n for s in candidates for n in (s.network.name, s.label)]
        raise Registry("backbone of [[extract]]", dict.fromkeys(names)).unknown(term)
    return matches


def _check_regions(block: Block, train: Train, extracts: Mapping[str, Extract]) -> None:
    """What stands side by side shows the same of an image."""
    for feature_set in train.sets:
        names = {extracts[s.extract].policy.region: s.extract for s in feature_set}
        if len(names) > 1:
            got = ", ".join(f"{r.kind} in {name}" for r, name in names.items())
            hint = "Select one [[extract]] with from."
            raise block.error(("backbones",), "one region per set", got, hint)


def _check_rows(block: Block, train: Train, extracts: Mapping[str, Extract]) -> None:
    """What is trained on is extracted: views and taps."""
    views, taps = train.settings.get("views", ALL), train.settings.get("taps", "none")
    for source in (source for feature_set in train.sets for source in feature_set):
        most = extracts[source.extract].views
        if isinstance(views, int) and views > most:
            expected = f"at most the {most} views of [[extract]] {source.extract}"
            hint = "Extract more views, or train on fewer."
            raise block.error(("views",), expected, str(views), hint)
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
    for source in {source for feature_set in train.sets for source in feature_set}:
        extract = extracts[source.extract]
        if source.network.preprocess != FEATUREWISE:
            continue
        own = {
            "seed": extract.policy.seed,
            "split_by": extract.settings.get("split_by"),
        }
        usual = vars(SplitOptions()) | own
        for key in usual.keys() - {"repeats"}:
            value = train.settings.get(key, usual[key])
            if value != usual[key]:
                raise block.error(
                    (key,),
                    f"{key} to be {usual[key]}, because an [[extract]] is "
                    "featurewise and was standardised on the training images of the "
                    "default split",
                    str(value),
                    f"Leave {key} out, or use another preprocess.",
                )


def _ensemble(block: Block, voters: Blocks) -> Ensemble:
    settings = SECTIONS["ensemble"].arguments(ensemble, block.settings)
    members = []
    for i, text in enumerate(settings.pop("members")):
        with block.blaming("members", i):
            members.append(member(text, voters))
    return Ensemble(block.name, tuple(members), settings)
