"""``featcache export``: a trained model as one file that other runtimes run."""

from collections.abc import Sequence
from pathlib import Path

from featcache.core.progress import SILENT, Reporter
from featcache.dataset.manifest import Manifest
from featcache.deploy import exporting
from featcache.deploy.exporting import Exported, check_request
from featcache.deploy.graph import parts_of
from featcache.deploy.of_run import ModelSource, of_run
from featcache.deploy.opening import SUFFIX
from featcache.errors import ExportError
from featcache.evaluation.runs import Run


def refuse_bundle(reference: str) -> None:
    """Refuses the file of a bundle where a run is wanted.

    Raises:
        ExportError: It is one.
    """
    path = Path(reference)
    if path.is_file() or path.suffix == SUFFIX:
        raise ExportError(
            "a run, whose networks can be built again",
            f"{reference}, a bundle, which has them as OpenVINO runs them",
            "Export the run that it was made of.",
        )


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

    The file is run in its own runtime on 64 phantoms, and appears only if it gives
    the probabilities of the run's own head.

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
        StoreError: One of its stores is gone.
        WeightsError: One of its networks cannot be found.
        UsageError: The file must not be written, or a package is missing.
        UnknownNameError: No such format.
    """
    check_request(output, to, force=force)
    parts = parts_of(of_run(run, ModelSource(dataset.folder, files, reporter)))
    about = {"run": run.run_id}
    return exporting.export(parts, output, to=to, about=about, force=force)
