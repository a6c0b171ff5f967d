"""Answers as DICOM objects: a secondary capture, and a structured report (TID 1500).

Both belong to the study of the image that was sent. An image that is not DICOM has
none: it gets one made up from its digest, the same each time.
"""

import io
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from featcache.dataset.images import dicom
from featcache.serve.drawing import RESEARCH
from featcache.serve.problems import Problem

if TYPE_CHECKING:
    from pydicom import Dataset

_MAKER = "featcache"
_SCHEME = "99FEATCACHE"  # of our own codes
_SC_CLASS = "1.2.840.10008.5.1.4.1.1.7"
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID"),
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
_LONGEST = 64  # letters of the meaning of a code


def require_highdicom() -> None:
    """Refuses where the extra is not installed.

    Raises:
        Problem: It is not.
    """
    from importlib.util import find_spec

    if find_spec("highdicom") is None:
        raise Problem(
            501, "DICOM objects need highdicom", "Run: pip install 'featcache[dicom]'."
        )


def capture(data: bytes, image_id: str, sheet: Image.Image) -> bytes:
    """A secondary capture of a sheet.

    Args:
        data: The file that was sent.
        image_id: Its digest.
        sheet: RGB.

    Raises:
        Problem: A DICOM file without a study.
    """
    require_highdicom()
    from highdicom.sc import SCImage
    from pydicom.uid import generate_uid

    source = _source(data, image_id)
    uid = generate_uid()
    if not dicom.is_dicom(data):
        uid = source.SOPInstanceUID  # which the report refers to
    made = SCImage.from_ref_dataset(
        source,
        np.asarray(sheet),
        "RGB",
        8,
        "PATIENT",
        series_instance_uid=generate_uid(),
        series_number=9001,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer=_MAKER,
        patient_orientation=("L", "F"),  # which cannot be left out here, and is below
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )
    made["PatientOrientation"].value = source.get("PatientOrientation") or ""
    if part := source.get("BodyPartExamined"):
        made.BodyPartExamined = part
    if "Laterality" in source or not part:  # which a chest, for one, may not have
        made.Laterality = source.get("Laterality") or ""
    if not dicom.is_dicom(data):
        made.SeriesInstanceUID = source.SeriesInstanceUID
    return _written(made)


def report(data: bytes, answer: Mapping[str, Any], facts: Mapping[str, Any]) -> bytes:
    """A structured report of an answer, by the template TID 1500.

    Args:
        data: The file that was sent.
        answer: As ``POST /predict`` gives it.
        facts: Of the bundle, as ``GET /bundles`` gives them.

    Raises:
        Problem: A DICOM file without a study.
    """
    require_highdicom()
    from highdicom import sr
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code
    from pydicom.uid import generate_uid

    source = _source(data, str(answer["image_id"]))
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[_MAKER, str(facts["sha256"])]),
        name=str(facts["name"])[:_LONGEST],
        manufacturer_name=_MAKER,
        model_name=str(facts["run"])[:_LONGEST],
    )
    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(codes.DCM.Device, device)
    )
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(generate_uid(), "image"),
        algorithm_id=sr.AlgorithmIdentification(
            str(facts["run"])[:_LONGEST],
            str(facts["sha256"])[:16],
            parameters=[RESEARCH],
        ),
        measurements=_probabilities(answer),
        qualitative_evaluations=_evaluations(answer),
        source_images=[
            sr.SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID)
        ],
    )
    content = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=Code("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    made = sr.EnhancedSR(
        evidence=[source],
        content=content[0],
        series_instance_uid=generate_uid(),
        series_number=9002,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=_MAKER,
    )
    return _written(made)


def _probabilities(answer: Mapping[str, Any]) -> list[Any]:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    return [
        sr.Measurement(
            name=_code(f"p{number}", f"Probability of {name}"),
            value=round(p, 6),
            unit=codes.UCUM.NoUnits,
        )
        for number, (name, p) in enumerate((answer["probabilities"] or {}).items())
    ]


def _evaluations(answer: Mapping[str, Any]) -> list[Any]:
    from highdicom import sr

    texts = {
        "status": ("Status", answer["status"]),
        "reason": ("Why it is not answered", answer["reason"]),
        "class": ("Most probable class", answer["class"]),
        "zone": ("Zone of that class", answer["zone"]),
        "use": ("Intended use", RESEARCH),
    }
    return [
        sr.QualitativeEvaluation(_code(key, name), _code(f"{key}-value", str(value)))
        for key, (name, value) in texts.items()
        if value
    ]


def _code(value: str, meaning: str) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value[:16], _SCHEME, meaning[:_LONGEST])


def _source(data: bytes, image_id: str) -> "Dataset":
    """The header that was sent, or one that is made up."""
    from pydicom import Dataset, dcmread
    from pydicom.uid import generate_uid

    if dicom.is_dicom(data):
        source = dcmread(io.BytesIO(data), stop_before_pixels=True)
        if missing := [name for name in _NEEDED if not source.get(name)]:
            text = f"the DICOM file has no {missing[0]}"
            raise Problem(422, text, "Send a file of a study.")
    else:
        source = Dataset()
        source.SOPClassUID = _SC_CLASS
        for name in _NEEDED[1:]:
            setattr(source, name, generate_uid(entropy_srcs=[_MAKER, name, image_id]))
        source.Modality = "OT"
    for name in _EMPTY:
        if name not in source:
            setattr(source, name, "")
    return source


def _written(made: "Dataset") -> bytes:
    made.SeriesDescription = RESEARCH
    made.ContentDate = f"{datetime.now():%Y%m%d}"
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
