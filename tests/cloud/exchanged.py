"""What tests of parts at URLs share: objects in memory, and ways to spoil them."""

import io
import json
import tarfile
from typing import Any

from featcache.core import checked
from featcache.dataset.urls import location

AT = location("memory://work/shared")


def memory() -> dict[str, Any]:
    """What is at memory://, by path."""
    from fsspec.implementations.memory import MemoryFileSystem

    return MemoryFileSystem.store


def object_at(ending: str) -> str:
    """The path of the only object whose name ends so."""
    [path] = [path for path in memory() if path.endswith(ending)]
    return path


def write(path: str, data: bytes) -> None:
    """Puts other bytes where an object is."""
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem().pipe_file(path, data)


def spoiled(path: str, spoil: str) -> bytes:
    """The bytes of a part that is no longer one."""
    data: bytes = memory()[path].getvalue()
    if spoil in ("truncated", "empty", "no tar"):
        cut = {"truncated": data[: len(data) // 2], "empty": b"", "no tar": b"x" * 999}
        return cut[spoil]
    with tarfile.open(fileobj=io.BytesIO(data)) as old, io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as new:
            for member in old:
                inner = old.extractfile(member)
                assert inner
                text = inner.read()
                if spoil == "no record" and member.name == "part.json":
                    continue
                if spoil == "another plan" and member.name == "part.json":
                    record = json.loads(text) | {"plan_id": "0" * 64}
                    text = json.dumps(checked.with_digest(record)).encode()
                if spoil == "outside":
                    member.name = f"../{member.name}"
                if spoil == "a link":
                    member.type, member.linkname, text = tarfile.SYMTYPE, "/etc", b""
                member.size = len(text)
                new.addfile(member, io.BytesIO(text))
        return file.getvalue()
