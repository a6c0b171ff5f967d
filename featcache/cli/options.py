"""Options that commands share, and what some of them stand for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from featcache.cli.completion import complete_datasets, complete_networks
from featcache.cli.output import Said
from featcache.core.command_lines import CACHE, CACHE_VARIABLE, REPORTS
from featcache.errors import UsageError

if TYPE_CHECKING:
    from featcache.backbones import Network
    from featcache.dataset.manifest import Manifest
    from featcache.dataset.regions import Region
    from featcache.dataset.views import Policy
    from featcache.features import FeatureSet

F = TypeVar("F", bound=Callable[..., Any])


def _remember(context: click.Context, param: click.Parameter, folder: Path) -> Path:
    """Keeps a folder of the call, for the commands that its texts recommend."""
    context.meta[f"featcache.{param.name}"] = folder
    return folder


class Range(click.ParamType[tuple[float, float]]):
    """Two numbers ``LO,HI``."""

    name = "LO,HI"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
        """Parses the text; a pair passes."""
        if isinstance(value, tuple):
            return value
        try:
            low, high = (float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value} is not a pair of numbers such as 0.8,1.25", param, ctx)
        return low, high


class Views(click.ParamType[int | str]):
    """A number of views, or ``all``."""

    name = "views"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        """Parses the text."""
        if value == "all":
            return "all"
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor all", param, ctx)


def options(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Bundles several options into one decorator, in the order given."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def _dataset_option(text: str) -> Callable[[F], F]:
    return click.option(
        "--dataset", metavar="NAME", shell_complete=complete_datasets, help=text
    )


dataset_option = _dataset_option(
    "Name of the dataset in the cache; may be omitted if there is only one."
)
trained_dataset_option = _dataset_option(
    "Dataset of the runs; may be omitted if only one has any, or if the runs that "
    "are named determine it."
)
scanned_dataset_option = _dataset_option(
    "Name of the dataset in the cache.  [default: the name of SOURCE's folder]"
)
dataset_filter_option = _dataset_option("Only this dataset.  [default: all]")
cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=CACHE,
    envvar=CACHE_VARIABLE,
    callback=_remember,
    show_default=True,
    show_envvar=True,
    help="Folder for manifests, splits and feature stores.",
)
reports_option = click.option(
    "--reports",
    type=click.Path(file_okay=False, path_type=Path),
    default=REPORTS,
    callback=_remember,
    show_default=True,
    help="Folder for runs and leaderboards.",
)


def backbones_option(text: str, name: str = "names", **more: Any) -> Callable[[F], F]:
    """The option ``-b`` of networks (or others to complete), which may be repeated."""
    usual: dict[str, Any] = {
        "multiple": True,
        "shell_complete": complete_networks,
        "metavar": "NAME",
    }
    return click.option("-b", "--backbone", name, help=text, **usual | more)


files_option = click.option(
    "-b",
    "--backbone",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of a backbone that is not where it was; may be repeated.",
)
run_split_option = click.option(
    "--split",
    metavar="NAME",
    help="Split whose runs RUN may name.  [default: any; for ranks, the newest run's]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
force_option = click.option("--force", is_flag=True, help="Overwrite an existing file.")
seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, help="Random seed."
)
jobs_option = click.option(
    "--jobs", type=int, metavar="N", help="Parallel processes.  [default: one per core]"
)
on_option = click.option(
    "--on",
    default="local",
    show_default=True,
    metavar="local|dask|ray[://HOST:PORT]",
    help="Where to work: in processes of this machine, or on Dask or Ray; with an "
    "address, on the cluster there, whose machines see the same files.",
)
calibrate_option = click.option(
    "--calibrate/--no-calibrate",
    default=True,
    show_default=True,
    help="Calibrate the probabilities on the out-of-fold predictions.",
)
policy_number_option = click.option(
    "--policy",
    type=int,
    help="Number of the augmentation policy, from 0 (see cache info).  [default: "
    "the newest]",
)
stored_taps_option = click.option(
    "--taps",
    default="none",
    show_default=True,
    metavar="none|all|LAYER,...",
    help="Stored inner layers to append to the embedding.",
)
region_options = options(
    click.option(
        "--region",
        type=click.Choice(["whole", "inside", "outside", "ring"]),
        default="whole",
        show_default=True,
        help="Which region to keep (the rest is blacked out): the whole image, "
        "inside the mask, outside it, or the outer ring (1/12).",
    ),
    click.option(
        "--mask",
        default="mask",
        show_default=True,
        metavar="COLUMN",
        help="Manifest column with the mask files, for inside and outside.",
    ),
)


def is_given(name: str) -> bool:
    """Whether an option stands on the command line (and not in the environment)."""
    context = click.get_current_context()
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def refuse_ignored(names: Sequence[str], expected: str, hint: str) -> None:
    """Refuses options that would be ignored.

    Args:
        names: Of the parameters.
        expected: Which option goes without which others.
        hint: What to do.

    Raises:
        UsageError: One of them is on the command line.
    """
    params = click.get_current_context().command.params
    spelled = [p.opts[0] for p in params if p.name in names and is_given(p.name)]
    if spelled:
        raise UsageError(expected, ", ".join(spelled), hint)


source_options = options(
    click.option(
        "--group-by",
        metavar="COLUMN|REGEX",
        help="Which images stay together: a column of the CSV, a regular expression "
        r"with one group for the file name or folders such as '(\d{8})_', "
        "dicom:PatientID, image, or near-duplicate (the default if the CSV has no "
        "column group).",
    ),
    click.option(
        "--per-class",
        type=int,
        metavar="N",
        help="Use only the first N images of each class; later scans keep this, "
        "0 for all.",
    ),
    click.option(
        "--on-conflict",
        type=click.Choice(["error", "drop"]),
        help="If identical files have different labels: stop, or drop them all.  "
        "[default: error]",
    ),
    click.option(
        "--split-by",
        metavar="folder|COLUMN",
        help="Keep the split that SOURCE brings: folders called train, val and test, "
        "or a column with these; its test images are the test set. none: draw one.",
    ),
    click.option(
        "--pool",
        is_flag=True,
        default=None,
        help="Join the parts of the split that SOURCE brings.",
    ),
)
# The fields of `dataset.views.Policy`, but for its seed and region.
policy_options = options(
    click.option(
        "--flip/--no-flip",
        default=True,
        show_default=True,
        help="Randomly mirror augmented views.",
    ),
    click.option(
        "--brightness",
        type=Range(),
        default=(0.8, 1.25),
        help="Range of brightness factors for augmented views.  [default: 0.8,1.25]",
    ),
    click.option(
        "--zoom",
        type=Range(),
        default=(1.0, 1.2),
        help="Range of magnification factors for augmented views.  [default: 1,1.2]",
    ),
)
# The fields of `dataset.splits.SplitOptions`, but for its seed and repeats.
split_options = options(
    click.option(
        "--exclude",
        multiple=True,
        metavar="COLUMN[=VALUE]",
        help="Leave out images whose manifest column is 1, true or yes, or "
        "equals VALUE; may be repeated.",
    ),
    click.option(
        "--group-by",
        metavar="COLUMN|image",
        help="Which images stay together in a split.  [default: the manifest's groups]",
    ),
    click.option(
        "--folds",
        type=int,
        default=5,
        show_default=True,
        help="Cross-validation folds.",
    ),
    click.option(
        "--test-size",
        type=float,
        default=0.2,
        show_default=True,
        help="Share of the images in the test set; 0 for none.",
    ),
    click.option(
        "--split-by",
        metavar="folder|COLUMN",
        help="Keep the split that the source brings: its folders, or a column with "
        "train, val and test. none: draw one.  [default: as scanned]",
    ),
    click.option(
        "--test-where",
        metavar="COLUMN=VALUE",
        help="Test on these images, such as those of one hospital; train on the rest.",
    ),
    click.option(
        "--val-part",
        type=click.Choice(["join", "fold"]),
        default="join",
        show_default=True,
        help="The validation part of the source's split: join it with train, or keep "
        "it as one fold.",
    ),
    click.option(
        "--split",
        metavar="NAME",
        help="Name of the split.  [default: from its settings]",
    ),
)


def open_dataset(cache: Path, dataset: str | None) -> "Manifest":
    """Opens a scanned dataset; without a name, the only one."""
    from featcache.dataset import manifest

    return manifest.load(manifest.find(cache, dataset))


def open_dataset_of_runs(
    cache: Path, reports: Path, dataset: str | None, runs: Sequence[str] = ()
) -> "Manifest":
    """Opens the dataset of runs; without a name, the one that the runs determine."""
    from featcache.dataset import manifest
    from featcache.evaluation import references

    return manifest.load(references.find_dataset(cache, reports, dataset, runs))


def take(settings: dict[str, Any], *words: str) -> dict[str, Any]:
    """Takes some of a command's options out of the rest."""
    return {word: settings.pop(word) for word in words}


def resolve_networks(names: Sequence[str], settings: dict[str, Any]) -> "list[Network]":
    """The networks that a command names; takes out the options that are theirs."""
    from featcache.backbones import resolve_all

    options = take(settings, "weights", "preprocess", "input_size")
    return resolve_all(names, seed=settings["seed"], reporter=Said(), **options)


def find_policy(
    sets: "Sequence[FeatureSet]", number: int, region: "Region"
) -> "Policy":
    """The recipe that a number on the command line stands for.

    Raises:
        UsageError: There is no such recipe, or it is another in another store.
    """
    from featcache.core.text import some

    numbered = [(one, one.policies(region)) for one in sets]
    numbered = [pair for pair in numbered if pair[1]] or numbered[:1]
    for one, policies in numbered:
        if number not in policies:
            raise UsageError(
                f"--policy {some([*map(str, policies)])}"
                if policies
                else "no --policy",
                f"{number}; {one.text}{region.suffix} has {len(policies)} policies",
                "Omit it to use the newest.",
            )
    recipes = {policies[number]: one.text for one, policies in numbered}
    if len(recipes) > 1:
        raise UsageError(
            "a --policy with the same settings in all stores",
            f"{number}, which differs between {' and '.join([*recipes.values()][:2])}",
            "Name one backbone with -b.",
        )
    return next(iter(recipes))


def dataset_name(
    dataset: str | None, cache: Path, reports: Path, runs: Sequence[str] = ()
) -> str:
    """Runs can be compared where the cache is not, so both places name datasets."""
    from featcache.dataset import manifest
    from featcache.evaluation import references

    if dataset and (reports / dataset / "runs").is_dir():
        return dataset
    name = None if dataset else references.dataset_of(reports, runs)
    return name or manifest.find(cache, dataset).name
