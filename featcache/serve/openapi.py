"""What can be asked, as OpenAPI 3.1 describes it."""

from importlib import metadata
from typing import Any

from featcache.serve.zones import WORDS as ZONES

_ERRORS = {
    "401": "a token is needed",
    "403": "a page of another site asks",
    "408": "the request took too long",
    "413": "too many bytes, files or pixels",
    "415": "a body of another type",
    "422": "no file, no image, or no such bundle or class",
    "429": "too many images are waiting: see Retry-After",
    "501": "the extra for DICOM objects is not installed",
    "503": "too many requests: see Retry-After",
}
_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "number"}
_ANSWER = {
    "type": "object",
    "properties": {
        "name": _TEXT | {"description": "Of the file, as it was sent."},
        "image_id": _TEXT | {"description": "SHA-256 of the file's bytes."},
        "status": {"enum": ["ok", "refused", "unreadable"]},
        "reason": _TEXT | {"description": "Why the status is not ok."},
        "class": {"type": ["string", "null"]},
        "probabilities": {
            "type": ["object", "null"],
            "additionalProperties": _NUMBER,
            "description": "Calibrated, by class; null without an answer.",
        },
        "zone": {"enum": [*ZONES, None]},
        "zones": {
            "type": "object",
            "description": "By class: where its probability lies.",
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "zone": {"enum": [*ZONES]},
                    "rule_out": _NUMBER,
                    "rule_in": _NUMBER,
                },
            },
        },
        "operating_points": {
            "type": "object",
            "additionalProperties": {"type": "boolean"},
        },
        "refusal_scores": {"type": "object", "additionalProperties": _NUMBER},
        "in_training": {
            "type": "boolean",
            "description": "It is a training image: its answer is no evidence.",
        },
        "similar": {
            "type": "array",
            "description": "The nearest training images, the nearest first.",
            "items": {
                "type": "object",
                "properties": {
                    "image_id": _TEXT,
                    "label": _TEXT,
                    "distance": _NUMBER | {"description": "Cosine distance, 0 to 2."},
                    "picture": {"type": ["string", "null"]},
                },
            },
        },
    },
}
_SCHEMAS = {
    "Answer": _ANSWER,
    "Answers": {
        "type": "object",
        "properties": {
            "bundle": _TEXT,
            "images": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/Answer"},
            },
        },
    },
    "Bundles": {
        "type": "object",
        "properties": {
            "bundles": {"type": "array", "items": {"type": "object"}},
            "limits": {"type": "object"},
            "logs": {"type": "boolean", "description": "Whether answers are logged."},
        },
    },
    "Map": {
        "type": "object",
        "properties": {
            "class": {"type": ["string", "null"]},
            "reason": _TEXT | {"description": "Why there is no map."},
            "score": _NUMBER | {"description": "Margin before calibration."},
            "base": _NUMBER | {"description": "The part of it without a place."},
            "map_sum": _NUMBER | {"description": "score - base"},
            "even_share": _NUMBER,
            "method": _TEXT,
            "overlay": _TEXT | {"description": "A PNG as a data: address."},
        },
    },
    "Error": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {"problem": _TEXT, "fix": _TEXT},
                "required": ["problem", "fix"],
            }
        },
    },
}
_BUNDLE = {
    "name": "bundle",
    "in": "query",
    "required": False,
    "description": "Name of the bundle; needed where several are served.",
    "schema": _TEXT,
}
_CLASS = _BUNDLE | {
    "name": "class",
    "description": "Which class to explain; by default the most probable.",
}


def _content(kind: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    binary = {"type": "string", "contentEncoding": "binary"}
    return {"content": {kind: {"schema": schema or binary}}}


def _of(name: str) -> dict[str, Any]:
    return _content("application/json", {"$ref": f"#/components/schemas/{name}"})


def _body(*, several: bool) -> dict[str, Any]:
    binary: dict[str, Any] = {"type": "string", "contentMediaType": "image/*"}
    field = {"type": "array", "items": binary} if several else binary
    form = {"type": "object", "properties": {"file": field}, "required": ["file"]}
    kinds = ("application/octet-stream", "application/dicom", "image/*")
    content: dict[str, Any] = {kind: {"schema": {}} for kind in kinds}
    return {
        "required": True,
        "content": {"multipart/form-data": {"schema": form}} | content,
    }


def _operation(
    summary: str, result: dict[str, Any], *parameters: dict[str, Any]
) -> dict[str, Any]:
    responses = {"200": {"description": "Done."} | result} | {
        status: {"description": text[0].upper() + text[1:] + "."} | _of("Error")
        for status, text in _ERRORS.items()
    }
    return {
        "summary": summary,
        "parameters": list(parameters),
        "responses": responses,
    }


def _post(
    summary: str,
    result: dict[str, Any],
    *parameters: dict[str, Any],
    several: bool = False,
) -> dict[str, Any]:
    body = {"requestBody": _body(several=several)}
    return {"post": _operation(summary, result, *parameters) | body}


def document() -> dict[str, Any]:
    """The document that ``GET /openapi.json`` gives."""
    image_id = _BUNDLE | {"name": "image_id", "in": "path", "required": True}
    png, plain = _content("image/png"), _content("text/plain", _TEXT)
    json = _content("application/json", {"type": "object"})
    dicom = _content("application/dicom")
    paths = {
        "/predict": _post(
            "An answer for each file.", _of("Answers"), _BUNDLE, several=True
        ),
        "/picture": _post("The pixels of a file as a PNG.", png),
        "/explain": _post(
            "Contours of the evidence for a class, which adds up to its score; or why "
            "there are none.",
            _of("Map"),
            _BUNDLE,
            _CLASS,
        ),
        "/result": _post("The image with its answer as a PNG.", png, _BUNDLE),
        "/dicom/sc": _post("The same as a secondary capture.", dicom, _BUNDLE),
        "/dicom/sr": _post(
            "The answer as a structured report (TID 1500).", dicom, _BUNDLE
        ),
        "/bundles": {"get": _operation("What is served.", _of("Bundles"))},
        "/health": {"get": _operation("That it answers.", json)},
        "/metrics": {"get": _operation("Metrics for Prometheus.", plain)},
        "/images/{image_id}": {
            "get": _operation("A training image, small.", png, image_id)
        },
        "/openapi.json": {"get": _operation("This document.", json)},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "featcache serve",
            "version": metadata.version("featcache"),
            "description": "Answers of trained models. Research only, not for "
            "diagnosis.",
        },
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }
