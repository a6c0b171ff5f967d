"""Networks in files of their own, with their descriptors: Keras, ONNX, OpenVINO."""

from pathlib import Path
from typing import Any

from featcache.backbones.archive import config_of
from featcache.backbones.base import (
    FEATUREWISE,
    FILE,
    GRAPHS,
    PREPROCESS,
    Network,
)
from featcache.backbones.descriptor import (
    LARGEST,
    PROCESSOR,
    SMALLEST,
    Descriptor,
    read,
)
from featcache.backbones.graphs.files import weights_files
from featcache.backbones.graphs.reading import read as read_graph
from featcache.backbones.graphs.reading import refuse_type
from featcache.backbones.graphs.readout import readout
from featcache.errors import UsageError, WeightsError

_RESERVED = "+@,:*?[]"  # in names of backbones these mean something
_COLLECTIONS = ("all", "classic5", "baselines")
_LONGEST = 100  # bytes of a name
_NO_MODE = "no preprocess (imagenet, the default, is for networks of Keras)"

_AS_ONNX = (
    "Export it to ONNX in its own framework (featcache backbone export does so for "
    "timm, Hugging Face and torchxrayvision), with a descriptor beside it: see "
    "docs/how-to/backbones.md."
)
_AS_KERAS = (
    "If it holds weights of a network of the table, name that network and give the "
    "file as `weights`; save a whole model as .keras: "
    "keras.models.load_model(FILE).save('name.keras')."
)
# What can be done with the files of other formats.
OTHERS = {
    **dict.fromkeys((".pt", ".pth", ".safetensors", ".ckpt"), _AS_ONNX),
    **dict.fromkeys((".bin", ".tflite", ".pb", ".engine"), _AS_ONNX),
    **dict.fromkeys((".h5", ".hdf5"), _AS_KERAS),
}


def is_file(name: str) -> bool:
    """Whether a name is that of a network's file.

    Raises:
        UsageError: It is, of a format that cannot be run; says what is possible.
    """
    suffix = Path(name).suffix.lower()
    if suffix in OTHERS:
        problem = (
            f"{name} cannot be run: networks are read from .keras, .onnx and .xml files"
        )
        raise UsageError(problem, OTHERS[suffix])
    return suffix in (".keras", *GRAPHS)


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
    """A network of a ``.keras``, ``.onnx`` or ``.xml`` file.

    Args:
        path: The file.
        preprocess: As requested; by default what its descriptor says.
        input_size: Likewise.

    Raises:
        UsageError: No preprocessing or input size, another preprocessing than in the
            descriptor, or an impossible name; a descriptor that does not fit.
        WeightsError: The file, or the descriptor beside it, cannot be used.
    """
    check_name(path)
    existing(path)
    descriptor = read(path)
    is_graph = path.suffix.lower() in GRAPHS
    config = {} if is_graph else config_of(path)
    graph = read_graph(path, descriptor) if is_graph else None
    mode = _mode(path, preprocess, descriptor)
    side = input_size or descriptor.input_size or (graph.side if graph else None)
    if mode is None or side is None:
        beside = path.with_suffix(".json").name
        stated = f"preprocess {mode}" if mode else _NO_MODE
        raise UsageError(
            f"`preprocess` {', '.join(PREPROCESS)} and an `input_size` for {path.name}",
            f"{stated}, input size {side or 'none'}",
            f"Give both, for it alone as {path.name}:preprocess=caffe,size=224, or in "
            f'{beside}: {{"preprocess": "caffe", "input_size": 224}}.',
        )
    _check_range(path, descriptor, side)
    network = Network(
        path.stem,
        FILE,
        mode,
        side,
        file=path,
        taps=tuple(descriptor.taps),
        output=descriptor.output,
        channels=graph.channels if graph else _channels(config),
        resizing=descriptor.resizing(side),
        numbers=None if mode in (*PREPROCESS, FEATUREWISE) else descriptor.numbers,
        readout=readout(graph, side, descriptor) if graph else None,
        descriptor=descriptor,
    )
    _check_grey(network)
    if graph:
        refuse_type(graph, mode)
    return network


def _mode(path: Path, preprocess: str | None, descriptor: Descriptor) -> str | None:
    """The scaling as requested, which is that of the descriptor if it has one."""
    # To standardise by the images replaces the own scaling of any network.
    modes = {preprocess, descriptor.mode} - {None}
    if preprocess != FEATUREWISE and len(modes) > 1:
        beside = path.with_suffix(".json").name
        raise UsageError(
            f"`preprocess={descriptor.mode!r}` for {path.name}, as {beside} "
            "beside it says",
            f"`preprocess={preprocess!r}`",
            "Omit the option, correct the JSON, or give the option to the other "
            f"networks alone, such as OTHER.keras:preprocess={preprocess}.",
        )
    return preprocess or descriptor.mode


def _check_range(path: Path, descriptor: Descriptor, side: int) -> None:
    low, high = descriptor.input_sizes or (SMALLEST, LARGEST)
    if not low <= side <= high:
        raise UsageError(
            f"`input_size` from {low} to {high} for {path.name}, by its descriptor",
            str(side),
            f"Use {descriptor.input_size or low}.",
        )
    edge = descriptor.resize_to
    if edge and edge < (descriptor.input_size or side):
        raise UsageError(
            f'"resize_to" in {path.with_suffix(".json").name} of at least the '
            f"{descriptor.input_size or side} px of the input",
            f"{edge}, which leaves black edges",
            'Correct it, or write "resize": "letterbox" if edges are meant.',
        )


def files_of(network: Network) -> list[Path]:
    """All files that a network is read from, as far as it has files of its own."""
    path = network.file
    if path is None:
        return []
    if network.row:
        return [path]
    beside = [path.with_suffix(".json")]
    beside += [path.with_name(PROCESSOR)] if network.is_graph else []
    weights = weights_files(path) if network.is_graph else []
    return [path, *weights, *(one for one in beside if one.is_file())]


def check_name(path: Path) -> None:
    """Refuses a file whose name cannot be that of a backbone.

    Raises:
        UsageError: It is too long, has a character that means something else, or
            stands for several networks.
    """
    name = path.stem
    long = len(name.encode(errors="replace")) > _LONGEST
    if name.casefold() in _COLLECTIONS:
        raise UsageError(
            f"a file name that is none of {', '.join(_COLLECTIONS)}",
            path.name,
            "Rename the file: these stand for several networks.",
        )
    if long or not name.isprintable() or any(c in _RESERVED for c in name):
        raise UsageError(
            f"a file name of at most {_LONGEST} bytes, all of them visible, without "
            f"{' '.join(_RESERVED)}",
            ascii(path.name),
            "Rename the file: its name becomes that of the backbone.",
        )


def _check_grey(network: Network) -> None:
    scaling = network.scaling
    if network.channels == 1 and scaling and not scaling.is_even:
        even = [name for name, one in PREPROCESS.items() if one.is_even]
        raise UsageError(
            f"`preprocess` {', '.join([*even, FEATUREWISE])} for {network.name}, which "
            "takes one grey channel",
            f"{network.preprocess}, which has numbers for red, green and blue",
            "Choose the scaling that it was trained with.",
        )


def _channels(config: dict[str, Any]) -> int:
    """Channels of the input: 1 where the first layer says so, else 3."""
    value: Any = config
    try:
        while value["class_name"] in ("Functional", "Sequential", "Model"):
            value = value["config"]["layers"][0]
        return 1 if value["config"]["batch_shape"][-1] == 1 else 3
    except (KeyError, TypeError, IndexError):
        return 3  # what else there is, building tells
