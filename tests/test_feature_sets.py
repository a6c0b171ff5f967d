"""Feature sets: stores side by side, row by row, view by view."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toys import POLICY, N, header, make_dataset, train_flat, write_store

import featcache
from featcache import features
from featcache.core.io import write_json
from featcache.core.workers import local
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import Region
from featcache.dataset.views import Policy
from featcache.errors import StoreError, UnknownNameError, UsageError
from featcache.evaluation.runs import Run
from featcache.features import FeatureSet, Selection

OTHER = {"flip": False, "brightness": [0.8, 1.25], "zoom": [1.0, 1.2], "seed": 7}


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """90 images, without a store yet."""
    return make_dataset(tmp_path)


@pytest.fixture
def select(dataset: Manifest) -> Callable[..., Selection]:
    """Selects the rows of one feature set by its name."""

    def call(text: str, **options: object) -> Selection:
        (found,) = features.find_sets(dataset, [text])
        return found.select(dataset, **options)

    return call


@pytest.fixture
def train(dataset: Manifest, tmp_path: Path) -> Callable[..., list[Run]]:
    """Trains the majority head in this process."""

    def call(*backbones: str, **options: object) -> list[Run]:
        options = {"heads": ["majority"], "jobs": 1} | options
        reports = tmp_path / "reports"
        return train_flat(dataset, reports, backbones=backbones, **options).runs

    return call


def texts(dataset: Manifest, *names: str) -> list[str]:
    return [found.text for found in features.find_sets(dataset, names)]


def test_blocks_stand_side_by_side(dataset, select) -> None:
    """Each row of a+b is that image's view in a, then the same view in b."""
    a = write_store(dataset, header("a"), dim=4, seed=1)
    b = write_store(dataset, header("b"), dim=3, seed=2)
    found = select("a+b")
    assert found.dims == (4, 3)
    apart = [featcache.load(path, views=2) for path in (a, b)]
    np.testing.assert_array_equal(
        found.read(), np.concatenate([f.X for f in apart], axis=1)
    )
    columns = ["image_id", "view", "policy", "label", "group"]
    assert found.meta[columns].equals(apart[0].meta[columns])


def test_views_are_matched_by_their_policy_not_its_index(dataset, select) -> None:
    """One recipe may be policy 1 of a store and policy 0 of another."""
    path = write_store(dataset, header("a", policies=(POLICY, OTHER)), policy=1, seed=1)
    other = write_store(dataset, header("b", policies=(OTHER,)), policy=0, seed=2)
    found = select("a+b")
    assert found.recipe == OTHER
    a = featcache.load(path, views=2, policy=Policy.of(OTHER)).X
    b = featcache.load(other, views=2, policy=Policy.of(OTHER)).X
    np.testing.assert_array_equal(found.read(), np.concatenate([a, b], axis=1))


def test_the_newest_recipe_that_all_have_is_taken(dataset, select) -> None:
    """A recipe that only one block has is not what a set is trained on."""
    write_store(dataset, header("a", policies=(POLICY, OTHER)), policy=0)
    write_store(dataset, header("b", policies=(POLICY,)))
    assert select("a+b").recipe == POLICY
    assert select("a", policy=Policy.of(POLICY)).recipe == POLICY


def test_a_size_tells_stores_of_one_backbone_apart(dataset) -> None:
    """``name@PX`` is one store, and the bare name is a set for each."""
    for size in (224, 320):
        write_store(dataset, header("net", input_size=size, weights="file"))
    assert texts(dataset, "net", "net@320") == ["net", "net"]
    assert texts(dataset, "net@224+net.keras@320") == ["net@224+net@320"]
    assert texts(dataset, "net-file@320+net@224") == ["net@224+net@320"]


def test_the_order_of_a_sum_means_nothing(dataset, train) -> None:
    """a+b and b+a are one set and one run."""
    write_store(dataset, header("a"))
    write_store(dataset, header("b"), seed=1)
    assert texts(dataset, "b+a", "a+b") == ["a@32+b@32"]
    assert train("b+a")[0].run_id == train("a+b")[0].run_id


def test_an_ambiguous_name_in_a_sum_is_refused(dataset) -> None:
    """The names that can be given instead are listed, and each works."""
    stems = [
        write_store(dataset, header("net", input_size=size)).stem for size in (64, 96)
    ]
    write_store(dataset, header("b"))
    with pytest.raises(UnknownNameError) as told:
        features.find_sets(dataset, ["b+net"])
    assert told.value.got == f"2: {', '.join(sorted(stems))}"
    for stem in stems:
        assert len(features.find_sets(dataset, [f"b+{stem}"])) == 1


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("a+a", UsageError, "each store once"),
        ("a+a-random@32", UsageError, "each store once"),
        ("a+vgg19@64", UnknownNameError, "-b vgg19 --input-size 64"),
        ("a@33", UnknownNameError, "'a@33'"),
        ("a+all", UnknownNameError, "'all'"),
        ("+", UnknownNameError, "''"),
        ("metadata", UnknownNameError, "-b metadata"),
    ],
)
def test_names_that_mean_no_set_are_refused(dataset, text, error, said) -> None:
    """The error names the part that is wrong and what can be done."""
    write_store(dataset, header("a"))
    with pytest.raises(error, match=said):
        features.find_sets(dataset, [text])


def test_a_network_that_another_dataset_knows_is_named_by_its_file(
    dataset: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the current folder: a file that is there, of the newest call that had it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my nets").mkdir()
    (tmp_path / "my nets/own.keras").touch()
    files = ("my nets/own.keras", "my nets/gone/own.keras")
    for number, file in enumerate(files):
        network = {"name": "own", "file": str(tmp_path / file)}
        record = {"status": "done", "started": f"2026-01-0{number + 1}"}
        record |= {"arguments": {"networks": [network]}}
        write_json(dataset.folder.parent / f"other/extract-{number}.json", record)
    write_store(dataset, header("a"))
    with pytest.raises(
        UnknownNameError, match=r"--dataset chest -b 'my nets/own\.keras'"
    ):
        features.find_sets(dataset, ["own"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UnknownNameError, match=rf"-b '{tmp_path}/my nets/own\.keras'"):
        features.find_sets(dataset, ["own@64"])


def test_all_is_a_set_for_each_store(dataset) -> None:
    """And a set that is named twice is one."""
    for name in ("a", "b"):
        write_store(dataset, header(name))
    assert texts(dataset, "all", "b") == ["a", "b"]


def test_baselines_are_three_sets(dataset, train) -> None:
    """``baselines`` names all rows of the table that need no network."""
    for name in ("metadata", "pixels48", "border"):
        write_store(dataset, header(name, weights="none"), views=0)
    found = [run.record.backbone for run in train("baselines")]
    assert found == ["metadata", "pixels48", "border"]
    assert texts(dataset, "metadata+border") == ["border+metadata"]


def test_the_command_asks_for_the_same_contract(dataset, select) -> None:
    """Else it would make another store, and the views would still be lacking."""
    contract = {"preprocess": "tf", "precision": "int8", "dtype": "float16"}
    write_store(dataset, header("a", policies=(OTHER,)))
    write_store(dataset, header("densenet121", **contract), views=0)
    with pytest.raises(StoreError, match="--input-size 32 --precision int8") as told:
        select("a+densenet121")
    assert "--weights random --preprocess tf" in told.value.hint
    assert "--dtype float16" in told.value.hint


def test_a_block_without_the_others_views_is_refused(dataset, select) -> None:
    """The error gives the command that extracts just these views; 0 views work."""
    write_store(dataset, header("a", policies=(OTHER,)))
    write_store(dataset, header("densenet121"), views=0)
    with pytest.raises(StoreError) as told:
        select("a+densenet121")
    assert "3 views of 90 images in densenet121-random" in told.value.expected
    assert told.value.hint == (
        "Run: featcache extract --dataset chest -b densenet121 --weights random "
        "--preprocess tf --input-size 32 --views 2 --no-flip "
        "--brightness 0.8,1.25 --zoom 1,1.2 --seed 7, or use `views=0`."
    )
    assert select("a+densenet121", views=0).views == 0


def test_a_policy_that_is_not_there_is_refused(dataset, select) -> None:
    """It is not taken for one without views, nor for one of another region."""
    write_store(dataset, header("a"))
    with pytest.raises(StoreError, match=r"views of a by policy .*'seed': 7"):
        select("a", policy=Policy.of(OTHER))
    with pytest.raises(UsageError, match="of `region` whole; got one of ring"):
        select("a", policy=Policy(region=Region("ring")))


@pytest.mark.parametrize("number", ["-1", "1", "5"])
def test_a_number_of_no_policy_is_refused(run, dataset, number: str) -> None:
    """The command line numbers the policies of a store, and names those there are."""
    write_store(dataset, header("a"))
    code, _, err = run("train-head", "-H", "majority", "--policy", number)
    assert (code, "expected --policy 0; got" in err) == (1, True)


def test_a_number_means_one_policy(run, dataset) -> None:
    """Where a number is one recipe here and another there, one has to be named."""
    write_store(dataset, header("a", policies=(OTHER, POLICY)))
    write_store(dataset, header("b", policies=(POLICY, OTHER)))
    train = ["train-head", "-H", "majority", "--jobs", "1", "--policy", "0"]
    code, _, err = run(*train)
    assert (code, "0, which differs between a and b. Name one" in err) == (1, True)
    assert run(*train, "-b", "b")[0] == 0


def test_taps_are_those_of_each_store_that_has_them(dataset, train) -> None:
    """A tap is appended where it is stored; one that no store has is refused."""
    write_store(dataset, header("a"), dim=4, taps={"fire4": 5, "fire9": 3})
    write_store(dataset, header("b"), dim=2, taps={"fire9": 2})
    write_store(dataset, header("c"), dim=2)
    (both,) = train("a+b", taps="fire9,fire4")
    widths = [(b.backbone, b.tap, b.dim) for b in both.record.features]
    assert widths == [
        ("a", None, 4), ("a", "fire9", 3), ("a", "fire4", 5), ("b", None, 2),
        ("b", "fire9", 2),
    ]  # fmt: skip
    runs = train("b", "c", taps="fire9")
    assert [run.record.taps for run in runs] == [["fire9"], []]
    assert [run.record.taps for run in train("a", "c", taps="all")] == [
        ["fire4", "fire9"],
        [],
    ]
    with pytest.raises(UnknownNameError, match="fire4, fire9"):
        train("a+b", taps="fire7")


def test_a_tap_with_gaps_is_refused(dataset, select) -> None:
    """Rows that a later extraction left without the tap are named as such."""
    path = write_store(dataset, header("a"), views=0, taps={"fire4": 2})
    write_store(dataset, header("a"), views=1)
    assert select("a", views=1).views == 1
    with pytest.raises(StoreError, match=r"none for 90 of 180.*--taps fire4"):
        select("a", views=1, taps=["fire4"])
    assert featcache.load(path, taps="fire4").X.shape == (N, 8)


def test_the_record_says_what_the_columns_are(dataset, train) -> None:
    """One store: its contract; several: each block's, and what they share."""
    write_store(dataset, header("a"), dim=4)
    write_store(dataset, header("b", input_size=64, weights="file"), dim=3)
    one, both = train("a", "a+b")
    assert one.record.backbone == "a"
    assert one.contracts == {one.record.contract_id}
    assert both.record.backbone == "a@32+b@64"
    assert both.run_id.startswith("majority-a@32+b@64-")
    shared = ("weights", "input_size", "store", "contract_id")
    assert [getattr(both.record, key) for key in shared] == [
        "several",
        None,
        None,
        None,
    ]
    assert len(both.contracts) == 2
    assert both.contracts > one.contracts


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(
    dataset, train, tmp_path: Path, wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any fit, with the store and the first image."""
    write_store(dataset, header("a"), views=0)
    path = write_store(dataset, header("b"), views=0)
    (found,) = features.find_sets(dataset, ["b"])
    whole = type(found.stores[0]).slabs

    def slabs(store, name="features"):
        for block in whole(store, name):
            if store.path == path:
                block[3] = wrong
            yield block

    monkeypatch.setattr(type(found.stores[0]), "slabs", slabs)
    image = found.stores[0].keys["path"][3]
    with pytest.raises(StoreError, match=f"of {path.name}.*1 of 90 rows.*{image}"):
        train("a+b", views=0)
    assert not list(tmp_path.glob("reports/chest/runs/*"))


def test_constant_features_are_no_reason_to_fail(dataset, train, monkeypatch) -> None:
    """Columns that never change say nothing, and a head of them knows nothing."""
    write_store(dataset, header("a"), views=0)
    monkeypatch.setattr(Selection, "read", lambda self, out: out.fill(3.0))
    (run,) = train("a", heads=["logreg"], test_size=0, calibrate=False)
    assert not run.failed
    assert run.predictions().p.max() < 0.4


def test_features_are_read_once_and_mapped(dataset, train, monkeypatch) -> None:
    """All heads and folds of a set share one read-only map of one file."""
    write_store(dataset, header("a"))
    write_store(dataset, header("b"))
    reads: list[FeatureSet] = []
    read, beside = Selection.read, local.side_by_side
    monkeypatch.setattr(
        Selection, "read", lambda s, out: reads.append(s) or read(s, out)
    )
    seen: list[np.ndarray] = []

    def side_by_side(function, calls, n_jobs):
        seen.extend(call["X"] for call in calls)
        return beside(function, calls, n_jobs)

    monkeypatch.setattr(local, "side_by_side", side_by_side)
    names = ["majority", "sklearn.naive_bayes:GaussianNB"]
    found = train("a", "a+b", heads=names, folds=3, repeats=2)
    assert len(found) == 8
    assert len(reads) == 2
    assert {id(X) for X in seen} == {id(seen[0]), id(seen[-1])}
    assert all(isinstance(X, np.memmap) and not X.flags.writeable for X in seen)
    assert not Path(str(seen[0].filename)).exists()
    assert train("a", "a+b", heads=names, folds=3, repeats=2)
    assert len(reads) == 2


def test_a_long_sum_still_has_a_file_name(dataset, train) -> None:
    """A run's folder keeps to what file systems allow; the record has it all."""
    names = [f"{'x' * 40}{i}" for i in range(6)]
    for name in names:
        write_store(dataset, header(name), views=0, dim=2)
    (run,) = train("+".join(names))
    assert len(run.run_id) < 200
    assert run.record.backbone == "+".join(f"{name}@32" for name in names)
