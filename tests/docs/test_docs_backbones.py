"""docs/reference/descriptors.md against the code."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from documents import read

from featcache.backbones import descriptor
from featcache.backbones.descriptor import Descriptor

TEXT = read("docs/reference/descriptors.md")
SECTION = TEXT.split("## The descriptor")[1].split("## The canary")[0]


def test_every_key_of_a_descriptor_is_documented() -> None:
    """The table has the fields of the dataclass, and no others."""
    cells = re.findall(r"^\| (`.+?) \|", SECTION, re.MULTILINE)
    keys = [key for cell in cells for key in re.findall("`([a-z_]+)`", cell)]
    assert sorted(keys) == sorted(field.name for field in fields(Descriptor))


def test_keys_of_graphs_are_marked() -> None:
    """What .keras files do not take is said of exactly these keys."""
    pattern = r"^\| `([a-z_]+)` \|[^|]+not for `.keras`"
    marked = re.findall(pattern, SECTION, re.MULTILINE)
    assert sorted(marked) == sorted(descriptor._OF_GRAPHS)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_the_documented_descriptor_can_be_read(suffix: str, tmp_path: Path) -> None:
    """The example is a descriptor."""
    (example,) = re.findall(r"```json\n(.+?)```", SECTION, re.DOTALL)
    (tmp_path / "net.json").write_text(example)
    own = descriptor.read(tmp_path / f"net{suffix}")
    assert own.prefix_tokens == json.loads(example)["prefix_tokens"]
