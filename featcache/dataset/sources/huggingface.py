"""Folders of Hugging Face: which of their files hold rows with images.

Two layouts of the package ``datasets``, which is not needed to read them: a snapshot of
a repository (``data/train-00000-of-00003.parquet``, also without the folder or in one
for each split), and what ``save_to_disk`` writes (``state.json`` beside Arrow files, in
one folder for each split that ``dataset_dict.json`` names).
"""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from featcache.core.text import some
from featcache.dataset.own_split import part_of
from featcache.dataset.sources.base import SUFFIXES, Tree, name_of, suffix
from featcache.dataset.sources.cells import PARQUET
from featcache.dataset.sources.reading import read_bytes
from featcache.dataset.sources.rows import Features, checked_features
from featcache.errors import DatasetError

_SAVED, _SPLITS, _INFO = "state.json", "dataset_dict.json", "dataset_info.json"
_CARD = "README.md"
_DEPTH = 2  # folders around the Parquet files of a repository


class RowFiles(NamedTuple):
    """Files with rows, and what their columns mean where they do not say it.

    ``features`` is an error where that cannot be read; it matters only if it is needed.
    """

    files: list[str]
    features: Features | DatasetError


def row_files(tree: Tree) -> RowFiles | None:
    """The files of a folder of Hugging Face; None of others.

    Raises:
        OSError: A record of the folder cannot be read.
        DatasetError: A record is broken, a file is missing, or there are several
            configurations.
    """
    if tree.has(_SPLITS):
        splits = _record(tree, _SPLITS).get("splits")
        names = splits if isinstance(splits, list) else []
        if not names or not all(_is_in(tree, "", name, f"/{_SAVED}") for name in names):
            raise _incomplete(tree, _SPLITS, ascii(splits)[:200])
        saved = [_saved(tree, f"{name}/") for name in names]
        files = [file for one in saved for file in one.files]
        return RowFiles(files, saved[0].features)
    if tree.has(_SAVED):
        return _saved(tree, "")
    return _repository(tree)


def _saved(tree: Tree, at: str) -> RowFiles:
    """What ``save_to_disk`` wrote into a folder."""
    files: Any = _record(tree, at + _SAVED).get("_data_files")
    try:
        names = [file["filename"] for file in files]
    except (TypeError, KeyError):
        raise _incomplete(tree, at + _SAVED, str(files)[:200]) from None
    lost = [ascii(name) for name in names if not _is_in(tree, at, name)]
    if lost or not names:
        raise _incomplete(tree, at + _SAVED, some(lost))
    info = _record(tree, at + _INFO) if tree.has(at + _INFO) else {}
    features = info.get("features")
    return RowFiles(
        [at + name for name in names],
        checked_features(features) if isinstance(features, dict) else {},
    )


def _is_in(tree: Tree, at: str, name: Any, file: str = "") -> bool:
    """Whether a record names a file, or a folder with that file, beside itself."""
    is_plain = isinstance(name, str) and name == name_of(name) and name != ".."
    return is_plain and tree.has(f"{at}{name}{file}")


def _incomplete(tree: Tree, record: str, names: str) -> DatasetError:
    return DatasetError(
        f"the files that {record} names, in {tree.root}",
        f"missing: {names or 'all'}",
        "Copy the whole folder, or save it again.",
    )


def _record(tree: Tree, path: str) -> dict[str, Any]:
    try:
        record = json.loads(read_bytes(tree.root, path))
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        fix = "Copy the whole folder, or save it again."
        raise DatasetError(f"a JSON object in {tree.root}/{path}", "none", fix)
    return record


def _repository(tree: Tree) -> RowFiles | None:
    """The Parquet files of a repository, if there are no images beside them."""
    paths = _files(tree, "", _DEPTH)
    files = [p for p in paths if suffix(p) == PARQUET and not _is_metadata(p)]
    if not files or any(suffix(path) in SUFFIXES for path in paths):
        return None
    around = {_configuration(path) for path in files}
    if len(around) > 1:
        names = sorted(name or "(the folder itself)" for name in around)
        raise DatasetError(
            f"one configuration in {tree.root}",
            f"Parquet files of several: {some(names)}",
            "Scan the folder or the file of one.",
        )
    return RowFiles(files, _of_card(tree, around.pop()))


def _files(tree: Tree, at: str, depth: int) -> list[str]:
    inner = [p for f in tree.folders(at) if depth for p in _files(tree, f, depth - 1)]
    return [*tree.files(at), *inner]


def _is_metadata(path: str) -> bool:
    return name_of(path).lower() == f"metadata{PARQUET}"


def _configuration(path: str) -> str:
    """The folders around a file but for those of splits: ``plain/train/0.parquet``."""
    return "/".join(name for name in path.split("/")[:-1] if not part_of(name))


def _of_card(tree: Tree, configuration: str) -> Features | DatasetError:
    """The classes that the YAML at the head of a dataset card names, or why none."""
    data = read_bytes(tree.root, _CARD) if tree.has(_CARD) else b""
    text = data.decode("utf-8", "replace")
    head = text.split("---", 2)[1] if text.lstrip("\ufeff").startswith("---") else ""
    if "class_label" not in head:
        return {}
    if find_spec("yaml") is None:
        return DatasetError(
            f"the package pyyaml to read the names of the classes in {_CARD}",
            "not installed",
            "Run: pip install 'featcache[parquet]'.",
        )
    import yaml

    try:
        infos = yaml.safe_load(head)["dataset_info"]
        infos = infos if isinstance(infos, list) else [infos]
        named = [i for i in infos if i.get("config_name", "default") == configuration]
        usual = [i for i in infos if i.get("config_name", "default") == "default"]
        info: Mapping[str, Any] = [*named, *usual, *infos][0]
        return {feature["name"]: _of_yaml(feature) for feature in info["features"]}
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _of_yaml(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    """A feature as the schema of a file has it."""
    kind = feature.get("dtype")
    if not isinstance(kind, dict) or "class_label" not in kind:
        return {"_type": "Image"} if kind == "image" else {}
    names = kind["class_label"]["names"]
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names, key=int)]
    return {"_type": "ClassLabel", "names": names}
