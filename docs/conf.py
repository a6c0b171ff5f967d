"""Builds the documentation as a site: `make docs`, into build/docs.

The pages are plain Markdown, which reads well without a site, too. A page of `INDEXES`
has the pages it links to as its chapters, so it needs no directive for that.
"""

import inspect
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

project = "featcache"
author = project_copyright = "The featcache authors"
version = release = metadata.version("featcache")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
nitpicky = True
# Types of other libraries, and fields of records that are not on the page.
nitpick_ignore_regex = [
    ("py:.*", r"(?!featcache\.).*"),
    ("py:class", r"featcache\.\w+\..*"),
]
highlight_language = "text"  # of blocks that name none
myst_heading_anchors = 4  # as GitHub names them

autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"featcache {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

TOCTREE = "\n```{{toctree}}\n{}\n\n{}\n```\n"
INDEXES = ("index", "reference/commands")


def add_chapters(app: Sphinx, page: str, text: list[str]) -> None:
    """Appends what each section of an index lists, as its chapters."""
    if page == "decisions/README":
        text[0] += TOCTREE.format(":glob:", "0*")
    for section in re.split(r"(?m)^## ", text[0]) if page in INDEXES else ():
        links = re.findall(r"(?m)^[-|] \[.*?\]\(([\w/-]+)\.(?:md|rst)\)", section)
        caption = f":hidden:\n:caption: {section.splitlines()[0].strip('# ')}"
        if links:
            text[0] += TOCTREE.format(caption, "\n".join(dict.fromkeys(links)))


def unlink_outside(app: Sphinx, page: str, text: list[str]) -> None:
    """Leaves the text of links to pages and folders that are not part of the site."""
    source = Path(app.srcdir)

    def kept(link: re.Match[str]) -> str:
        target = (source / page).parent / link[2].partition("#")[0]
        outside = not target.resolve().is_relative_to(source)
        return link[1] if outside and target.suffix in ("", ".md") else link[0]

    text[0] = re.sub(r"\[([^]]+)\]\((\.\./[^)]+)\)", kept, text[0])


def add_inherited(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Appends the attributes that a class has from another of the package."""
    if what == "property":
        lines.insert(0, "")  # Napoleon takes what precedes a colon in line 1 for a type
    for base in value.__mro__[1:] if what == "class" else ():
        if base.__module__.startswith("featcache."):
            _, title, attributes = inspect.getdoc(base).partition("\nAttributes:\n")  # type: ignore[union-attr]
            lines += [*title.splitlines(), *attributes.splitlines(), ""]


def resolve_short_name(
    app: Sphinx, env: Any, node: Any, text: nodes.Node
) -> nodes.Node | None:
    """Links a type to the one documented object of its name, wherever it is defined."""
    name = node.get("reftarget", "").rpartition(".")[2]
    known = env.get_domain("py").objects.items()
    same = {o.node_id: o for full, o in known if full.rpartition(".")[2] == name}
    if node.get("refdomain") != "py" or len(same) != 1:
        return None
    (entry,) = same.values()
    page = node["refdoc"]
    return make_refnode(app.builder, page, entry.docname, entry.node_id, text)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_chapters)
    app.connect("source-read", unlink_outside)
    app.connect("autodoc-process-docstring", add_inherited, priority=400)
    app.connect("missing-reference", resolve_short_name)
