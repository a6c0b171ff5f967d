"""WebDataset: tars whose members KEY.png and KEY.cls or KEY.json are one sample."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from featcache.core.text import some
from featcache.dataset.manifest import COLUMNS, ODD
from featcache.dataset.sources.base import (
    SUFFIXES,
    Listing,
    check_labels,
    clean,
    refuse,
    suffix,
    visible,
)
from featcache.dataset.sources.reading import LIMIT
from featcache.dataset.sources.shards import ENDING, Index, index, read_member
from featcache.dataset.sources.trees import OUTSIDE
from featcache.errors import DatasetError

_LABELS = ("cls", "json", "txt")


def shards_of(source: Path) -> list[Path]:
    """The tar, or those of a folder that holds nothing else; or none."""
    if source.suffix.lower() == ENDING and source.is_file():
        return [source]
    if not source.is_dir():
        return []
    entries = [source / name for name in visible(p.name for p in source.iterdir())]
    is_tar = [entry.suffix.lower() == ENDING and entry.is_file() for entry in entries]
    return entries if all(is_tar) else []


def list_shards(shards: list[Path]) -> Listing:
    """Lists the images of tars; a path is ``SHARD.tar/MEMBER``.

    Raises:
        OSError: One cannot be read, or is no tar.
        DatasetError: One has no members, names that lead out of it or occur twice, or
            images without a label.
    """
    rows: list[dict[str, str]] = []
    refused: dict[str, str] = {}
    notes = []
    for shard in shards:
        members = index(shard)
        _check_names(shard, members)
        rows += _samples(shard, members, refused)
        if members.broken_at is not None:
            notes.append(
                f"{shard.name} is broken at byte {members.broken_at}; what is behind "
                "that, and an image before it whose label is lost, is left out"
            )
    if not rows:
        raise DatasetError(
            f"images in {some([shard.name for shard in shards])}",
            "none",
            f"Images end in {', '.join(sorted(SUFFIXES))}.",
        )
    table = pd.DataFrame(rows).fillna("")
    blank = table.loc[table["label"] == "", "path"].tolist()
    fix = "Add KEY.cls, KEY.txt, or KEY.json with a label, or pack class folders."
    where = str(shards[0].parent)
    refuse(where, "a label for each image", "none for", blank, fix)
    check_labels(where, table["label"].tolist())
    table = clean(table, {*COLUMNS} - {"path", "label", "group"})
    return Listing(shards[0].parent, table, notes, refused)


def _check_names(shard: Path, members: Index) -> None:
    if not members.members:
        raise DatasetError(f"members in {shard}", "none", "Pack it again.")
    again = "Pack it again."
    outside = [ascii(name) for name in members.members if OUTSIDE.search(name)]
    refuse(str(shard), "names that stay inside the tar", "others", outside, again)
    twice = [ascii(name) for name in members.repeated]
    refuse(str(shard), "each name once", "repeated", twice, again)


def _samples(
    shard: Path, members: Index, refused: dict[str, str]
) -> list[dict[str, str]]:
    rows = []
    for name in members.members:
        if suffix(name) not in SUFFIXES or name.rpartition("/")[2].startswith("."):
            continue
        path = f"{shard.name}/{name}"
        if ODD.search(path):
            path = ascii(path)[1:-1]
            refused[path] = "a name with control characters or not in UTF-8: rename it"
        facts = _facts(shard, members, name)
        # A tar that was cut short ends in an image whose label is gone.
        if facts["label"] or not members.members[name].reason:
            rows.append({"path": path, **facts})
    return rows


def _facts(shard: Path, members: Index, name: str) -> dict[str, str]:
    """The label of a sample, and the plain values of its JSON as columns."""
    folder, _, file = name.rpartition("/")
    key = f"{folder}/" * bool(folder) + file.partition(".")[0]
    texts = {
        kind: read_member(shard, f"{key}.{kind}", LIMIT).decode("utf-8", "replace")
        for kind in _LABELS
        if (part := members.members.get(f"{key}.{kind}")) and not part.reason
    }
    facts = _of_json(shard, f"{key}.json", texts["json"]) if "json" in texts else {}
    label = texts.get("cls") or facts.get("label") or texts.get("txt") or ""
    return {**facts, "label": label.strip() or folder.rpartition("/")[2]}


def _of_json(shard: Path, name: str, text: str) -> dict[str, str]:
    try:
        record: Any = json.loads(text)
        pairs = record.items()
    except (ValueError, AttributeError, RecursionError):
        raise DatasetError(
            f"an object in {name} of {shard}", "none", "Pack it again."
        ) from None
    plain = {k: v for k, v in pairs if isinstance(v, str | int | float) and k != "path"}
    return {key: str(value) for key, value in plain.items()}
