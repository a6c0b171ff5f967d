"""Golden cases: generated X-rays whose answers a bundle carries."""

import hashlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from featcache.core.versions import installed_versions
from featcache.dataset import images, phantom
from featcache.deploy.model import Candidate, Model, Outputs

_SIDE = 320
_PEOPLE = 1_000_000  # patients' numbers that no generated dataset has


def files() -> dict[str, bytes]:
    """Eight pictures as files: 8-bit PNG, 16-bit PNG, JPEG, colour, and DICOM."""
    cases = {}
    for number in range(8):
        label = phantom.CLASSES[number % len(phantom.CLASSES)]
        grey = phantom.draw(label, _PEOPLE + number, size=_SIDE).image
        if number == 5:
            cases["case-5.png"] = _png(grey.astype(np.uint16) * 257)
        elif number == 6:
            cases["case-6.jpg"] = _encoded(Image.fromarray(grey), "JPEG", quality=90)
        elif number == 7 and installed_versions(["pydicom"]):
            cases["case-7.dcm"] = _dicom(grey)
        elif number == 4:
            cases["case-4.png"] = _png(np.stack([grey, grey, grey // 2], axis=2))
        else:
            cases[f"case-{number}.png"] = _png(grey)
    return cases


def _png(pixels: np.ndarray) -> bytes:
    return _encoded(Image.fromarray(pixels), "PNG")


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _dicom(grey: np.ndarray) -> bytes:
    """A secondary capture of 12 bits with a window, as an archive would hold it."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    uid = "1.2.826.0.1.3680043.8.498.1"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, uid
    dataset.Modality, dataset.PatientID = "OT", "generated"
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = grey.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.PixelData = (grey.astype("<u2") * 16).tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def candidate(data: bytes) -> Candidate:
    """A file as an image to answer for.

    Raises:
        UnreadableImageError: It cannot be decoded here.
    """
    return Candidate(images.content_id(data), images.read(data))


def pixels_digest(one: Candidate) -> str:
    """SHA-256 over the size, the mode and the decoded pixels."""
    image = one.picture.image
    beginning = f"{image.width}x{image.height} {image.mode} ".encode()
    return hashlib.sha256(beginning + image.tobytes()).hexdigest()


def answers(model: Model, candidates: Sequence[Candidate]) -> dict[str, np.ndarray]:
    """What a model makes of the cases, stage by stage, by the name of the array."""
    embedded = model.embed(candidates)
    said = model.probabilities(embedded)
    return {**named(embedded), "raw": said.raw, "answer": said.p}


def named(embedded: Sequence[Outputs]) -> dict[str, np.ndarray]:
    """Outputs of all networks, by network and number of the output."""
    return {
        f"features-{number}-{column}": values
        for number, outputs in enumerate(embedded)
        for column, values in enumerate(outputs.values())
    }


def restored(model: Model, arrays: Mapping[str, np.ndarray]) -> list[Outputs]:
    """The outputs of all networks that `named` has given names."""
    return [
        {
            name: arrays[f"features-{number}-{column}"]
            for column, name in enumerate(network.outputs)
        }
        for number, network in enumerate(model.networks)
    ]


def npy_bytes(array: np.ndarray) -> bytes:
    """An array as a ``.npy`` file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
