"""From a bundle to the model that it carries."""

import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featcache import backbones, heads
from featcache.backbones import NONE, Network
from featcache.backbones.engines import choose, openvino
from featcache.backbones.engines.base import Engine
from featcache.backbones.engines.convert import PreparedNetwork
from featcache.backbones.engines.numpy import NumpyEngine
from featcache.dataset.views import Policy, Resize
from featcache.deploy import networks
from featcache.deploy.bundle.archive import Archive
from featcache.deploy.bundle.record import (
    BundleRecord,
    CalibrationRecord,
    MemberRecord,
    NetworkRecord,
)
from featcache.deploy.model import (
    PLAIN,
    FeatureNetwork,
    Member,
    Model,
    PassOn,
    Rendering,
)
from featcache.errors import BundleError, ConversionError, FeatcacheError, StoreError
from featcache.evaluation import calibration
from featcache.evaluation.calibration import Calibrator
from featcache.features.contract import Contract
from featcache.features.store import FEATURES

_LARGEST_ARRAY = 2**31  # numbers


@dataclass(frozen=True, eq=False)
class Bundle:
    """An opened bundle.

    Attributes:
        archive: Its file.
        record: What manifest.json says.
        model: What it carries.
    """

    archive: Archive
    record: BundleRecord
    model: Model

    def array(self, name: str) -> np.ndarray:
        """A member as an array.

        Raises:
            BundleError: It is missing, was changed, or is no array of numbers.
        """
        data = self.archive.read(name)
        try:
            array = np.load(io.BytesIO(data), allow_pickle=False)
            if array.dtype.kind not in "fiubU" or array.size > _LARGEST_ARRAY:
                raise ValueError(f"{name} of {array.dtype}, {array.shape}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{name} with numbers that are not finite")
        except (ValueError, EOFError, OSError, MemoryError) as error:
            raise self.archive.unusable(str(error)) from error
        return np.asarray(array)


def read_bundle(path: Path) -> BundleRecord:
    """What a bundle says of itself, without the model.

    Raises:
        BundleError: It is damaged, changed, or of another format.
    """
    archive = Archive(path)
    archive.verify()
    try:
        return BundleRecord.from_json(archive.record)
    except ValueError as error:
        raise archive.unusable(str(error)) from error


def open_bundle(
    path: Path, *, files: Sequence[Path] = (), converted: Path | None = None
) -> Bundle:
    """Opens a bundle; no network is made before the first image.

    Args:
        path: The file.
        files: Of networks that the bundle only names.
        converted: Folder for these networks in OpenVINO's format.

    Raises:
        BundleError: It is damaged, changed, of another format, or has a head that is
            not safe to read.
        WeightsError: A network that it only names cannot be found.
    """
    archive = Archive(path)
    try:
        record = BundleRecord.from_json(archive.record)
        networks = tuple(
            _network(archive, number, one, files, converted)
            for number, one in enumerate(record.networks)
        )
        members = tuple(
            _member(archive, number, one, record)
            for number, one in enumerate(record.members)
        )
        model = Model(
            name=record.run,
            classes=tuple(record.classes),
            networks=networks,
            members=members,
            weights=tuple(record.weights),
            calibrator=_calibrator(record.calibration),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise archive.unusable(str(error)) from error
    return Bundle(archive, record, model)


def _calibrator(record: CalibrationRecord) -> Calibrator:
    return calibration.checked_calibrator(record.method, record.parameters)


def _network(
    archive: Archive,
    number: int,
    record: NetworkRecord,
    files: Sequence[Path],
    converted: Path | None,
) -> FeatureNetwork:
    contract = Contract.from_json(record.contract) if record.contract else None
    network: Network | None = None
    make: Callable[[], Engine]
    if record.is_member:
        make = partial(_engine, archive, number, record)
    elif contract is None:
        raise ValueError(f"no network {record.name}")
    else:
        network = _resolved(record, contract, files)
        prepared = PreparedNetwork(
            network=network,
            contract=contract,
            taps=[name for name in record.outputs if name != FEATURES],
            folder=converted or Path(tempfile.gettempdir()),
            model=None,
            calibration_ids=(),
            pixels=_no_pixels,
        )
        make = partial(_made, prepared)
    return FeatureNetwork(
        name=record.name,
        resize=Resize.from_text(record.resize, record.size),
        outputs=tuple(record.outputs),
        widths=tuple(record.widths),
        make=make,
        dtype=record.dtype,
        network=network,
        contract_id=contract.contract_id if contract else None,
    )


def _engine(archive: Archive, number: int, record: NetworkRecord) -> Engine:
    xml, weights = (
        archive.read(f"networks/{number}.{kind}") for kind in ("xml", "bin")
    )
    try:
        network = openvino.from_bytes(xml, weights)
        openvino.refuse_misfit(network, record.size, record.outputs)
    except ConversionError as error:
        raise archive.unusable(f"network {number}: {error.problem}") from error
    return openvino.OpenVINOEngine(network)


def _resolved(
    record: NetworkRecord, contract: Contract, files: Sequence[Path]
) -> Network:
    if record.weights == NONE:
        return backbones.resolve(record.name)
    return networks.resolve_contract(
        contract, record.weights, record.weights_key, candidates=files
    )


def _no_pixels(image_ids: Sequence[str]) -> Any:
    raise StoreError(
        "the int8 network of a bundle that only names it",
        "none",
        "Make the bundle without `reference`.",
    )


def _made(prepared: PreparedNetwork) -> Engine:
    if prepared.network.is_baseline:
        return NumpyEngine()
    (engine,) = choose.make(
        [prepared],
        engine="auto",
        precision=prepared.contract.precision or "float32",
        batch_size=32,
        message=lambda text: None,
    )
    return engine


def _member(
    archive: Archive, number: int, record: MemberRecord, bundle: BundleRecord
) -> Member:
    head: Any = PassOn(len(bundle.classes))
    if record.has_head:
        head = _head(archive, number)
        codes = np.asarray(head.classes_)
        if codes.dtype.kind not in "iu" or not set(codes) <= set(
            range(len(bundle.classes))
        ):
            raise ValueError(f"a head of other classes in {record.name}")
        widths = [
            dict(zip(net.outputs, net.widths, strict=True)) for net in bundle.networks
        ]
        expected = sum(widths[c.network][c.output] for c in record.columns)
        if head.n_features_in_ != expected:
            raise ValueError(
                f"a head on {head.n_features_in_} features in {record.name}, whose "
                f"networks give {expected}"
            )
    renderings = [PLAIN]
    if record.policy is not None:
        policy = Policy.of(record.policy)
        renderings += [Rendering(view, policy) for view in range(1, record.views + 1)]
    return Member(
        name=record.name,
        columns=tuple((column.network, column.output) for column in record.columns),
        head=head,
        renderings=tuple(renderings),
        calibrator=_calibrator(record.calibration),
    )


def _head(archive: Archive, number: int) -> Any:
    """A head, from files that are removed as soon as it is read."""
    prefix = f"heads/{number}/"
    names = [name for name in archive.record["files"] if name.startswith(prefix)]
    with tempfile.TemporaryDirectory(prefix="featcache-head-") as folder:
        for name in names:
            Path(folder, name.removeprefix(prefix)).write_bytes(archive.read(name))
        try:
            return heads.load(Path(folder), ours_alone=True)
        except FeatcacheError as error:
            raise BundleError(
                f"the head in {archive.path} cannot be used: {error.got}",
                "Copy the bundle again from where it was made, or make it again.",
            ) from error
