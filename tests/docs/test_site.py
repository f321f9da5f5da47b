"""The documentation as a site: built as `make docs` does, without network, and without a link that leads nowhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--config-file", ROOT / ".mkdocs.yml"]
    subprocess.run([*command, "--site-dir", folder], check=True)  # strict: a link to no page or heading is an error
    return folder


def test_every_page_is_in_the_site_and_loads_nothing_from_the_network(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.stem for path in site.glob("*.html")}
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="(?:https?:)?//[^"]*"', text) == []
        assert re.findall(r'<link[^>]*\bhref="(?:https?:)?//[^"]*"', text) == []


def test_the_search_finds_a_word_of_the_docs(site):
    index = (site / "search/search_index.json").read_text(encoding="utf-8")
    assert "grow_to_sequence_length" in index


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_beside_the_site_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []
