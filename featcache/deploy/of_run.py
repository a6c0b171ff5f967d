"""From a run to the model that it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from featcache import backbones, heads
from featcache.backbones.engines.base import Engine
from featcache.backbones.engines.convert import PreparedNetwork
from featcache.core.io import sha256_file
from featcache.core.progress import SILENT, Reporter
from featcache.core.text import some
from featcache.dataset.views import Policy, Resize
from featcache.deploy import finetuned, networks
from featcache.deploy.model import (
    PLAIN,
    PROBABILITIES,
    FeatureNetwork,
    Member,
    Model,
    PassOn,
    Rendering,
)
from featcache.errors import RunError, StoreError
from featcache.evaluation import calibration, runs
from featcache.evaluation.calibration import Calibrator
from featcache.evaluation.record import FeatureBlock
from featcache.evaluation.runs import Run
from featcache.features.store import FEATURES, Store


@dataclass(frozen=True)
class ModelSource:
    """Where what a run was trained on lies.

    Attributes:
        folder: ``cache/<dataset>``.
        files: ``.keras`` and weights files to look for the networks' weights in.
        reporter: Hears of networks that are converted again.
    """

    folder: Path
    files: Sequence[Path] = ()
    reporter: Reporter = SILENT


def of_run(run: Run, source: ModelSource) -> Model:
    """Opens the model that a run trained on all of its training set.

    Args:
        run: The run: a head on cached features, a fine-tuned network, or an ensemble.
        source: Where its features and networks are.

    Raises:
        RunError: It failed, is a control on a region, or is damaged; or it, or a
            member, has no model trained on the whole training set.
        StoreError: One of its stores is gone.
        WeightsError: One of its networks cannot be found.
    """
    _refuse_unusable(run)
    member_runs = [run]
    if run.record.members:
        member_runs = [_member(run, name) for name in run.record.members]
        _refuse_changed(run, member_runs)
    parts = _Parts(source)
    members = tuple(parts.member(one) for one in member_runs)
    if all(map(finetuned.is_finetuned, member_runs)):
        parts.add_frozen(member_runs[0])
    weights = run.record.member_weights.get(runs.TEST, [1.0])
    return Model(
        name=run.run_id,
        classes=tuple(run.classes),
        networks=tuple(parts.networks()),
        members=members,
        weights=tuple(weights),
        calibrator=_calibrator(run) if run.record.members else Calibrator(),
    )


def _refuse_unusable(run: Run) -> None:
    if run.failed:
        raise RunError(
            "a run with a model",
            f"{run.run_id}, which failed: {run.record.reason}",
            "Choose another run.",
        )
    regions = {block.region for block in run.record.features if block.region}
    if regions:
        raise RunError(
            f"{run.run_id} is a control that saw only a region of each image "
            f"({some(sorted(regions))})",
            "Choose a run on whole images.",
        )


def _member(run: Run, name: str) -> Run:
    try:
        member = runs.load(run.folder.parent / name)
    except RunError as error:
        raise RunError(
            f"the members of the ensemble {run.run_id}",
            f"{name} is missing or damaged",
            "Train it again, then make the ensemble again.",
        ) from error
    _refuse_unusable(member)
    return member


def _refuse_changed(run: Run, members: Sequence[Run]) -> None:
    """Refuses members that were trained again, with other predictions, since."""
    digests = [sha256_file(one.folder / runs.PREDICTIONS) for one in members]
    pairs = zip(members, digests, run.record.member_digests, strict=True)
    if changed := [m.run_id for m, now, then in pairs if now != then]:
        raise RunError(
            f"{some(changed)} changed after the ensemble {run.run_id} was made",
            "Make it again: featcache ensemble with `force=True`.",
        )


def _calibrator(run: Run) -> Calibrator:
    record = run.record.calibration
    return calibration.from_record(record) if record else Calibrator()


def _renderings(run: Run) -> tuple[Rendering, ...]:
    """What the run averages over: as its held-out images were predicted."""
    record = run.record
    views = record.views if record.tta else 0
    if finetuned.is_finetuned(run):
        views = _finetuned_views(run)
    if not views:
        return (PLAIN,)
    if record.policy is None:
        raise RunError(
            f"the views of {run.run_id}", "a record without their policy", "Retrain it."
        )
    policy = Policy.of(record.policy)
    return (PLAIN, *(Rendering(view, policy) for view in range(1, views + 1)))


def _finetuned_views(run: Run) -> int:
    last = [one for one in run.record.trainings if one.fold < 0]
    if not last:
        raise RunError(
            f"{run.run_id} has no network that was trained on the whole training set",
            "Fine-tune with `fold='all'` or with a test set.",
        )
    return int(run.record.head_is.params.get("tta", 0)) if last[0].best_epoch else 0


@dataclass
class _NetworkPart:
    """A network while members are being collected: its outputs grow."""

    key: str
    build: Callable[[tuple[str, ...]], FeatureNetwork]
    outputs: dict[str, None] = field(default_factory=dict)


class _Parts:
    """Collects the networks of members, each once."""

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        self.parts: list[_NetworkPart] = []

    def networks(self) -> list[FeatureNetwork]:
        """All of them, with the outputs of all members."""
        return [part.build(tuple(part.outputs)) for part in self.parts]

    def member(self, run: Run) -> Member:
        """A run as a member, whose networks are collected."""
        if finetuned.is_finetuned(run):
            build = _finetuned_builder(run)
            columns = [self._column(run.run_id, build, PROBABILITIES)]
            head: Any = PassOn(len(run.classes))
        else:
            columns = self._columns(run)
            head = heads.load(run.file(heads.RECORD).parent)
            width = sum(block.dim for block in run.record.features)
            if head.n_features_in_ != width:
                raise RunError(
                    f"a head on {width} features for {run.run_id}",
                    f"one on {head.n_features_in_}",
                    "Train it again with `force=True`.",
                )
        return Member(
            name=run.run_id,
            columns=tuple(columns),
            head=head,
            renderings=_renderings(run),
            calibrator=_calibrator(run),
        )

    def add_frozen(self, run: Run) -> None:
        """Adds the frozen features of a fine-tuned run's backbone, if they are stored.

        No head uses them, but refusal does: a network that was trained on the training
        images sees no image as it sees these.
        """
        (block,) = run.record.features
        if opened := networks.frozen_store(self.source.folder, block):
            build = _store_builder(opened, self.source)
            self._column(opened.header.contract_id, build, FEATURES)

    def _columns(self, run: Run) -> list[tuple[int, str]]:
        blocks, columns = run.record.features, []
        for contract_id, group in groupby(blocks, key=lambda block: block.contract_id):
            own = list(group)
            opened = networks.store_of(run, self.source.folder, own[0])
            _refuse_missing(opened, own)
            build = _store_builder(opened, self.source)
            columns += [
                self._column(str(contract_id), build, block.tap or FEATURES)
                for block in own
            ]
        return columns

    def _column(
        self, key: str, build: Callable[[tuple[str, ...]], FeatureNetwork], output: str
    ) -> tuple[int, str]:
        keys = [part.key for part in self.parts]
        if key not in keys:
            self.parts.append(_NetworkPart(key, build))
            keys.append(key)
        number = keys.index(key)
        self.parts[number].outputs[output] = None
        return number, output


def _refuse_missing(opened: Store, blocks: Sequence[FeatureBlock]) -> None:
    names = [block.tap or FEATURES for block in blocks]
    if missing := [name for name in names if name not in opened.dims]:
        raise StoreError(
            f"the taps of the run in {opened.path.name}",
            f"no {some(missing)}",
            "Extract them again.",
        )


def _store_builder(
    opened: Store, source: ModelSource
) -> Callable[[tuple[str, ...]], FeatureNetwork]:
    """The network that made a store."""
    header, contract = opened.header, opened.header.contract
    network = networks.resolve(header, source.folder, source.files)

    def build(outputs: tuple[str, ...]) -> FeatureNetwork:
        return FeatureNetwork(
            name=contract.backbone,
            resize=Resize.from_text(contract.resize, contract.input_size),
            outputs=outputs,
            widths=tuple(opened.dims[name] for name in outputs),
            make=lambda: make_engine(opened, network, outputs, source),
            dtype=header.dtype.name,
            network=network,
            contract=header.contract,
            store=opened,
        )

    return build


def prepare(
    opened: Store,
    network: backbones.Network,
    outputs: Sequence[str],
    source: ModelSource,
) -> PreparedNetwork:
    """What the engine of a store's network is made from."""
    return networks.prepare(
        network,
        opened.header.contract,
        outputs,
        source.folder.parent / "openvino",
        calibration_ids=opened.header.notes.get("calibration", []),
        hint=f"Move {opened.path} away and extract again with the same options: that "
        "quantises it again.",
    )


def make_engine(
    opened: Store,
    network: backbones.Network,
    outputs: Sequence[str],
    source: ModelSource,
) -> Engine:
    """Runs the network of a store as the store was made.

    Raises:
        StoreError: Its weights are not those of the store.
    """
    prepared = prepare(opened, network, outputs, source)
    engine = opened.header.engine or "auto"
    return networks.engine_of(prepared, engine, source.reporter)


def _finetuned_builder(run: Run) -> Callable[[tuple[str, ...]], FeatureNetwork]:
    (block,) = run.record.features

    def build(outputs: tuple[str, ...]) -> FeatureNetwork:
        return FeatureNetwork(
            name=block.backbone,
            resize=Resize.from_text(block.resize, block.input_size),
            outputs=outputs,
            widths=(len(run.classes),),
            make=lambda: finetuned.engine_of(run),
            run=run,
        )

    return build
