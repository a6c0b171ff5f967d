"""The files of a request, in memory: nothing of an upload touches a disk."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from featcache.dataset.sources.inputs import InputImage, escaped
from featcache.serve.problems import Problem

FIELD = "file"
_LONGEST_NAME = 200
_RAW = ("application/octet-stream", "application/dicom")
_FIX = (
    "Send files as multipart/form-data in the field file (curl -F file=@image.png), or "
    "one as it is with its own type (image/png, application/dicom)."
)


@dataclass(frozen=True)
class Upload:
    """A file.

    Attributes:
        name: As the client calls it; it is never opened.
        data: Its bytes.
    """

    name: str
    data: bytes

    @property
    def image(self) -> InputImage:
        """As the library takes it."""
        return InputImage(self.name, lambda: self.data)


class _InMemory(MultiPartParser):
    spool_max_size = 0  # which a file never reaches


async def files_of(request: Request, most: int) -> list[Upload]:
    """The files that a request carries.

    Args:
        request: With a form, or with one file as its body.
        most: Files in a form.

    Raises:
        Problem: Too many files (413), another type (415), or none (422).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        files = await _of_form(request, most)
    elif kind in _RAW or kind.startswith("image/"):
        files = [Upload("", await request.body())]
    else:
        raise Problem(415, f"a body of the type {escaped(kind[:60]) or 'none'}", _FIX)
    if not files or not any(file.data for file in files):
        raise Problem(422, "no file in the request", _FIX)
    return files


async def file_of(request: Request) -> Upload:
    """The only file of a request.

    Raises:
        Problem: There are several, or see `files_of`.
    """
    return (await files_of(request, 1))[0]


async def _of_form(request: Request, most: int) -> list[Upload]:
    parser = _InMemory(request.headers, request.stream(), max_files=most, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            text = f"more than {most} files in one request"
            raise Problem(413, text, "Send them in several requests.") from error
        raise Problem(422, "a form that cannot be read", _FIX) from error
    try:
        return [
            Upload(_name(item.filename or ""), await item.read())
            for name, item in form.multi_items()
            if name == FIELD and isinstance(item, UploadFile)
        ]
    finally:
        await form.close()


def _name(text: str) -> str:
    return escaped(PurePosixPath(text.replace("\\", "/")).name)[:_LONGEST_NAME]
