"""``featcache demo``: generated chest phantoms all the way to answers, step by step."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from os.path import abspath
from pathlib import Path
from shlex import quote
from typing import Any

from featcache.backbones import canary
from featcache.commands.bundle import make_bundle, show_bundle, verify_bundle
from featcache.commands.compare import Leaderboard
from featcache.commands.predict import predict
from featcache.core.command_lines import from_here
from featcache.core.io import atomic_folder
from featcache.core.progress import Reporter
from featcache.core.text import counted
from featcache.core.workers import LOCAL
from featcache.dataset import phantom
from featcache.dataset.manifest import Manifest
from featcache.dataset.sources.inputs import open_inputs
from featcache.dataset.splits import SplitOptions
from featcache.deploy.answers import Answer
from featcache.deploy.bundle.verify import Stage
from featcache.deploy.opening import Place, open_model
from featcache.errors import BundleError, RunError, UsageError
from featcache.evaluation.runs import Run
from featcache.study import looks
from featcache.study.base import Explain, Study
from featcache.study.looks import Draw
from featcache.study.parser import read
from featcache.study.runner import StudyRunner

FILE = Path(__file__).with_name("demo.toml")
# Made by benchmarks/phantom_network.py.
NETWORK = Path(__file__).with_name("phantom_net.keras")
DATASET = "demo"
MAPS, NEW_IMAGES = 10, 9  # heat maps a class; images to predict
_OF_DEMO = f"--dataset {DATASET}"


@dataclass(frozen=True)
class Step:
    """A step of the demo, before it is done.

    Attributes:
        title: What it is, in a sentence.
        commands: What a user types for it.
        work: Does what is missing of it.
    """

    title: str
    commands: list[str]
    work: Callable[[Reporter], Any]


@dataclass(frozen=True)
class Unspoken(Reporter):
    """Passes on how far the work is, and no message.

    Attributes:
        reporter: Who hears it.
    """

    reporter: Reporter

    def progress(self, name: str, done: int, total: int) -> None:
        """Passes it on."""
        self.reporter.progress(name, done, total)

    def doing(self, text: str) -> None:
        """Passes it on."""
        self.reporter.doing(text)


@dataclass(frozen=True)
class Maps:
    """Heat maps: of which run, and in which folder."""

    run: Run
    folder: Path


@dataclass(frozen=True)
class Answers:
    """What the bundle says of images, with the classes of its probabilities."""

    classes: list[str]
    answers: list[Answer]


class Demo:
    """A study of phantoms, a bundle of its best run, and the answers of that.

    Every step does only what is missing, so a second demo takes seconds.

    Args:
        cache: The cache folder; phantoms go there too.
        reports: The reports folder.
        draw: Draws the heat maps; see ``study.run``.
        images: Phantoms, over three classes.
        shortcut: Plant a corner marker that gives the class away.
        small_lesions: Draw findings as small patches in one lung.
        seed: Of phantoms, views, split and heads.
        jobs: Parallel processes for the heads.

    Attributes:
        study: What is done, once there are phantoms.
        runner: Does it.
        data: The dataset, once it is scanned.
        board: The leaderboard, once there is one.
        bundle: The file of the bundle.
    """

    study: Study
    runner: StudyRunner
    data: Manifest
    board: Leaderboard

    def __init__(
        self,
        cache: Path,
        reports: Path,
        draw: Draw,
        *,
        images: int = 360,
        shortcut: bool = False,
        small_lesions: bool = False,
        seed: int = 0,
        jobs: int | None = None,
    ) -> None:
        self.cache, self.reports, self.draw = cache, reports, draw
        self.images, self.seed, self.jobs = images, seed, jobs
        self.kind = {"shortcut": shortcut, "small_lesions": small_lesions}
        self.bundle = reports / DATASET / "demo.fcb"
        self.phantoms = self._folder("phantoms", images, seed)
        # Patients of another world: none of them is among those trained on.
        self.new_phantoms = self._folder("new", NEW_IMAGES, seed + 1)
        self.others = cache / DATASET / "no-x-rays"

    def steps(self) -> Iterator[Step]:
        """The steps in order; take the next one when the one before is done."""
        yield from self._steps_to_ranking()
        yield from self._steps_with(looks.best_of([self.board], self._runs))

    def _steps_to_ranking(self) -> Iterator[Step]:
        table = quote(from_here(self.phantoms / "metadata.csv"))
        network = quote(from_here(NETWORK))
        yield Step(
            f"{self.images} generated chest images of three classes",
            [f"featcache scan {table} {_OF_DEMO} --group-by patient"],
            self._scan,
        )
        yield Step(
            "Features: every image once through a small network and three baselines",
            [
                f"featcache extract {_OF_DEMO} -b {network} --views 1",
                f"featcache extract {_OF_DEMO} -b baselines",
            ],
            self._extract,
        )
        yield Step(
            "Heads: eight on the same features, by cross-validation over patients",
            [
                " ".join(["featcache train-head", _OF_DEMO, names, *self._split_words])
                for names in (f"-b {NETWORK.stem} -H all", "-b baselines -H logreg")
            ],
            self._train,
        )
        yield Step(
            "The leaderboard", [f"featcache compare {_OF_DEMO} --html"], self._rank
        )

    def _steps_with(self, run: Run) -> Iterator[Step]:
        bundle, new = quote(from_here(self.bundle)), self.new_phantoms / "metadata.csv"
        explain = f"featcache explain {run.short_id} {_OF_DEMO}"
        yield Step(
            "Heat maps: where the best head finds its evidence",
            [f"{explain} --per-class {MAPS} --faithfulness"],
            lambda reporter: self._explain(run, reporter),
        )
        yield Step(
            "A bundle: the best head and its network as one file that proves itself",
            [
                f"featcache bundle make {run.short_id} {_OF_DEMO} -o {bundle}",
                f"featcache bundle verify {bundle}",
            ],
            lambda reporter: self._pack(run, reporter),
        )
        yield Step(
            "Predictions: what the bundle says of new patients",
            [f"featcache predict {bundle} {quote(from_here(new))}"],
            lambda reporter: self._predict(new, reporter),
        )
        yield Step(
            "A refusal: what it says of a picture that is no X-ray",
            [f"featcache predict {bundle} {quote(from_here(self.others))}"],
            self._refuse,
        )

    @property
    def _split(self) -> dict[str, int]:
        """What is left of the usual split, where a class has few patients."""
        enough = self._patients > SplitOptions().folds
        return {} if enough else {"folds": self._patients, "test_size": 0}

    @property
    def _split_words(self) -> list[str]:
        return [f"--{k.replace('_', '-')} {v}" for k, v in self._split.items()]

    @property
    def _patients(self) -> int:
        """Of the class that has the fewest."""
        return int(self.data.ok.groupby("label")["group"].nunique().min())

    @property
    def _runs(self) -> list[Run]:
        return [run for block in self.runner.runs.values() for run in block]

    def _folder(self, name: str, images: int, seed: int) -> Path:
        flags = {"shortcut": "shortcut", "small_lesions": "small"}
        words = [word for key, word in flags.items() if self.kind[key]]
        name = "-".join([name, str(images), f"seed{seed}", *words])
        return self.cache / DATASET / name

    def _write(self, folder: Path, images: int, seed: int, reporter: Reporter) -> None:
        if not (folder / "metadata.csv").is_file():
            shutil.rmtree(folder, ignore_errors=True)  # an interrupted demo's
            phantom.write(folder, images, seed=seed, **self.kind, reporter=reporter)

    def _scan(self, reporter: Reporter) -> str:
        self._write(self.phantoms, self.images, self.seed, reporter)
        variables = {"PHANTOMS": abspath(self.phantoms), "NETWORK": abspath(NETWORK)}
        self.study = read(FILE, variables=variables, seed=self.seed)
        self.runner = StudyRunner(
            self.study, self.reports, self.jobs, LOCAL, Unspoken(reporter)
        )
        self.data = self.runner.scan(self.cache)
        if self._patients < 2:
            raise UsageError(
                "`images` enough for two patients in each class",
                str(self.images),
                "Give 12 or more.",
            )
        ok = self.data.ok
        patients = counted(ok["group"].nunique(), "patient")
        return f"{counted(len(ok), 'image')} of {patients}: {self.phantoms}"

    def _extract(self, reporter: Reporter) -> str:
        self.runner.reporter = Unspoken(reporter)
        for block in self.study.extracts:
            self.runner.extract(self.data, block)
        rows = [len(store.keys) for store in self.runner.stores.values()]
        return (
            f"{sum(rows)} embeddings in {counted(len(rows), 'store')}, "
            f"{self.runner.computed} of them new"
        )

    def _train(self, reporter: Reporter) -> str:
        self.runner.reporter = Unspoken(reporter)
        for block in self.study.trains:
            settings = block.settings | self._split
            self.runner.train(self.data, replace(block, settings=settings))
        failures = self.runner.failures
        if all(run.failed for run in self._runs if not run.record.is_baseline):
            raise RunError(
                f"the demo failed: {'; '.join(failures)}",
                "Run featcache doctor; finished work is kept.",
            )
        for line in failures:  # such as of a head that takes more patients
            reporter.message(f"Failed: {line}")
        new = len(self.runner.new_run_ids)
        return f"{counted(len(self._runs), 'run')}, {new} of them new"

    def _rank(self, reporter: Reporter) -> Leaderboard:
        self.runner.reporter = reporter
        self.board = self.runner.rank(self.data)[0]
        return self.board

    def _explain(self, run: Run, reporter: Reporter) -> Maps:
        request = Explain(None, False, {"per_class": MAPS, "faithfulness": True})
        files = self.study.network_files
        looks.explain_again(
            self.data, run, request, files, self.draw, Unspoken(reporter)
        )
        return Maps(run, self.reports / DATASET / "explain" / run.run_id)

    def _pack(self, run: Run, reporter: Reporter) -> list[Stage]:
        if not self._is_packed(run):
            make_bundle(
                self.data,
                run,
                self.bundle,
                files=self.study.network_files,
                force=True,
                reporter=reporter,
            )
        return verify_bundle(self.bundle)

    def _is_packed(self, run: Run) -> bool:
        try:
            return self.bundle.is_file() and show_bundle(self.bundle).run == run.run_id
        except BundleError:
            return False

    def _predict(self, images: Path, reporter: Reporter) -> Answers:
        self._write(self.new_phantoms, NEW_IMAGES, self.seed + 1, reporter)
        return self._ask(images, reporter)

    def _refuse(self, reporter: Reporter) -> Answers:
        with atomic_folder(self.others) as folder:
            canary.picture().save(folder / "colours.png")
        return self._ask(self.others, reporter)

    def _ask(self, images: Path, reporter: Reporter) -> Answers:
        place = Place(self.cache, self.reports)
        with open_model(str(self.bundle), place, reporter=reporter) as model:
            answers = predict(model, open_inputs([images]), reporter=reporter)
            return Answers(list(model.classes), list(answers))
