"""The site of the pages: made without a warning, every link in it leads somewhere, nothing in it needs a network."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import lumos
import lumos.pdf

DOCS = Path(__file__).parents[2] / "docs"
#: Pages that Sphinx makes by itself.
OWN = {"genindex.html", "search.html", "py-modindex.html"}


class Page(HTMLParser):
    """The links, anchors, resources and headings of one page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.resources, self.images_without_text = [], set(), [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors.add(found.get("id"))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "img":
            self.images_without_text += not found.get("alt")
        if tag in {"script", "img", "iframe"} and found.get("src"):
            self.resources.append(found["src"])
        elif tag == "link" and found.get("rel") in {"stylesheet", "preload", "icon"}:
            self.resources.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-q", "-d", str(folder / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(folder / "html")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site):
    made = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    return {path: Page(path.read_text(encoding="utf-8")) for path in made}


def test_every_page_is_in_it(site, pages):
    sources = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}
    assert {path.relative_to(site).as_posix() for path in pages} - OWN == sources
    # The sidebar of the first page leads to all of them.
    reached = {link.partition("#")[0] for link in pages[site / "index.html"].links}
    assert sources - {"index.html"} <= reached


def test_links_lead_to_pages_and_anchors(pages):
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link == "#":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target not in pages:
                wrong += [] if target.is_file() else [f"{path.name}: {link}"]
            elif parts.fragment and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{path.name}: {link}")
    assert wrong == []
    assert sum(len(page.links) for page in pages.values()) > 1000


def test_links_out_of_the_pages_are_pages_of_the_site(pages):
    # A link to a Markdown file that is no page of the site would be a download.
    assert [
        link for page in pages.values() for link in page.links if "_downloads" in link or link.endswith(".md")
    ] == []


def test_nothing_is_loaded_from_elsewhere(pages):
    resources = {(path, one) for path, page in pages.items() for one in page.resources if not one.startswith("data:")}
    assert len(resources) > 10
    assert [one for _, one in resources if urlsplit(one).netloc] == []
    assert [one for path, one in resources if not (path.parent / unquote(urlsplit(one).path)).is_file()] == []


def test_pictures_have_words(pages):
    assert sum(page.images_without_text for page in pages.values()) == 0


def test_search_knows_words_and_names(site):
    index = json.loads((site / "searchindex.js").read_text(encoding="utf-8")[len("Search.setIndex(") : -1])
    names = index["docnames"]
    found = index["terms"]["moffat"]
    assert "surveys" in {names[number] for number in (found if isinstance(found, list) else [found])}
    assert {"measure", "coadd"} <= {name for *_, name in index["objects"]["lumos"]}


def test_reference_has_the_public_names(site, pages):
    anchors = pages[site / "reference" / "python.html"].anchors
    assert {f"lumos.{name}" for name in lumos.__all__ if name != "__version__"} <= anchors
    assert {f"lumos.pdf.{name}" for name in lumos.pdf.__all__ if name != "LogPrior"} <= anchors  # an alias of a type
    assert {"lumos.pdf.FluxPdf.quantile", "lumos.api.FluxTable.select", "lumos.flags.Flag"} <= anchors
