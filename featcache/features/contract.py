"""The contract of a feature store: all that decides the value of an embedding."""

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from featcache.core import records
from featcache.core.io import digest
from featcache.dataset import images

if TYPE_CHECKING:
    from featcache.backbones import Network

FLOAT32 = "float32"
_POOLINGS = {"avg": "average"}
# What networks of one channel take of the scaled colours.
_GREY = "; 0.299 R + 0.587 G + 0.114 B of the scaled channels"


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of pixels, for "featurewise" preprocessing.

    Attributes:
        split: Name of the split whose training images they are of.
        mean: A channel.
        std: Likewise.
    """

    split: str
    mean: list[float]
    std: list[float]


@dataclass(frozen=True, kw_only=True)
class Contract:
    """All that decides the value of an embedding; see docs/reference/file-format.md.

    What another program does not say in its stores is None, and what it says beside
    is in ``further``.
    """

    backbone: str
    input_size: int
    architecture: str | None = None
    pooling: str | None = None
    resize: str | None = None
    colour: str | None = None
    preprocess: str | None = None
    precision: str | None = None
    dtype: str | None = None
    decoder: int | None = None
    weights_digest: str | None = None
    statistics: Statistics | None = None
    quantised: str | None = None
    further: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, network: "Network", *, precision: str = FLOAT32, dtype: str = FLOAT32
    ) -> Self:
        """The contract of a network's features, but for what has to be measured.

        Args:
            network: What is run.
            precision: In which it is run; a baseline, which needs no network, has one.
            dtype: As stored.
        """
        is_baseline = network.is_baseline
        pooling = network.readout.pooling if network.readout else "avg"
        return cls(
            backbone=network.name,
            architecture=network.architecture,
            pooling="none" if is_baseline else _POOLINGS.get(pooling, pooling),
            input_size=network.input_size,
            resize=network.resize.text,
            colour=images.COLOUR + _GREY * (network.channels == 1),
            preprocess=network.preprocess,
            precision=FLOAT32 if is_baseline else precision,
            dtype=dtype,
            decoder=images.DECODER_VERSION,
        )

    @property
    def contract_id(self) -> str:
        """SHA-256 (64 hex digits) of its canonical JSON."""
        return digest(self.to_json())

    @property
    def without_measured(self) -> Self:
        """The fields that follow from options alone.

        The others follow from these and from the data: a store is found without them,
        so that further images join it.
        """
        return replace(self, weights_digest=None, statistics=None, quantised=None)

    def differences(self, other: "Contract") -> list[str]:
        """Names of the fields that differ, in alphabetical order."""
        mine, others = self.to_json(), other.to_json()
        return [k for k in sorted(mine | others) if mine.get(k) != others.get(k)]

    def to_json(self) -> dict[str, Any]:
        """The object that is stored; what is not known is left out."""
        values = records.to_json(replace(self, further={}))
        del values["further"]
        return values | self.further

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Reads a contract, as ``json.loads`` gives it.

        Raises:
            ValueError: It is no object, names no backbone or input size, or a field is
                of another type.
        """
        known = {one.name for one in fields(cls)} - {"further"}
        pairs = value.items() if isinstance(value, dict) else ()
        further = {key: one for key, one in pairs if key not in known}
        contract = records.from_json(cls, value, "contract")
        return replace(contract, further=further)
