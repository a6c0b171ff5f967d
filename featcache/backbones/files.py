"""Networks in files of their own: the ``.keras`` file, and the JSON beside it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featcache.backbones.archive import config_of
from featcache.backbones.base import FEATUREWISE, FILE, PREPROCESS, Network
from featcache.core import records
from featcache.core.io import read_json
from featcache.errors import UsageError, WeightsError

SMALLEST, LARGEST = 32, 4096  # pixels of an input's side
_RESERVED = "+@,:*?[]"  # in names of backbones these mean something
_LONGEST = 100  # bytes of a name

_ELSEWHERE = (
    "Compute its embeddings in its own framework and write them to a feature store: "
    "see docs/file-format.md."
)
_AS_KERAS = (
    "If it holds weights of a network of the table, name that network and give the "
    "file as `weights`; save a whole model as .keras: "
    "keras.models.load_model(FILE).save('name.keras')."
)
# What can be done with the files of other formats.
OTHERS = {
    **dict.fromkeys((".onnx", ".pt", ".pth", ".safetensors", ".ckpt"), _ELSEWHERE),
    **dict.fromkeys((".xml", ".bin", ".tflite", ".pb", ".engine"), _ELSEWHERE),
    **dict.fromkeys((".h5", ".hdf5"), _AS_KERAS),
}


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """The JSON file of the same name beside a ``.keras`` file.

    Attributes:
        preprocess: One of ``PREPROCESS``, or "featurewise".
        input_size: Side of the square input in pixels.
        taps: Default inner layers.
        output: The layer whose output is the embedding; by default the last.
    """

    preprocess: str | None = None
    input_size: int | None = None
    taps: list[str] = field(default_factory=list)
    output: str | None = None


def is_file(name: str) -> bool:
    """Whether a name is that of a network's file.

    Raises:
        UsageError: It is, of a format that cannot be run; says what is possible.
    """
    suffix = Path(name).suffix.lower()
    if suffix in OTHERS:
        problem = f"{name} cannot be run: networks are read from .keras files"
        raise UsageError(problem, OTHERS[suffix])
    return suffix == ".keras"


def check_size(side: int) -> None:
    """Refuses an input that no network has.

    Raises:
        UsageError: It is too small or too large.
    """
    if not SMALLEST <= side <= LARGEST:
        raise UsageError(
            f"`input_size` from {SMALLEST} to {LARGEST}",
            str(side),
            "Use the size that the network was trained on.",
        )


def existing(path: Path) -> Path:
    """The path of a file that is there.

    Raises:
        WeightsError: It is not.
    """
    if not path.is_file():
        raise WeightsError("a weights file", f"no such file: {path}", "Check the path.")
    return path


def from_file(path: Path, preprocess: str | None, input_size: int | None) -> Network:
    """A network of a ``.keras`` file.

    Args:
        path: The file.
        preprocess: As requested; by default what its JSON says.
        input_size: Likewise.

    Raises:
        UsageError: No preprocessing or input size, another preprocessing than in the
            JSON, or an impossible name.
        WeightsError: The file, or the JSON beside it, cannot be used.
    """
    _check_name(path)
    config = config_of(existing(path))
    beside = path.with_suffix(".json")
    sidecar = _read_sidecar(beside)
    mode, side = preprocess or sidecar.preprocess, input_size or sidecar.input_size
    # To standardise by the images replaces the own scaling of any network.
    modes = {preprocess, sidecar.preprocess} - {None}
    if preprocess != FEATUREWISE and len(modes) > 1:
        raise UsageError(
            f"`preprocess={sidecar.preprocess!r}` for {path.name}, as {beside.name} "
            "beside it says",
            f"`preprocess={preprocess!r}`",
            "Omit the option, correct the JSON, or give the option to the other "
            f"networks alone, such as OTHER.keras:preprocess={preprocess}.",
        )
    if mode is None or side is None:
        raise UsageError(
            f"`preprocess` {', '.join(PREPROCESS)} and an `input_size` for {path.name}",
            f"preprocess {mode!r}, input size {side!r}",
            f"Give both, for it alone as {path.name}:preprocess=caffe,size=224, or in "
            f'{beside.name}: {{"preprocess": "caffe", "input_size": 224}}.',
        )
    network = Network(
        path.stem,
        FILE,
        mode,
        side,
        file=path,
        taps=tuple(sidecar.taps),
        output=sidecar.output,
        channels=_channels(config),
    )
    _check_grey(network)
    return network


def _check_name(path: Path) -> None:
    name = path.stem
    long = len(name.encode(errors="replace")) > _LONGEST
    if long or not name.isprintable() or any(c in _RESERVED for c in name):
        raise UsageError(
            f"a file name of at most {_LONGEST} bytes without {' '.join(_RESERVED)}",
            ascii(path.name),
            "Rename the file: its name becomes that of the backbone.",
        )


def _check_grey(network: Network) -> None:
    scaling = PREPROCESS.get(network.preprocess)
    if network.channels == 1 and scaling and not scaling.is_even:
        even = [name for name, one in PREPROCESS.items() if one.is_even]
        raise UsageError(
            f"`preprocess` {', '.join([*even, FEATUREWISE])} for {network.name}, which "
            "takes one grey channel",
            f"{network.preprocess}, which has numbers for red, green and blue",
            "Choose the scaling that it was trained with.",
        )


def _read_sidecar(path: Path) -> Sidecar:
    if not path.is_file():
        return Sidecar()
    try:
        sidecar = records.from_json(Sidecar, read_json(path))
        _check_sidecar(sidecar)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read ({error.strerror})", "Check its permissions."
        ) from error
    except ValueError as error:
        raise WeightsError(
            f"{path.name}, the JSON beside the network, cannot be used: {error}",
            f"Correct {path}, or remove it and give its values as options.",
        ) from error
    return sidecar


def _check_sidecar(sidecar: Sidecar) -> None:
    modes, size = (*PREPROCESS, FEATUREWISE), sidecar.input_size
    mode = sidecar.preprocess
    if mode is not None and mode not in modes:
        raise ValueError(f"preprocess is {mode[:40]!r}, not {' or '.join(modes)}")
    if size is not None and not SMALLEST <= size <= LARGEST:
        raise ValueError(f"input_size is {size}, not {SMALLEST} to {LARGEST}")


def _channels(config: dict[str, Any]) -> int:
    """Channels of the input: 1 where the first layer says so, else 3."""
    value: Any = config
    try:
        while value["class_name"] in ("Functional", "Sequential", "Model"):
            value = value["config"]["layers"][0]
        return 1 if value["config"]["batch_shape"][-1] == 1 else 3
    except (KeyError, TypeError, IndexError):
        return 3  # what else there is, building tells
