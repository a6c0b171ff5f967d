"""Pictures as DICOM files."""

import io
from typing import Any

import numpy as np

from featcache.dataset import images

NAME = "Doe^Jane"


def of_dicom(data: bytes, **elements: Any) -> bytes:
    """The same picture as a DICOM file of a patient with a name."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    pixels = np.asarray(images.decode(data))
    made = pydicom.Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(made, name, generate_uid())
    made.PatientName, made.PatientID, made.Modality = NAME, "4711", "DX"
    made.Rows, made.Columns = pixels.shape
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation, made.SamplesPerPixel = 7, 0, 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(made, name, value)
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
