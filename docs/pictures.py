"""Takes the pictures of the report in docs/report.md.

    python docs/pictures.py --network squeezenet1_1_imagenet.keras

Runs a study on generated chest phantoms, with the baselines and a network whose file
is at hand (preprocessing "caffe", 224 px, as SqueezeNet's), writes its report, and
takes its first screen as a reader of a desktop and of a phone sees it, in the light
colours, with Chromium. With --page, takes those of a report that is there. The pictures
are PNGs of at most 64 colours in docs/pictures/.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright import sync_api

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).parent / "pictures"
SCREENS = {"report-desktop": (1280, 900), "report-phone": (390, 844)}
COLOURS = 64


def make_report(home: Path, network: Path) -> Path:
    """A report on phantoms, in an empty folder."""
    data = ("--dataset", "phantoms")
    size = ("--preprocess", "caffe", "--input-size", "224")
    name = network.name.partition(".")[0]
    for words in (
        ("demo", "--data-only", "images", "--images", "360"),
        ("scan", "images/metadata.csv", *data, "--group-by", "patient"),
        ("extract", *data, "-b", "baselines"),
        ("extract", *data, "-b", str(network.resolve()), *size),
        ("train-head", *data, "-b", "baselines", "-H", "logreg"),
        ("train-head", *data, "-b", name, "-H", "logreg", "-H", "svm", "-H", "softmax"),
        ("audit", *data),
        ("compare", *data, "--html", "report.html"),
    ):
        command = [sys.executable, str(ROOT / "cli.py"), *words]
        subprocess.run(command, cwd=home, check=True)
    return home / "report.html"


def take(page: Path) -> None:
    """Writes the pictures of a page."""
    FOLDER.mkdir(exist_ok=True)
    # Chromium's own sandbox needs a user other than root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        for name, (width, height) in SCREENS.items():
            tab = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="light",
                reduced_motion="reduce",
            )
            tab.goto(page.resolve().as_uri())
            picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
            path = FOLDER / f"{name}.png"
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(
                path, optimize=True
            )
            print(path, f"{path.stat().st_size / 1024:.0f} KB")
        browser.close()


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", type=Path, help="a network without its top")
    parser.add_argument("--page", type=Path, help="a report that is there")
    options = parser.parse_args()
    if not (options.network or options.page):
        parser.error("give --network or --page")
    with tempfile.TemporaryDirectory() as home:
        take(options.page or make_report(Path(home), options.network))


if __name__ == "__main__":
    main()
