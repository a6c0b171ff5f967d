"""Options that name a file: nothing is lost by them."""

from pathlib import Path

import pytest

from featcache.core.output_file import check_output
from featcache.errors import UsageError

RECORDS = (
    "cache/x/manifest.csv",
    "cache/x/dataset.json",
    "cache/x/splits-a.json",
    "cache/x/features/a.h5",
    "cache/x/features/a.h5.damaged2",
    "cache/x/features/a.parts/000000.h5",
    "cache/openvino/a.xml",
    "reports/x/runs/1/run.json",
    "reports/x/runs/1/predictions.csv",
    "reports/x/audit.json",
    "reports/x/audit/FC003.csv",
    "reports/x/explain/1/maps.npz",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Records of all kinds, which all hold the same text."""
    for name in RECORDS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("record")
    return tmp_path


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_never_replaced(folder: Path, name: str) -> None:
    """Not by force, and not through a link."""
    link = folder / "link.csv"
    link.symlink_to(folder / name)
    for path in (folder / name, link):
        with pytest.raises(UsageError, match="a record of featcache"):
            check_output(path, "to", force=True)


def test_no_file_makes_a_run_of_a_folder(folder: Path) -> None:
    """A new run.json below runs is refused; one elsewhere is a file of the user's."""
    with pytest.raises(UsageError, match="a record of featcache"):
        check_output(folder / "reports/x/runs/new/run.json", "to")
    check_output(folder / "mine/run.json", "to")


def test_a_file_is_replaced_by_force(folder: Path) -> None:
    """A file of the user's own, beside records as well; a new one needs none."""
    for path in (folder / "a.csv", folder / "cache/x/export.csv"):
        check_output(path, "to")
        path.write_text("mine")
        with pytest.raises(UsageError, match=r"`to` a new file.*force=True"):
            check_output(path, "to")
        check_output(path, "to", force=True)


def test_a_link_to_nowhere_is_a_file(tmp_path: Path) -> None:
    """Who made it meant something by it."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    with pytest.raises(UsageError):
        check_output(tmp_path / "a", "to")


def test_what_bears_the_mark_is_replaced(tmp_path: Path) -> None:
    """A file that featcache wrote itself, as its beginning says."""
    path = tmp_path / "report.html"
    path.write_text("<html>MARK")
    check_output(path, "html", mark="MARK")
    path.write_text(4096 * " " + "MARK")
    with pytest.raises(UsageError):
        check_output(path, "html", mark="MARK")
