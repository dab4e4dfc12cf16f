"""The documents: every link leads somewhere, and the index of decisions has every page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DECISIONS = ROOT / "docs" / "decisions"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SOURCES = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("scripts/**/*.py")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page):
    """The anchors that GitHub gives a page's headings."""
    for heading in re.findall(r"^#+ (.+)$", prose(page), flags=re.M):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken(page, text):
    """Links in a page's text to files or headings that do not exist."""
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    """Linked files exist, and have the heading that is linked."""
    assert list(broken(page, prose(page))) == []


def test_a_broken_link_is_found():
    """The check knows a missing file and a missing heading from those that are there."""
    page = ROOT / "README.md"
    text = (
        "[a](docs/design.md#input-specs) [b](docs/none.md) [c](docs/design.md#none) [d](https://example.org)"
    )
    assert list(broken(page, text)) == ["docs/none.md", "docs/design.md#none"]


@pytest.mark.slow
def test_every_document_that_the_code_names_exists():
    """A comment that sends its reader to docs/ names a page that is there."""
    for file in SOURCES:
        named = re.findall(r"\bdocs/(?:decisions/\d{4}|[\w/-]+\.md)", file.read_text(encoding="utf-8"))
        for name in named if file != Path(__file__).resolve() else ():
            assert list(ROOT.glob(f"{name.removesuffix('.md')}*.md")), f"{file.relative_to(ROOT)}: {name}"


def test_decisions_are_numbered_and_have_the_same_sections():
    """Numbers run from 1 without a gap; a page has its number, a date, what was decided and why."""
    pages = sorted(DECISIONS.glob("0*.md"))
    for number, page in enumerate(pages, 1):
        text = page.read_text(encoding="utf-8")
        assert page.name.startswith(f"{number:04}-"), page.name
        assert text.startswith(f"# {number:04}: "), page.name
        assert re.search(r"^Date: \d{4}-\d\d-\d\d$", text, re.M), page.name
        sections = re.findall(r"^## (.+)$", text, re.M)
        assert sections in (["What", "Why"], ["What", "Why", "Tried, and left"]), page.name


def test_the_index_of_decisions_has_every_page():
    """A row for each page, in order: its number, its title, what was tried and left, its date."""
    rows = [
        line for line in (DECISIONS / "README.md").read_text(encoding="utf-8").splitlines() if "| [" in line
    ]
    expected = []
    for page in sorted(DECISIONS.glob("0*.md")):
        text = page.read_text(encoding="utf-8")
        number, title = re.match(r"# (\d+): (.+)", text).groups()
        left = "; ".join(re.findall(r"^- \*(.+?)\*", text.partition("## Tried, and left")[2], re.M))
        date = re.search(r"^Date: (.+)$", text, re.M)[1]
        expected.append(f"| [{number}]({page.name}) | {title} | {left} | {date} |")
    assert rows == expected
