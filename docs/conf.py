"""How Sphinx makes the site of these pages: ``make docs``, without network, warnings as errors.

The pages are also read as they are in the repository, so that links are those of files.
"""

import base64
import html
import re
from io import BytesIO
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from matplotlib.mathtext import math_to_image
from pygments.lexers import BashLexer

from lumos import __version__

project = "Lumos"
author = "The Lumos developers"
copyright = author  # noqa: A001 (the name is Sphinx's)
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build"]
highlight_language = "none"  # blocks without a language are what commands print
# Anchors of headings are those that repositories make, so that page.md#heading leads to one place in both.
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # the pages of the repository begin sections where they like

autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False

html_math_renderer = "mathtext"  # the others need LaTeX, or a script of another host
html_theme = "sphinx_book_theme"
html_title = f"Lumos {version}"
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # the sidebar has the search
    "pygments_light_style": "tango",
    "pygments_dark_style": "github-dark",
}
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]


#: Pages whose text is that of a file above this folder.
ABOVE = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}


def setup(app: Any) -> None:  # noqa: ANN401
    """Bring the files above this folder into the site, colour commands, and draw equations."""
    app.connect("source-read", from_above)
    # Commands stand without a prompt; pygments would take them for output.
    app.add_lexer("console", BashLexer)
    app.add_html_math_renderer("mathtext", (draw_equation, None), (draw_equation, None))


def from_above(app: Any, page: str, source: list[str]) -> None:  # noqa: ANN401
    """Take the text of such a page from its file, and let links to these files lead to the pages."""
    if page in ABOVE:
        file = Path(app.srcdir).parent / ABOVE[page]
        app.env.note_dependency(file)
        source[0] = file.read_text(encoding="utf-8").replace("](docs/", "](")
    for name, file_name in ABOVE.items():
        source[0] = re.sub(rf"\]\((?:\.\./)?((?:\.\./)*){file_name}\)", rf"](\1{name}.md)", source[0])


def draw_equation(writer: Any, node: Any) -> None:  # noqa: ANN401
    """Write an equation as a picture that matplotlib draws."""
    picture, text = BytesIO(), " ".join(node.astext().split())
    math_to_image(f"${text}$", picture, format="svg")
    data = base64.b64encode(picture.getvalue()).decode()
    writer.body.append(f'<img class="equation" alt="{html.escape(text)}" src="data:image/svg+xml;base64,{data}">')
    raise SkipNode
