"""WebDataset: tars whose members KEY.png and KEY.cls or KEY.json are one sample."""

from collections.abc import Sequence

import pandas as pd

from featcache.core.parallel import in_threads
from featcache.core.text import some
from featcache.dataset.manifest import ODD
from featcache.dataset.own_split import part_of
from featcache.dataset.sources import remote
from featcache.dataset.sources.base import (
    SUFFIXES,
    TAKEN,
    Listing,
    Tree,
    check_labels,
    clean,
    name_of,
    refuse,
    suffix,
)
from featcache.dataset.sources.json_lines import as_text, parse_object
from featcache.dataset.sources.parts import with_parts
from featcache.dataset.sources.reading import LIMIT, read_bytes
from featcache.dataset.sources.shards import (
    COMPRESSED,
    ENDING,
    Index,
    index,
    read_member,
)
from featcache.dataset.sources.trees import OUTSIDE
from featcache.dataset.urls import Location, Url, inside
from featcache.errors import DatasetError

_LABELS = ("cls", "json", "txt")
_MASKS = ("mask.png", "seg.png")  # beside an image with the same key
_NAMES = ("classnames.txt", "classes.txt")  # of the classes 0, 1, ..., one per line
_BESIDE = {"", ".txt", ".md", ".json", ".jsonl", ".yaml", ".yml", ".html"}
_OURS = ("path", "mask")


def tars_of(tree: Tree) -> list[str]:
    """The tars of a folder that holds no other images, perhaps in folders of a split.

    Text beside them, such as a README, is passed over; compressed tars are listed too.
    """
    folders = tree.folders("")
    if not all(part_of(name_of(folder)) for folder in folders):
        return []
    files = [path for at in ("", *folders) for path in tree.files(at)]
    tars = [p for p in files if p.lower().endswith((ENDING, *COMPRESSED))]
    others = {suffix(path) for path in files if path not in tars}
    return tars if others <= _BESIDE else []


def list_shards(
    root: Location, tars: Sequence[str], *, labelled: bool = True
) -> Listing:
    """Lists the images of tars; a path is ``SHARD.tar/MEMBER``.

    Args:
        root: The folder of the tars.
        tars: Their paths in it.
        labelled: Refuse images without a label.

    Raises:
        OSError: One cannot be read, or is no tar.
        DatasetError: One has names that lead out of it or occur twice, or images
            without a label, or all are empty.
    """
    rows: list[dict[str, str]] = []
    files: list[str] = []
    refused: dict[str, str] = {}
    notes = []
    for tar in tars:
        place = inside(root, tar)
        members = index(place)
        _check_names(place, members)
        rows += _samples(place, tar, members, refused)
        files += [tar] * (len(rows) - len(files))
        if not members.members:
            notes.append(f"{tar} has no members")
        if members.broken_at is not None:
            notes.append(
                f"{tar} is broken at byte {members.broken_at}; what is behind "
                "that, and an image before it whose label is lost, is left out"
            )
    if not rows:
        raise DatasetError(
            f"images in {some([*tars])}",
            "; ".join(notes) or "none",
            f"Images end in {', '.join(sorted(SUFFIXES))}.",
        )
    table = with_parts(pd.DataFrame(rows).fillna(""), files)
    _name_classes(root, table)
    if labelled:
        blank = table.loc[table["label"] == "", "path"].tolist()
        fix = "Add KEY.cls, KEY.txt, or KEY.json with a label, or pack class folders."
        refuse(str(root), "a label for each image", "none for", blank, fix)
        check_labels(str(root), table["label"].tolist())
    table = clean(table, TAKEN)
    return Listing(root, table, notes, refused)


def _name_classes(root: Location, table: pd.DataFrame) -> None:
    """Replaces the numbers of classes by their names, if a file lists these."""
    labels = table["label"]
    if not labels.str.fullmatch(r"\d{1,9}").all():
        return
    for file in _NAMES:
        try:
            text = read_bytes(root, file).decode("utf-8-sig", "replace")
        except OSError:
            continue
        names = [line.strip() for line in text.splitlines() if line.strip()]
        odd = sorted(label for label in {*labels} if int(label) >= len(names))
        rule = f"classes from 0 to {len(names) - 1}, as {file} has {len(names)} names"
        refuse(str(root), rule, "others", odd, "Correct it; its first line is class 0.")
        table["label"] = [names[int(label)] for label in labels]
        return


def _check_names(shard: Location, members: Index) -> None:
    again = "Pack it again."
    outside = [ascii(name) for name in members.members if OUTSIDE.search(name)]
    refuse(str(shard), "names that stay inside the tar", "others", outside, again)
    twice = [ascii(name) for name in members.repeated]
    refuse(str(shard), "each name once", "repeated", twice, again)


def _samples(
    shard: Location, tar: str, members: Index, refused: dict[str, str]
) -> list[dict[str, str]]:
    names = [name for name in members.members if _is_sample(name)]
    n_threads = remote.AT_ONCE if isinstance(shard, Url) else 1
    all_facts = in_threads(lambda name: _facts(shard, members, name), names, n_threads)
    rows = []
    for name, facts in zip(names, all_facts, strict=True):
        path = f"{tar}/{name}"
        if ODD.search(path):
            path = ascii(path)[1:-1]
            refused[path] = "a name with control characters or not in UTF-8: rename it"
        # A tar that was cut short ends in an image whose label is gone.
        if facts["label"] or not members.members[name].reason:
            masks = (f"{_key(name)[0]}.{mask}" for mask in _MASKS)
            mask = next((f"{tar}/{m}" for m in masks if m in members.members), "")
            rows.append({"path": path, **facts} | ({"mask": mask} if mask else {}))
    return rows


def _is_sample(name: str) -> bool:
    is_image = suffix(name) in SUFFIXES and not name_of(name).startswith(".")
    return is_image and _key(name)[1] not in _MASKS


def _key(name: str) -> tuple[str, str]:
    """The key of a sample and what follows it, parted at the first dot of the file."""
    folder, slash, file = name.rpartition("/")
    key, _, ending = file.partition(".")
    return folder + slash + key, ending.lower()


def _facts(shard: Location, members: Index, name: str) -> dict[str, str]:
    """The label of a sample, and the plain values of its JSON as columns."""
    folder, key = name.rpartition("/")[0], _key(name)[0]
    texts = {
        kind: read_member(shard, f"{key}.{kind}", LIMIT).decode("utf-8", "replace")
        for kind in _LABELS
        if (part := members.members.get(f"{key}.{kind}")) and not part.reason
    }
    facts = _of_json(shard, f"{key}.json", texts["json"]) if "json" in texts else {}
    label = texts.get("cls") or facts.get("label") or texts.get("txt") or ""
    return {**facts, "label": label.strip() or folder.rpartition("/")[2]}


def _of_json(shard: Location, name: str, text: str) -> dict[str, str]:
    try:
        pairs = parse_object(text).items()
    except (ValueError, RecursionError):
        raise DatasetError(
            f"a JSON object in {name} of {shard}", "none", "Pack it again."
        ) from None
    plain = {k: as_text(v) for k, v in pairs if isinstance(v, str | int | float)}
    return {f"given_{key}" if key in _OURS else key: plain[key] for key in plain}
