"""``featcache export``: a trained model as one file that other runtimes run."""

from collections.abc import Sequence
from pathlib import Path

from featcache.core.progress import SILENT, Reporter
from featcache.dataset.manifest import Manifest
from featcache.deploy import exporting, parity_images
from featcache.deploy.bundle.memo import prove
from featcache.deploy.bundle.open import open_bundle
from featcache.deploy.exporting import Exported, check_request, refuse_carried
from featcache.deploy.graph import parts_of
from featcache.deploy.of_run import ModelSource, of_run
from featcache.evaluation.runs import Run


def export(
    dataset: Manifest,
    run: Run,
    output: Path,
    *,
    to: str,
    files: Sequence[Path] = (),
    force: bool = False,
    reporter: Reporter = SILENT,
) -> Exported:
    """Writes a run as one graph, from pixels to calibrated probabilities.

    The file is run in its own runtime on 64 images of the dataset, or generated ones
    where they cannot be read, and appears only if it gives the probabilities of the
    run's own head.

    Args:
        dataset: On which the run was trained.
        run: A head on cached features, a fine-tuned network, or an ensemble.
        output: The file to write: .onnx, .xml (OpenVINO), .keras or .tflite.
        to: "onnx", "openvino", "keras" or "tflite".
        files: ``.keras`` and weights files to look for its networks in.
        force: Replace a file that is there.
        reporter: Hears what the user should know.

    Raises:
        ExportError: The run is no single graph, the format cannot hold it, or the file
            gives other probabilities; nothing was written.
        RunError: It has no model, or is damaged.
        StoreError: One of its stores is gone, or its network is another one.
        WeightsError: One of its networks cannot be found.
        UsageError: The file must not be written, or a package is missing.
        UnknownNameError: No such format.
    """
    check_request(output, to, force=force)
    parts = parts_of(of_run(run, ModelSource(dataset.folder, files, reporter)))
    images = parity_images.of_dataset(run, dataset, parts.resizes)
    about = {"run": run.run_id}
    return exporting.export(
        parts, output, to=to, images=images, about=about, force=force
    )


def export_bundle(
    bundle: Path,
    output: Path,
    *,
    to: str,
    files: Sequence[Path] = (),
    force: bool = False,
    reporter: Reporter = SILENT,
) -> Exported:
    """Writes the model of a bundle as one graph, as `export` does that of a run.

    A network that the bundle carries is there in OpenVINO's format alone, to which
    heads and calibration are joined; of networks that it only names, any format can be
    made. The file is run on the golden cases and on generated images.

    Args:
        bundle: The file of the bundle.
        output: See `export`, as the others.
        to: See `export`.
        files: See `export`.
        force: See `export`.
        reporter: Hears what the user should know.

    Raises:
        BundleError: It is damaged, or does not prove itself here.
        ExportError: See `export`; or the format is not that of its networks.
        WeightsError: A network that it only names cannot be found.
        UsageError: See `export`.
        UnknownNameError: No such format.
    """
    check_request(output, to, force=force)
    opened = open_bundle(bundle, files=files)
    parts = parts_of(opened.model)
    refuse_carried(parts, to)
    prove(opened, reporter)
    images = parity_images.of_bundle(opened, parts.resizes)
    about = {"run": opened.record.run, "bundle_sha256": opened.archive.sha256}
    return exporting.export(
        parts, output, to=to, images=images, about=about, force=force
    )
