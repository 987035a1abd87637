"""The repository's own hygiene: sizes, docstrings, hazards in pure rooms, links in the docs."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "gavel"
MODULES = sorted(SOURCE.rglob("*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

PURE_ROOMS = {
    "keys", "media", "btree", "history", "transaction", "filesystem", "replica", "cache", "upkeep", "quorum",
    "coherency", "wire",
}  # fmt: skip
PURE_FILES = {"effects.py", "limits.py", "errors.py"}
WORLDLY = {
    "asyncio", "datetime.now", "logging", "multiprocessing", "random", "secrets", "select", "selectors", "signal",
    "socket", "ssl", "subprocess", "threading", "time", "uuid",
}  # fmt: skip

MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70


def is_pure(path: Path) -> bool:
    inner = path.relative_to(SOURCE)
    return inner.parts[0] in PURE_ROOMS or inner.name in PURE_FILES


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def hazards(text: str) -> list[str]:
    """What a pure room must not contain: clocks, entropy, the world, awaiting, and orders that vary by hash seed."""
    found = []
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        found += [f"{node.lineno}: imports {name}" for name in names if name.split(".")[0] in WORLDLY]
        if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith):
            found.append(f"{node.lineno}: awaits")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"hash", "id", "open"}:
            found.append(f"{node.lineno}: calls {node.func.id}()")
        if isinstance(node, ast.For | ast.comprehension) and isinstance(node.iter, ast.Set | ast.SetComp):
            found.append(f"{node.iter.lineno}: iterates a set")
    return found


def long_functions(text: str) -> list[str]:
    return [
        f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in functions(ast.parse(text))
        if node.end_lineno is not None and node.end_lineno - node.lineno >= FUNCTION_LINES_MAX
    ]


def broken_links(document: Path, text: str) -> list[str]:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    return [link for link in links if not (document.parent / link).exists()]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_is_of_a_size_that_can_be_read_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MODULE_LINES_MAX
    assert not long_functions(text)
    assert not text or ast.get_docstring(ast.parse(text)), "no module docstring"
    assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", text)


@pytest.mark.parametrize("path", [p for p in MODULES if is_pure(p)], ids=lambda path: str(path.relative_to(SOURCE)))
def test_pure_rooms_are_pure(path: Path) -> None:
    assert hazards(path.read_text()) == []


def test_planted_hazards_are_found() -> None:
    planted = "import time\nfrom socket import socket\nasync def f(): await g()\nfor x in {1, 2}: print(hash(x))\n"
    assert len(hazards(planted)) == 6


def test_a_planted_long_function_is_found() -> None:
    assert long_functions("def f():\n" + "    x = 1\n" * 70) == ["f has 71 lines"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_in_documents_lead_somewhere(path: Path) -> None:
    assert broken_links(path, path.read_text()) == []


def test_a_planted_broken_link_is_found(tmp_path: Path) -> None:
    assert broken_links(tmp_path / "page.md", "[x](nowhere.md) [y](https://example.org)") == ["nowhere.md"]


def test_every_room_is_on_the_floor_plan() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    plan = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    assert not [room for room in rooms if f"`{room}/`" not in plan]


def test_nothing_names_the_machine_it_was_made_on() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    marks = ["/wo" + "rk/", "farm" + "-bench", "/opt/" + "pypi"]
    bad = []
    for name in listed:
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".sh", ""}:
            text = path.read_text(errors="replace")
            bad += [f"{name}: {mark}" for mark in marks if mark in text]
    assert bad == []


def test_no_drawers() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
    assert not [path for path in MODULES if path.stem in drawers or path.parent.name in drawers]


def test_versions_agree() -> None:
    stated = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    inside = re.search(r'^__version__ = "(.+)"', (SOURCE / "__init__.py").read_text(), re.MULTILINE)
    assert stated is not None
    assert inside is not None
    assert stated[1] == inside[1]
