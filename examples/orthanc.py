"""Sends each new series of an Orthanc to `featcache serve`, and stores what it answers.

python examples/orthanc.py http://127.0.0.1:8042 http://127.0.0.1:8000 [BUNDLE]

A series is sent when it is stable: Orthanc says so some time after its last image
(`StableAge`, 60 seconds). Each image gives a structured report and a secondary
capture, which join its study. The number of the last change is kept in
orthanc-last.json, so that the script goes on where it was stopped. For servers with
passwords, $ORTHANC_AUTHORIZATION is the header Authorization (such as "Basic ..."),
and $FEATCACHE_TOKEN the token.
"""

import json
import os
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

LAST, EVERY = Path("orthanc-last.json"), 5.0  # seconds between two looks
OWN = "featcache"  # the manufacturer of what this script stored


def ask(url: str, authorization: str | None, data: bytes | None = None) -> bytes:
    """What a server answers: to a POST with data, else to a GET."""
    headers = {"Content-Type": "application/dicom"} if data else {}
    if authorization:
        headers["Authorization"] = authorization
    with urlopen(Request(url, data, headers), timeout=120) as answer:
        return answer.read()


def main(
    orthanc: str, featcache: str, bundle: str = "", looks: float = float("inf")
) -> None:
    """Looks again and again; stops after so many looks."""
    target = f"{featcache}/dicom/{{kind}}" + (f"?bundle={bundle}" if bundle else "")
    password, token = os.getenv("ORTHANC_AUTHORIZATION"), os.getenv("FEATCACHE_TOKEN")
    bearer = f"Bearer {token}" if token else None
    while looks > 0:
        last = json.loads(LAST.read_text()) if LAST.exists() else 0
        changes = json.loads(ask(f"{orthanc}/changes?since={last}&limit=100", password))
        for change in changes["Changes"]:
            if change["ChangeType"] == "StableSeries":
                series = json.loads(ask(orthanc + change["Path"], password))
                if series["MainDicomTags"].get("Manufacturer") != OWN:
                    answer_series(orthanc, target, series, password, bearer)
            LAST.write_text(json.dumps(change["Seq"]))
        looks -= 1
        if changes["Done"] and looks > 0:
            time.sleep(EVERY)


def answer_series(
    orthanc: str, target: str, series: dict, password: str | None, bearer: str | None
) -> None:
    """Stores the report and the capture of each image; tells what has no answer."""
    for instance in series["Instances"]:
        image = ask(f"{orthanc}/instances/{instance}/file", password)
        try:
            for kind in ("sr", "sc"):
                made = ask(target.format(kind=kind), bearer, image)
                ask(f"{orthanc}/instances", password, made)
            print(f"{instance}: answered")
        except HTTPError as error:  # such as a report or a film of several frames
            print(f"{instance}: {error.read().decode()}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
