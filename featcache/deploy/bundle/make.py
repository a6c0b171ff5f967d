"""Making a bundle of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featcache import heads
from featcache.backbones.engines import convert, openvino
from featcache.core import records
from featcache.core.io import atomic_path
from featcache.core.scratch import scratch_folder
from featcache.core.versions import installed_versions
from featcache.deploy import finetuned
from featcache.deploy.bundle import archive, golden
from featcache.deploy.bundle.card import card
from featcache.deploy.bundle.open import open_bundle
from featcache.deploy.bundle.record import (
    FORMAT,
    LIBRARIES,
    TOLERANCES,
    BundleRecord,
    CalibrationRecord,
    ColumnRecord,
    MemberRecord,
    NetworkRecord,
)
from featcache.deploy.bundle.trained import parts_of
from featcache.deploy.bundle.verify import first_failed, verify
from featcache.deploy.model import FeatureNetwork, Member
from featcache.deploy.of_run import ModelSource, prepare
from featcache.deploy.trained import TrainedModel
from featcache.errors import BundleError, HeadError
from featcache.evaluation.calibration import Calibrator
from featcache.evaluation.runs import Run
from featcache.features.contract import FLOAT32

INTENDED_USE = "Research only. Not for diagnosis."


def make(
    path: Path,
    trained: TrainedModel,
    run: Run,
    source: ModelSource,
    *,
    training: Mapping[str, Any] | None = None,
    intended_use: str = INTENDED_USE,
    reference: bool = False,
) -> BundleRecord:
    """Writes a model as one file.

    Args:
        path: The file.
        trained: The model of the run.
        run: The run.
        source: As for ``of_run``.
        training: Facts about the training data and the evaluation, for the card.
        intended_use: What the model may be used for.
        reference: Name the networks instead of carrying them.

    Raises:
        BundleError: A head is of a class that is not ours.
        ConversionError: OpenVINO cannot run a network.
    """
    content: dict[str, bytes | Path] = {}
    model = trained.model
    fields, arrays = parts_of(trained)
    with scratch_folder() as temp:
        networks = [
            _network(number, one, source, temp, content, reference)
            for number, one in enumerate(model.networks)
        ]
        members = [
            _member(number, one, run, content)
            for number, one in enumerate(model.members)
        ]
        cases = golden.files()
        candidates = [golden.candidate(data) for data in cases.values()]
        content |= {f"golden/{name}": data for name, data in cases.items()}
        answers = golden.answers(model, candidates)
        arrays |= {f"golden/{name}": array for name, array in answers.items()}
        content |= {f"{k}.npy": golden.npy_bytes(v) for k, v in arrays.items()}
        digests = map(golden.pixels_digest, candidates)
        record = BundleRecord(
            format=FORMAT,
            run=run.run_id,
            dataset=run.record.dataset,
            created=run.record.created,
            versions=installed_versions(LIBRARIES),
            classes=list(model.classes),
            networks=networks,
            members=members,
            weights=list(model.weights),
            calibration=_calibration(model.calibrator),
            golden=dict(zip(cases, digests, strict=True)),
            tolerances=dict(TOLERANCES),
            training=dict(training or {}),
            intended_use=intended_use,
            **fields,
        )
        content[archive.CARD] = card(record).encode()
        with atomic_path(path) as made:
            archive.write(made, records.to_json(record), content)
            _refuse_unproven(made, source)
    return record


def _refuse_unproven(path: Path, source: ModelSource) -> None:
    """A bundle that does not prove itself where it was made is not published."""
    converted = source.folder.parent / "openvino"
    opened = open_bundle(path, files=source.files, converted=converted)
    if failed := first_failed(verify(opened)):
        raise BundleError(
            f"the new bundle differs from its run in the stage {failed.name}: "
            f"{failed.failure}",
            "Nothing was written. Extract and train again with the installed versions.",
        )


def _network(
    number: int,
    network: FeatureNetwork,
    source: ModelSource,
    temp: Path,
    content: dict[str, bytes | Path],
    reference: bool,
) -> NetworkRecord:
    path = _carried(number, network, source, temp, reference)
    if path:
        content[f"networks/{number}.xml"] = path
        content[f"networks/{number}.bin"] = path.with_suffix(".bin")
    header = network.store.header if network.store else None
    trained = network.run.record.features[0] if network.run else None
    origin = header or trained
    file = network.network.file if network.network else None
    return NetworkRecord(
        name=network.name,
        size=network.size,
        outputs=list(network.outputs),
        widths=list(network.widths),
        dtype=network.dtype,
        weights=header.weights if header else "finetuned",
        is_member=path is not None,
        file=file.name if file else None,
        contract=header.contract.to_json() if header else None,
        weights_key=header.weights_key if header else "",
        resize=network.resize.text,
        licence=origin.licence if origin else "",
        source=origin.source if origin else "",
        canary=origin.canary if origin else None,
    )


def _carried(
    number: int,
    network: FeatureNetwork,
    source: ModelSource,
    temp: Path,
    reference: bool,
) -> Path | None:
    """The network in OpenVINO's format; None for one that the bundle only names."""
    if network.run:
        path = temp / f"{number}.xml"
        openvino.convert(finetuned.graph_of(finetuned.load_network(network.run)), path)
        return path
    assert network.store
    assert network.network
    contract = network.store.header.contract
    if reference or network.network.is_baseline:
        return None
    prepared = prepare(network.store, network.network, network.outputs, source)
    is_int8 = contract.precision not in (None, FLOAT32)
    path = (convert.to_int8 if is_int8 else convert.to_float32)(prepared)
    openvino.read_record(path)  # both files are as they were written
    return path


def _member(
    number: int, member: Member, run: Run, content: dict[str, bytes | Path]
) -> MemberRecord:
    folder = run.folder.parent / member.name
    record = folder / heads.RECORD
    if record.is_file():
        try:
            saved = heads.read_own_record(folder)
        except HeadError as error:
            raise BundleError(
                f"{run.run_id} cannot be bundled: expected {error.expected}; got "
                f"{error.got}",
                "A bundle imports no code but featcache's own.",
            ) from error
        for name in (heads.RECORD, *saved["files"]):
            content[f"heads/{number}/{name}"] = (folder / name).read_bytes()
    policies = [one.policy for one in member.renderings if one.policy]
    return MemberRecord(
        name=member.name,
        columns=[ColumnRecord(network=n, output=name) for n, name in member.columns],
        has_head=record.is_file(),
        views=len(policies),
        policy=policies[0].to_dict() if policies else None,
        calibration=_calibration(member.calibrator),
    )


def _calibration(calibrator: Calibrator) -> CalibrationRecord:
    return CalibrationRecord(method=calibrator.method, parameters=calibrator.parameters)
