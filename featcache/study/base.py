"""What a study asks for, checked and ready to be run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.backbones import Network
from featcache.dataset.views import Policy
from featcache.features.contract import FLOAT32

# A ``[[train]]`` or ``[[ensemble]]``, and one of its heads; None for all.
Member = tuple[str, str | None]


@dataclass(frozen=True)
class Source:
    """Where features come from: a network as one ``[[extract]]`` runs it."""

    extract: str
    network: Network

    @property
    def label(self) -> str:
        """The backbone, with its input size if it has one."""
        name, size = self.network.name, self.network.input_size
        return name if self.network.is_baseline else f"{name}@{size}"

    def answers_to(self, name: str) -> bool:
        """Whether this is meant by the name, with or without its input size."""
        return name.lower() in (self.network.name.lower(), self.label.lower())


@dataclass(frozen=True)
class Extract:
    """One ``[[extract]]``.

    Attributes:
        name: What the file calls it.
        networks: What it runs.
        policy: The recipe of its views.
        settings: The further arguments of ``extract``.
    """

    name: str
    networks: tuple[Network, ...]
    policy: Policy
    settings: dict[str, Any]

    @property
    def views(self) -> int:
        """Augmented views of each image."""
        return int(self.settings.get("views", 0))

    @property
    def dtype(self) -> str:
        """In which its features are stored."""
        return str(self.settings.get("dtype") or FLOAT32)

    def taps(self, network: Network) -> list[str]:
        """The inner layers that it keeps of one of its networks."""
        taps = str(self.settings.get("taps", "none"))
        poolings = [self.settings.get(f"{x}pooling", "avg") for x in ("tap_", "")]
        return network.tap_names(taps, *poolings)


@dataclass(frozen=True)
class Train:
    """One ``[[train]]``.

    Attributes:
        name: What the file calls it.
        sets: What it trains on: one source, or several to be concatenated.
        settings: The arguments of ``train_head``.
    """

    name: str
    sets: tuple[tuple[Source, ...], ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Finetune:
    """One ``[[finetune]]``.

    Attributes:
        name: What the file calls it.
        networks: What is fine-tuned.
        policy: The recipe of its views.
        init_head: Whose heads it starts from; None for random ones.
        settings: The further arguments of ``finetune``.
    """

    name: str
    networks: tuple[Network, ...]
    policy: Policy
    init_head: Member | None
    settings: dict[str, Any]


@dataclass(frozen=True)
class Ensemble:
    """One ``[[ensemble]]``.

    Attributes:
        name: What the file calls it.
        members: Whose runs it averages.
        settings: The arguments of ``ensemble``.
    """

    name: str
    members: tuple[Member, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Explain:
    """The ``[explain]``.

    Attributes:
        run: Whose run is explained, if it has one; None for the best of the study.
        cells: Draw the cells of each map.
        settings: The further arguments of ``explain``.
    """

    run: Member | None
    cells: bool
    settings: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """A whole study file, checked.

    Attributes:
        path: The file.
        name: What it calls itself; by default its file name.
        dataset: The arguments of ``scan``.
        extracts: What is extracted, in order.
        trains: What is trained, in order.
        finetunes: What is fine-tuned, in order.
        ensembles: What is put together, in order.
        labels: What the leaderboard calls the runs of a block, by its name; None where
            the file says nothing.
        report: The arguments of ``compare``.
        against: The run that the others are tested against, as a member is named.
        audit: The arguments of ``audit``; None for none.
        explain: What is explained; None for nothing.
        html: Whether a page is asked for, or where.
        formats: Which forms of the leaderboard are to be written.
    """

    path: Path
    name: str
    dataset: dict[str, Any]
    extracts: tuple[Extract, ...]
    trains: tuple[Train, ...]
    finetunes: tuple[Finetune, ...]
    ensembles: tuple[Ensemble, ...]
    labels: dict[str, str | None]
    report: dict[str, Any]
    against: Member | None
    audit: dict[str, Any] | None
    explain: "Explain | None"
    html: bool | Path
    formats: tuple[str, ...]

    @property
    def network_files(self) -> list[Path]:
        """The files of its networks that are not in the cache of weights."""
        networks = [each for block in self.extracts for each in block.networks]
        networks += [each for block in self.finetunes for each in block.networks]
        return list(dict.fromkeys(each.file for each in networks if each.file))
