"""Takes the pictures in docs/: of the report, `serve`, `review` and the notebook.

    python docs/pictures.py [--notebook squeezenet1_1_imagenet.keras]

Runs a study on generated chest phantoms, with the baselines and the network of
`featcache demo`, and takes what a reader sees on a desktop and on a phone, in the light
colours, with Chromium. The notebook is about weights of ImageNet, so its pictures are
taken only with a file of these (preprocessing "caffe", 224 px, as SqueezeNet's). The
pictures are PNGs of at most 64 colours, in docs/pictures/.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pandas as pd
from PIL import Image
from playwright import sync_api

from featcache.study.demo import NETWORK

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).parent / "pictures"
SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}
DATA = ("--dataset", "phantoms")


def run(home: Path, *words: str) -> None:
    """Runs a command of featcache in a folder."""
    subprocess.run([sys.executable, str(ROOT / "cli.py"), *words], cwd=home, check=True)


def study(home: Path) -> None:
    """Runs on phantoms, their report and a bundle, in an empty folder."""
    run(home, "demo", "--data-only", "images", "--images", "360")
    run(home, "scan", "images/metadata.csv", *DATA, "--group-by", "patient")
    run(home, "extract", *DATA, "-b", "baselines")
    run(home, "extract", *DATA, "-b", str(NETWORK))
    run(home, "train-head", *DATA, "-b", "baselines", "-H", "logreg")
    heads = ("-H", "logreg", "-H", "svm", "-H", "softmax")
    run(home, "train-head", *DATA, "-b", NETWORK.stem, *heads)
    run(home, "audit", *DATA)
    run(home, "compare", *DATA, "--html", "report.html")
    head = f"logreg-{NETWORK.stem}"  # svm has no heat map
    run(home, "bundle", "make", head, *DATA, "-o", "phantoms.fcb")


@contextmanager
def served(home: Path, *words: str) -> Iterator[str]:
    """The address of a page while a command serves it."""
    command = [sys.executable, str(ROOT / "cli.py"), *words, "--port", "0"]
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout
        try:
            yield one.stdout.readline().split()[-1]
        finally:
            one.terminate()


def take(tab: Any, name: str) -> None:
    """Writes what a tab shows."""
    picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    path = FOLDER / f"{name}.png"
    picture.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path, f"{path.stat().st_size / 1024:.0f} KB")


def take_report(tab: Any, home: Path, screen: str) -> None:
    """The first screen of the report."""
    tab.goto((home / "report.html").resolve().as_uri())
    take(tab, f"report-{screen}")


def take_answer(tab: Any, home: Path, screen: str, address: str) -> None:
    """An answer of `serve` for images of the test set, with its heat map."""
    tab.goto(address)
    predictions = pd.read_csv(next(home.glob("reports/*/runs/*/predictions.csv")))
    of_test = predictions.loc[predictions["split"] == "test", "image_id"]
    manifest = pd.read_csv(home / "cache" / "phantoms" / "manifest.csv")
    paths = manifest.loc[manifest["image_id"].isin(of_test), "path"].sort_values()
    images = [home / "images" / path for path in paths.iloc[:3]]
    tab.set_input_files("input[type=file]", images)
    tab.wait_for_selector("text=Most probable")
    tab.keyboard.press("h")
    tab.wait_for_selector("text=Evidence for")
    take(tab, f"serve-{screen}")


def take_review(tab: Any, screen: str, address: str) -> None:
    """An image of `review`, before the answer and after it."""
    tab.goto(address)
    tab.wait_for_selector("button:enabled >> text=COVID")  # once the image is there
    take(tab, f"review-{screen}")
    if screen == "desktop":
        tab.keyboard.press("1")
        tab.wait_for_selector("text=Why it is here")
        take(tab, "review-revealed")
        tab.keyboard.press("u")


def executed(home: Path, network: Path) -> list[str]:
    """What the cells of the notebook show, as HTML; run with the network at hand."""
    book = nbformat.read(ROOT / "examples/quickstart.ipynb", 4)
    for cell in book.cells:
        path = network.resolve().as_posix()
        options = ":preprocess=caffe,size=224" if "data.extract" in cell.source else ""
        other = f'"{path}{options}"'
        if "Embedder" in cell.source:
            other += ', preprocess="caffe", input_size=224'
        cell.source = cell.source.replace('"densenet121"', other)
    resources = {"metadata": {"path": str(home)}}
    nbclient.NotebookClient(book, timeout=600, resources=resources).execute()
    return [
        output.data["text/html"].replace(f"{home}/", "")
        for cell in book.cells
        for output in cell.get("outputs", [])
        if output.output_type == "execute_result" and "text/html" in output.data
    ]


def take_notebook(tab: Any, shown: list[str]) -> None:
    """What each cell shows."""
    tab.set_viewport_size({"width": 900, "height": 700})
    for number, html in enumerate(shown, 1):
        tab.set_content(f'<div id="cell" style="padding: 1px">{html}</div>')
        take(tab.locator("#cell"), f"notebook-{number}")


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--notebook", type=Path, help="its network, without its top")
    network = parser.parse_args().notebook
    FOLDER.mkdir(exist_ok=True)
    # Chromium's own sandbox needs a user other than root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_api.sync_playwright() as playwright,
    ):
        home = Path(folder)
        study(home)
        answers = ("serve", "phantoms.fcb", "--cache", "cache")
        queue = ("review", *DATA, "--reader", "ann", "--queue", "errors")
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        with served(home, *answers) as page, served(home, *queue) as reviewed:
            for screen, (width, height) in SCREENS.items():
                size: Any = {"width": width, "height": height}
                tab = browser.new_page(viewport=size, reduced_motion="reduce")
                take_report(tab, home, screen)
                take_answer(tab, home, screen, page)
                take_review(tab, screen, reviewed)
            if network:
                (notebook := home / "notebook").mkdir()
                take_notebook(browser.new_page(), executed(notebook, network))
        browser.close()


if __name__ == "__main__":
    main()
