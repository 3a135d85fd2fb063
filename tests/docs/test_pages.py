"""The pages as text: every block is of a kind that is checked, links lead somewhere, examples are valid."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from serve_app.settings import Settings
from tests.docs.pages import DATA, LANGUAGES, PAGES, PROGRAMS, ROOT, Block, blocks_of, prose_of
from tests.serve_config import unknown_keys

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
LINKED = [
    *PAGES,
    *(
        ROOT / name
        for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "k8s/README.md", "training/README.md")
    ),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def of(*languages: str) -> list[object]:
    return [pytest.param(block, id=block.where) for block in BLOCKS if block.language in languages]


def test_every_page_is_there() -> None:
    numbered = [page.name for page in PAGES if page.parent == ROOT / "docs"]
    assert [name[0] for name in numbered] == list("123456789")
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    assert (ROOT / "docs" / "images" / "preview.gif").stat().st_size <= 1_000_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_checked_or_says_why_not(page: Path) -> None:
    text = page.read_text()
    blocks = blocks_of(page)
    assert text.count("```") == 2 * len(blocks)
    for block in blocks:
        assert block.language in LANGUAGES, f"{block.where}: a block in {block.language!r} is not checked"
        assert block.excuse is None or block.language in PROGRAMS, f"{block.where} is checked without running"
    assert text.count("<!-- not run") == sum(block.excuse is not None for block in blocks), (
        "a marker marks nothing"
    )


@pytest.mark.parametrize(
    ("text", "excuse"),
    [
        ("<!-- not run: needs root -->\n```sh\nid\n```\n", "needs root"),
        ("<!-- not run: needs root -->\n\n```sh\nid\n```\n", None),  # not right before it
        ("<!-- not run: -->\n```sh\nid\n```\n", None),  # no reason
        ("<!-- not run: a -->\ntext\n```sh\nid\n```\n", None),
    ],
)
def test_only_a_marker_with_a_reason_right_before_a_block_counts(text: str, excuse: str | None) -> None:
    (block,) = blocks_of(ROOT / "README.md", text)
    assert block.excuse == excuse
    assert block.is_run == (excuse is None)


@pytest.mark.parametrize("block", of("json"))
def test_json_is_json(block: Block) -> None:
    json.loads(block.code)


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_is_a_valid_profile(block: Block) -> None:
    """A whole Serve config, or a part of the `args` of one."""
    written = yaml.safe_load(block.code)
    if "applications" in written:
        assert unknown_keys(ServeDeploySchema, written) == []
        (application,) = ServeDeploySchema.model_validate(written).applications
        written = application.args
    Settings(**written)


def test_there_are_examples_of_every_kind() -> None:
    """Or the checks above would check nothing."""
    assert {block.language for block in BLOCKS} == set(LANGUAGES)
    assert {block.language for block in BLOCKS if block.is_run} == set(PROGRAMS)
    assert all(of(language) for language in DATA)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose_of(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} does not exist"
        assert target.is_relative_to(ROOT)
        if anchor:
            assert anchor in anchors(target), f"{link}: there is no such heading"


def test_each_promise_names_tests_that_exist() -> None:
    section = (ROOT / "SECURITY.md").read_text().partition("## Promises")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 10
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)`", row)
        assert named, f"nothing holds this promise: {row}"
        assert all((ROOT / name).exists() for name in named), row


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
