"""The comparison with other tools: tables are whole, featcache's column is true."""

import csv
import importlib
import re

import pytest
from documents import COMMANDS, ROOT, read, rows

PAGE = read("docs/explanations/comparison.md")


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, without the line below its head."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    head, rule, *body = rows(section)
    assert set("".join(rule)) <= set("-: ")
    return [head, *body]


FACTS, WHERE = table("Row by row"), table("Where to check")
PROOFS = [
    (fact, proof)
    for fact, cell, *_ in WHERE[1:]
    for proof in re.findall("`(.+?)`", cell)
]


@pytest.mark.parametrize("heading", ["In short", "Row by row", "Where to check"])
def test_rows_have_a_cell_for_each_tool(heading: str) -> None:
    """No cell is lacking, and none is empty except the corner."""
    head, *body = table(heading)
    assert head == FACTS[0]
    assert {len(row) for row in body} == {len(head)}
    assert all(cell for row in body for cell in row)


def test_each_fact_has_its_proof() -> None:
    """The last table has the rows of the one before, in its order."""
    assert [row[0] for row in FACTS] == [row[0] for row in WHERE]
    assert {fact for fact, _ in PROOFS} == {row[0] for row in FACTS[1:]}


def test_what_is_in_short_is_a_row() -> None:
    """Except for the row that sums up what featcache has none of."""
    short = {row[0] for row in table("In short")[1:]}
    beyond = short - {row[0] for row in FACTS}
    assert beyond == {"Whole slides, 3D volumes, segmentation"}


def sources() -> str:
    """All Python of the package, in one text."""
    files = sorted((ROOT / "featcache").rglob("*.py"))
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def is_command(line: str) -> bool:
    """Whether a line names a command, and only options that it has."""
    words, options = line.split()[1:], re.findall(r"--[\w-]+", line)
    command = COMMANDS[" ".join(word for word in words if word not in options)]
    return set(options) <= {name for p in command.params for name in p.opts}


@pytest.mark.parametrize(("fact", "proof"), PROOFS)
def test_proofs_of_featcache_exist(fact: str, proof: str) -> None:
    """A command with its options, a test, a file; or a word that no module has."""
    if proof.startswith("/"):
        assert not re.search(proof.strip("/"), sources(), re.IGNORECASE), fact
    elif proof.startswith("featcache "):
        assert is_command(proof)
    else:
        path, _, name = proof.partition("::")
        assert (ROOT / path).is_file()
        assert f"def {name}(" in read(path) or not name


def test_what_is_called_none_is_searched_for() -> None:
    """Where featcache has nothing, words of it are searched for in its modules."""
    missing = [row[0] for row in FACTS[1:] if row[1].startswith("none")]
    assert len(missing) == 4
    assert all(any(f == m and p[0] == "/" for f, p in PROOFS) for m in missing)


def test_extraction_is_measured_on_processors_alone() -> None:
    """As the page says; once a GPU was measured, it has to say how fast it is."""
    with (ROOT / "benchmarks/extract.csv").open(encoding="utf-8") as file:
        machines = {row["machine"] for row in csv.DictReader(file)}
    assert machines
    assert not any(re.search("nvidia|gpu", m, re.I) for m in machines)


def test_parts_for_hand_written_code_exist() -> None:
    """Functions of scikit-learn, SciPy and joblib can be imported."""
    names = [n for row in WHERE[1:] for n in re.findall("`(.+?)`", row[-1])]
    named = [
        n.rpartition(".") for n in names if re.match(r"(sklearn|scipy|joblib)\.", n)
    ]
    assert named
    assert all(hasattr(importlib.import_module(m), name) for m, _, name in named)
