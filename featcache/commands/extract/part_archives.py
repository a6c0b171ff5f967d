"""A finished part as one file, which is how it travels."""

import tarfile
from pathlib import Path

from featcache.commands.extract.part_files import RECORD


def remove_part(folder: Path) -> None:
    """Removes the folder of a part."""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def pack(folder: Path, path: Path) -> None:
    """Writes the files of a part as one, without their owner and times."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        clean = tarfile.TarInfo(info.name)
        clean.size = info.size
        return clean

    with tarfile.open(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, file.name, filter=plain)


def unpack(path: Path, folder: Path, stores: set[str]) -> None:
    """Unpacks what `pack` wrote.

    Raises:
        ValueError: It is no such file, or has others in it.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                is_plain = member.isreg() and not member.issparse()
                if not is_plain or member.name not in {RECORD, *stores}:
                    raise ValueError(f"{member.name[:40]!r} in it")
                archive.extract(member, folder, filter="data")
    except tarfile.TarError as error:
        raise ValueError(f"cut short ({error})") from error
