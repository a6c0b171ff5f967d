"""The records that calls of ``featcache extract`` leave beside a manifest."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featcache.core import records
from featcache.core.command_lines import from_here
from featcache.core.io import read_json

_NETWORKS = (".keras", ".onnx", ".xml")  # files that are whole networks


@dataclass(frozen=True, kw_only=True)
class ExtractedNetwork:
    """A network of a call.

    Attributes:
        name: Its name.
        file: Of it or its weights; None for published or random ones.
    """

    name: str = ""
    file: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExtractArguments:
    """What was asked for.

    Attributes:
        networks: What was run.
    """

    networks: list[ExtractedNetwork] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ExtractedStore:
    """What a call did for one network.

    Attributes:
        backbone: Its name.
        input_size: Pixels; 0 for a baseline that looks at none.
        computed: Rows that were computed.
        seconds: They took.
    """

    backbone: str = ""
    input_size: int = 0
    computed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """What is read of ``extract-<time>-<pid>.json``.

    Attributes:
        status: "running", "done", "failed" or "interrupted"; or that the record cannot
            be read.
        started: When, in ISO 8601.
        host: Where.
        seconds: It took.
        command: The words of the call.
        arguments: What was asked for.
        stores: What was done, a network each.
    """

    status: str
    started: str = ""
    host: str = ""
    seconds: float = 0.0
    command: list[str] = field(default_factory=list)
    arguments: ExtractArguments = ExtractArguments()
    stores: list[ExtractedStore] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """Files that it names, those of its networks first."""
        networks = [one.file for one in self.arguments.networks if one.file]
        return [Path(name) for name in (*networks, *self.command)]


def network_words(
    backbone: str,
    weights: str,
    extractions: Sequence[Extraction],
    *,
    file: str | None = None,
) -> list[str]:
    """The words of a command that name a network and, where it needs one, its file.

    Args:
        backbone: Its name.
        weights: Their tag; only "file" needs a file.
        extractions: Records of the calls of extract; the newest that used it counts.
        file: Of the network or its weights, where its run knows it.

    Returns:
        The backbone, or its file, as ``-b`` takes it, perhaps with its weights' file;
        with FOLDER in capitals where no record says where the file is.
    """
    if weights != "file":
        return ["-b", backbone]
    files = [file] + [
        network.file
        for extraction in reversed(extractions)
        for network in extraction.arguments.networks
        if network.name == backbone
    ]
    paths = [Path(name) for name in files if name]
    if not paths:
        return ["-b", f"FOLDER/{backbone}.keras"]
    path = next((path for path in paths if path.is_file()), paths[0])
    if path.suffix in _NETWORKS and path.stem == backbone:
        return ["-b", from_here(path)]
    return ["-b", backbone, "--weights", from_here(path)]


def words_of_name(backbone: str, cache: Path) -> list[str]:
    """The words that name a network which a dataset was not extracted with.

    Args:
        backbone: Its name, as a person gave it.
        cache: The cache folder; other datasets may know its file.
    """
    calls = [call for path in cache.glob("[!.]*/") for call in read_extractions(path)]
    calls.sort(key=lambda call: call.started)
    names = {one.name for call in calls for one in call.arguments.networks if one.file}
    return network_words(backbone, "file" if backbone in names else "", calls)


def read_extractions(folder: Path) -> list[Extraction]:
    """The records in a dataset's folder, oldest first.

    One that cannot be read names nothing, and says so in its status.
    """
    by_name = {path: _read(path) for path in sorted(folder.glob("extract-*.json"))}
    return sorted(by_name.values(), key=lambda one: one.started)


def _read(path: Path) -> Extraction:
    try:
        value: Any = read_json(path)
        return records.from_json(Extraction, value)
    except (OSError, ValueError) as error:
        return Extraction(status=f"{path.name} cannot be read ({error})")
