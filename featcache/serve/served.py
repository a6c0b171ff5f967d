"""Bundles that are served: opened, proved, and with their training images' pictures."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from featcache.core.progress import SILENT, Reporter
from featcache.dataset import images
from featcache.dataset import manifest as manifests
from featcache.dataset.manifest import Manifest
from featcache.dataset.sources.reading import read_scanned
from featcache.deploy.answers import Answer
from featcache.deploy.opening import Place, is_bundle, open_model
from featcache.deploy.trained import TrainedModel
from featcache.errors import BundleError, DatasetError, FeatcacheError
from featcache.serve.batching import Batcher
from featcache.serve.explaining import Explainer
from featcache.serve.zones import zones_of


@dataclass(frozen=True, eq=False)
class TrainingPictures:
    """Images of the training sets, by their ids alone.

    Attributes:
        paths: Manifest and path of each image that a bundle was trained on.
    """

    paths: Mapping[str, tuple[Manifest, str]] = field(default_factory=dict)

    def read(self, image_id: str) -> images.Picture | None:
        """The image, whose bytes have that digest; None where it is not at hand."""
        if image_id not in self.paths:
            return None
        manifest, path = self.paths[image_id]
        try:
            return images.read(read_scanned(manifest.root, path, image_id))
        except FeatcacheError:
            return None

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.paths


@dataclass(frozen=True, eq=False)
class Served:
    """A bundle that answers.

    Attributes:
        name: Of its file, without the ending.
        model: What it carries.
        batcher: Calls it.
        explainer: Makes heat maps.
    """

    name: str
    model: TrainedModel
    batcher: Batcher
    explainer: Explainer

    def facts(self) -> dict[str, Any]:
        """What ``GET /bundles`` says of it."""
        return {
            "name": self.name,
            "run": self.model.name,
            "sha256": self.model.bundle_sha256,
            "dataset": self.model.dataset,
            "classes": self.model.classes,
            "refuses": self.model.rule is not None,
            "zones": bool(
                self.model.operating_points and self.model.operating_points.triage
            ),
            "no_maps": self.explainer.reason,
        }

    def to_json(self, answer: Answer, pictures: TrainingPictures) -> dict[str, Any]:
        """An answer as ``POST /predict`` gives it."""
        zones = {} if answer.p is None else zones_of(self.model, answer.p)
        p = None if answer.p is None else map(float, answer.p)
        return {
            "name": answer.path,
            "image_id": answer.image_id,
            "status": answer.status,
            "reason": answer.reason,
            "class": answer.label or None,
            "probabilities": p and dict(zip(self.model.classes, p, strict=True)),
            "zones": {name: asdict(zone) for name, zone in zones.items()},
            "zone": zones[answer.label].zone if answer.label in zones else None,
            "operating_points": dict(answer.flags),
            "refusal_scores": dict(answer.scores),
            "in_training": bool(answer.in_training),
            "similar": [
                {
                    "image_id": image_id,
                    "label": label,
                    "distance": distance,
                    "picture": f"/images/{image_id}" if image_id in pictures else None,
                }
                for image_id, label, distance in answer.similar
            ],
        }


@contextmanager
def open_bundles(
    paths: Sequence[Path],
    *,
    files: Sequence[Path] = (),
    batch_size: int,
    most_waiting: int,
    reporter: Reporter = SILENT,
) -> Iterator[dict[str, Served]]:
    """Opens bundles, proves them on this machine, and starts their threads.

    Args:
        paths: Their files.
        files: Of networks that they only name.
        batch_size: Most images in one call of a model.
        most_waiting: Images that may wait for each.
        reporter: Hears what the user should know.

    Raises:
        BundleError: A file is none, is damaged, or does not prove itself: the stage is
            said; or two have one name.
    """
    refuse_equal_names(paths)
    nowhere = Place(Path(), Path(), files=files)
    with ExitStack() as stack:
        served = {}
        for path in paths:
            model = stack.enter_context(
                open_model(str(path), nowhere, reporter=reporter)
            )
            batcher = Batcher(model, batch_size=batch_size, most=most_waiting)
            stack.enter_context(batcher)
            served[path.stem] = Served(
                path.stem, model, batcher, Explainer(model.model)
            )
        yield served


def refuse_equal_names(paths: Sequence[Path]) -> None:
    """Refuses files that are no bundles, and two of one name.

    Raises:
        BundleError: Says which.
    """
    names: dict[str, Path] = {}
    for path in paths:
        if not is_bundle(str(path)):
            raise BundleError(
                f"{path} is no bundle",
                "Make one with: featcache bundle make RUN -o FILE",
            )
        if path.stem in names:
            raise BundleError(
                f"{names[path.stem]} and {path} have the same name, {path.stem}",
                "Rename one: requests choose a bundle by the name of its file.",
            )
        names[path.stem] = path


def training_pictures(
    served: Mapping[str, Served], cache: Path, reporter: Reporter = SILENT
) -> TrainingPictures:
    """Where the training images of bundles lie, as far as the cache knows them."""
    paths: dict[str, tuple[Manifest, str]] = {}
    for one in served.values():
        try:
            manifest = manifests.load(cache / one.model.dataset)
        except DatasetError as error:
            reporter.message(
                f"no pictures of the training images of {one.name}: {error.problem}"
            )
            continue
        ok = manifest.ok
        known = one.model.training_ids
        paths |= {
            image_id: (manifest, path)
            for image_id, path in zip(ok["image_id"], ok["path"], strict=True)
            if image_id in known
        }
    return TrainingPictures(paths)
