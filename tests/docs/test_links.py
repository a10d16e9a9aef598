"""Links from one page of the documentation to another, and to files of the project, lead somewhere."""

import re

import pytest

from tests.docs.pages import ROOT, pages, text_of

LINKS = [
    (page, target)
    for page in pages()
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    if "://" not in target
]


def anchors(page):
    """As GitHub makes them of the headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_a_link_leads_somewhere(page, target):
    path, _, anchor = target.partition("#")
    there = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page
    assert there.exists()
    if anchor:
        assert anchor in anchors(str(there.relative_to(ROOT)))
