"""What the README and the guide to the Python API show is run here, in order."""

import asyncio
import re
import textwrap
from pathlib import Path

import pytest

import gavel

ROOT = Path(__file__).parents[3]


def blocks(text: str) -> list[str]:
    """The indented blocks of a text that are Python."""
    found = re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.M)
    code = [textwrap.dedent(block).strip() for block in found if block.strip()]
    return [block for block in code if re.match(r"import |with |def |for |async ", block)]


def test_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks((ROOT / "README.md").read_text())
    exec(block, {})
    with gavel.open("disk.gavel") as fs:
        assert not fs.exists("/hello")


def test_the_docstring_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert gavel.__doc__ is not None
    (block,) = blocks(gavel.__doc__)
    exec(block, {})


def test_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    first, transaction, run, watch, waiting = blocks((ROOT / "docs/guide/python.md").read_text())
    exec(first, {})
    assert capsys.readouterr().out.splitlines()[:2] == ["learn GavelFS", ""]
    with gavel.open("disk.gavel") as fs:
        assert fs.read_text("/notes/today") == "learn GavelFS\n", "as undo left it"
        fs.write_text("/total", "1")
        fs.makedirs("/inbox")
        fs.makedirs("/done")
        fs.touch("/inbox/job")
        before = fs.tid()
        names = {"fs": fs, "gavel": gavel}
        exec(transaction, names)
        exec(run, names)
        assert fs.read_text("/total") == "3" and fs.exists("/done/job")
        fs.touch("/inbox/more")
        fs.sync()
        exec(watch.replace("timeout=60", f"timeout=0, since={before}"), names)
        assert "/inbox/more" in capsys.readouterr().out
    body = textwrap.indent(waiting.replace('watch("/")', 'watch("/", timeout=0)'), "    ")
    scope: dict[str, object] = {"gavel": gavel}
    exec(f"async def main():\n{body}", scope)
    asyncio.run(scope["main"]())  # type: ignore[operator]
    with gavel.open("disk.gavel") as fs:
        assert fs.read_text("/bye") == "world"
