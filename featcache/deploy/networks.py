"""From a run's record back to its networks, as they were when features were stored."""

import glob
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from featcache import backbones
from featcache.backbones import FILE, NETWORKS, NONE, RANDOM, Network
from featcache.backbones.base import FEATUREWISE, GRAPHS, PREPROCESS
from featcache.backbones.engines import choose
from featcache.backbones.engines.base import Engine
from featcache.backbones.engines.convert import PreparedNetwork
from featcache.backbones.graphs import files as graph_files
from featcache.core.io import sha256_file
from featcache.core.progress import SILENT, Reporter
from featcache.errors import FeatcacheError, StoreError, UsageError, WeightsError
from featcache.evaluation.record import FeatureBlock
from featcache.evaluation.runs import Run
from featcache.features import store
from featcache.features.contract import FLOAT32, Contract
from featcache.features.extractions import network_words, read_extractions
from featcache.features.store import Header, Store

_SUFFIXES = (".keras", ".h5", ".onnx", ".xml")
_BATCH = 32


def store_of(run: Run, folder: Path, block: FeatureBlock) -> Store:
    """The store of a block, by its contract, whatever its file is called now.

    Args:
        run: The run.
        folder: ``cache/<dataset>``.
        block: Of the run.

    Raises:
        StoreError: It is gone.
    """
    contract_id = str(block.contract_id)
    near = sorted((folder / "features").glob(f"*-{contract_id[:8]}.h5"))
    others = sorted((folder / "features").glob("*.h5"))
    for path in dict.fromkeys((*near, *others)):
        try:
            opened = store.open_store(path)
        except FeatcacheError:
            continue  # a damaged store cannot be the one
        if opened.header.contract_id == contract_id:
            return opened
    words = ["featcache", "extract", "--dataset", folder.name]
    words += network_words(block.backbone, block.weights, read_extractions(folder))
    words += store.network_options(block, block.weights)
    raise StoreError(
        f"the store {block.store} (contract {contract_id[:8]}) of run {run.run_id} in "
        f"{folder / 'features'}",
        "none with that contract",
        f"Extract it again, with the same options: {shlex.join(words)}",
    )


def frozen_store(folder: Path, block: FeatureBlock) -> Store | None:
    """A store with frozen features of the same backbone and input size, if any.

    Args:
        folder: ``cache/<dataset>``.
        block: Of a run that was fine-tuned.
    """
    name = f"{glob.escape(block.backbone)}-*.h5"
    for path in sorted((folder / "features").glob(name)):
        with suppress(FeatcacheError):
            opened = store.open_store(path)
            same = (opened.header.contract.input_size, opened.header.weights)
            if same == (block.input_size, block.weights):
                return opened
    return None


def resolve(header: Header, folder: Path, files: Sequence[Path]) -> Network:
    """The network that made a store's features.

    Args:
        header: Of the store.
        folder: ``cache/<dataset>``.
        files: ``.keras`` and weights files to look for the weights in.

    Raises:
        WeightsError: Its file cannot be found.
    """
    candidates = (*files, *_candidates(folder)) if header.weights == FILE else ()
    return resolve_contract(
        header.contract, header.weights, header.weights_key, candidates=candidates
    )


def resolve_contract(
    contract: Contract, weights: str, key: str, *, candidates: Sequence[Path]
) -> Network:
    """The network of a contract.

    Args:
        contract: Of features.
        weights: Tag of its weights.
        key: Names its weights; see ``backbones.weights_key``.
        candidates: Files, one of which may be the network's or its weights'.

    Raises:
        WeightsError: Its file is not among them, or is another network.
    """
    name = contract.backbone
    if weights == NONE:
        return backbones.resolve(name)
    tag = weights
    if weights == FILE:
        path = _file(name, key, candidates)
        if _is_of_the_table(contract):
            tag = str(path)
        else:
            name, tag = str(path), backbones.IMAGENET
    try:
        network = backbones.resolve(
            name,
            tag,
            input_size=contract.input_size,
            seed=_seed(key) if weights == RANDOM else 0,
            preprocess=_mode(contract),
        )
    except UsageError as error:
        raise _described_otherwise(contract, name, error.expected) from error
    own = Contract.of(network)
    for field in ("architecture", "pooling", "resize", "preprocess"):
        said = getattr(contract, field)
        if said not in _texts(own, field, network) and network.file:
            now = f"{field} {getattr(own, field)}"
            raise _described_otherwise(contract, name, now, field)
    return network


def _texts(own: Contract, field: str, network: Network) -> list[str]:
    """What a contract may say in a field: as it is written now, and as it was before.

    Contracts of graphs once named the first file alone; the key of the weights, by
    which the network is found, names all of them.
    """
    texts = [getattr(own, field)]
    if field == "architecture" and network.is_graph and network.file:
        key, digits = graph_files.key(network.file), graph_files.digits(network.file)
        texts.append(texts[0].replace(key[:16], digits[:16], 1))
    return texts


def _described_otherwise(
    contract: Contract, name: str, now: str, field: str = "preprocess"
) -> WeightsError:
    return WeightsError(
        f"{contract.backbone} as it was extracted ({field} {getattr(contract, field)})",
        f"{now} of {name}",
        "Restore the JSON file beside it as it was.",
    )


def _mode(contract: Contract) -> str:
    """The scaling, where it has a name; what a descriptor says in numbers it says."""
    named = (*PREPROCESS, FEATUREWISE)
    mode = contract.preprocess
    return mode if mode in named else backbones.IMAGENET


def prepare(
    network: Network,
    contract: Contract,
    outputs: Sequence[str],
    folder: Path,
    *,
    calibration_ids: Sequence[str] = (),
    hint: str,
) -> PreparedNetwork:
    """What the engine of a network that was trained on is made from.

    Args:
        network: The network.
        contract: Of its features.
        outputs: Names of the outputs that are used.
        folder: Where converted networks lie.
        calibration_ids: Images that it was quantised on.
        hint: What to do where its int8 network is not in the folder: none is made
            anew, as that may be another.
    """

    def no_pixels(image_ids: Sequence[str]) -> Iterator[np.ndarray]:
        raise StoreError(
            f"the int8 network of {network.text} in {folder}", "it is gone", hint
        )

    return PreparedNetwork(
        network=network,
        contract=contract,
        taps=[name for name in outputs if name != store.FEATURES],
        folder=folder,
        model=None,
        calibration_ids=calibration_ids,
        pixels=no_pixels,
    )


def engine_of(
    prepared: PreparedNetwork, engine: str = "auto", reporter: Reporter = SILENT
) -> Engine:
    """What runs a network, in the precision of its contract.

    Raises:
        ConversionError: OpenVINO cannot run it in int8.
        StoreError: Its weights are not those of the contract.
    """
    (made,) = choose.make(
        [prepared],
        engine=engine,
        precision=prepared.contract.precision or FLOAT32,
        batch_size=_BATCH,
        message=reporter.message,
    )
    return made


def _is_of_the_table(contract: Contract) -> bool:
    name = contract.backbone
    known = name in NETWORKS
    return known and NETWORKS[name].architecture == contract.architecture


def _seed(key: str) -> int:
    match = re.match(r"random seed (-?\d+)", key)
    return int(match[1]) if match else 0


def _file(name: str, key: str, candidates: Sequence[Path]) -> Path:
    """The file of the network, or of its weights, that the key names."""
    digits = key.rpartition(" ")[2]
    distinct = list(dict.fromkeys(candidates))
    for path in distinct:
        if path.is_file() and digits in _digits(path):
            return path.resolve()
    raise WeightsError(
        f"the file of {name} (SHA-256 {digits[:8]}...)",
        f"none of {len(distinct)} candidate files matches",
        "Name it in `files`.",
    )


def _digits(path: Path) -> list[str]:
    """What a key may say of a file, alone and with the files of its weights."""
    digits = [sha256_file(path)]
    if path.suffix in GRAPHS:
        with suppress(WeightsError):
            digits.append(graph_files.key(path))
    return digits


def _candidates(folder: Path) -> list[Path]:
    """Files that the records of extractions name, and those of the weights' folder."""
    newest_first = reversed(read_extractions(folder))
    named = [path for record in newest_first for path in record.files]
    paths = [path for path in named if path.suffix in _SUFFIXES]
    return [*paths, *weights_files()]


def weights_files() -> list[Path]:
    """``.keras`` and weights files in the folder ``$FEATCACHE_WEIGHTS``."""
    folder = os.environ.get("FEATCACHE_WEIGHTS")
    files = sorted(Path(folder).glob("*")) if folder else []
    return [path for path in files if path.suffix in _SUFFIXES]
