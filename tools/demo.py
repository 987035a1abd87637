"""`make demo`: what GavelFS does, shown by its own commands on real mounts in a temporary directory: one volume, then
three masters of which one is killed in the middle of a copy.

Nothing outside of that directory is touched, and it is unmounted and removed whatever happens.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GAVEL = [sys.executable, "-m", "gavel"]


class Failed(Exception):
    """A command of the demo failed."""


def tell(text: str) -> None:
    """A line of the story."""
    print(f"\n{text}", flush=True)


def run(*arguments: str | Path, quiet: bool = False) -> str:
    """Show a command and what it prints; returns that. Paths are relative to the demo's directory."""
    words = [str(argument) for argument in arguments]
    print(f"  $ {shlex.join(words)}", flush=True)
    command = GAVEL + words[1:] if words[0] == "gavel" else words
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    lines = done.stdout.splitlines()
    for line in lines[:12] if not quiet else []:
        print(f"    {line}")
    if len(lines) > 12 and not quiet:
        print(f"    ... and {len(lines) - 12} more lines")
    if done.returncode:
        raise Failed(f"{shlex.join(words)} ended with code {done.returncode}: {done.stdout.strip()}")
    return done.stdout.strip()


def cannot_mount() -> str:
    """Why a mount is not possible here; empty if it is."""
    if not os.path.exists("/dev/fuse"):
        return "/dev/fuse is missing (modprobe fuse, or run the container with --device /dev/fuse)"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "mounting needs root or fusermount3 (install fuse3)"
    return ""


def count(tree: Path) -> str:
    """How much is in a tree."""
    files = [path for path in tree.rglob("*") if path.is_file()]
    return f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1024:,.0f} KiB"


def show(mount: Path) -> None:
    """The story; the volume is mounted on `mount` when it begins."""
    source = Path("source")
    for package in (json, asyncio):
        there = Path(package.__file__ or "").parent
        shutil.copytree(there, source / there.name, ignore=shutil.ignore_patterns("__pycache__"))
    project = mount / "project"

    tell(f"A real tree goes in: Python's own json and asyncio packages, {count(source)}.")
    run("cp", "-r", source, project)
    tell("gavel tid makes everything durable and prints the name of this very state.")
    good = run("gavel", "tid", mount)
    run("gavel", "snapshot", "create", mount, "good", "--note", "before the accident")

    tell("Now things go wrong: a file is edited badly, another renamed, a directory deleted.")
    decoder = project / "json" / "decoder.py"
    text = decoder.read_text().replace("NaN = float('nan')", "NaN = 0.0  # who needs it")
    decoder.write_text(text)
    (project / "json" / "tool.py").rename(project / "json" / "pretty.py")
    run("rm", "-r", project / "asyncio")
    run("ls", project, project / "json")
    bad = run("gavel", "tid", mount)

    tell("Every past state is still there, by plain paths, for every program:")
    run("ls", f"{project}@@good")
    run("grep", "-n", "^NaN", decoder, f"{decoder}@@{good}")
    same = subprocess.run(["diff", "-r", source, f"{project}@@good"], check=False).returncode == 0
    if not same:
        raise Failed("the tree as of the snapshot is not the tree that was copied in")
    print("    (diff -r of the source and the tree as of the snapshot: no difference)")

    tell("What happened since?")
    run("gavel", "diff", project, "good")
    tell("And to one file, or one that is gone:")
    run("gavel", "history", decoder)
    run("gavel", "history", project / "asyncio" / "tasks.py")

    tell("One file back, then all of it. An undo is itself a change, so it can be undone.")
    run("gavel", "undo", decoder)
    begun = time.perf_counter()
    run("gavel", "undo", project, "--to", "good")
    took = time.perf_counter() - begun
    if subprocess.run(["diff", "-r", source, project], check=False).returncode:
        raise Failed("the tree after undo is not the tree that was copied in")
    print(f"    (diff -r of the source and the tree: no difference; it took {took:.2f} s)")
    run("gavel", "undo", project, "--to", bad, quiet=True)
    run("ls", project)
    run("gavel", "undo", project, "--to", "good", quiet=True)

    tell("The transactions, newest first, and the volume:")
    run("gavel", "log", project, "--limit", "3")
    run("gavel", "check", mount, "--deep")
    run("gavel", "info", mount)


def show_cluster(lab: Path) -> None:
    """The story of three masters; they run, and are mounted, when it begins."""
    mount, source = lab / "mnt", Path("source") / "json"
    copied = mount / "copied"
    run("gavel", "status", lab / "n1")

    tell("A tree is copied into the mount; in the middle of that a master is killed. Nobody waits for it.")
    print(f"  $ cp -r {source} {copied} &", flush=True)
    begun = time.perf_counter()
    with subprocess.Popen(["cp", "-r", str(source), str(copied)]) as copying:
        while not copied.is_dir() and copying.poll() is None:
            time.sleep(0.01)
        run("gavel", "lab", "kill", lab, "3")
        if copying.wait():
            raise Failed("the copy failed")
    print(f"    (the copy took {time.perf_counter() - begun:.2f} s)")
    run("gavel", "status", lab / "n1")
    run("diff", "-r", source, copied)
    print("    (diff -r of the source and the copy: no difference)")

    tell("The master comes back, and has soon caught up.")
    run("gavel", "lab", "start", lab, "3")
    run("gavel", "status", lab / "n3")

    tell("As-of and undo are there as before, whichever master answers.")
    run("gavel", "snapshot", "create", mount, "good")
    run("rm", "-r", copied)
    run("ls", mount / "copied@@good")
    run("gavel", "undo", copied, "--to", "good")
    run("diff", "-r", source, copied)
    print("    (diff -r of the source and the tree: no difference)")


def main() -> int:
    """Run the demo; the exit code."""
    reason = cannot_mount()
    if reason:
        print(f"The demo needs a real mount: {reason}.")
        return 1
    work = Path(tempfile.mkdtemp(prefix="gavel-demo-"))
    os.chdir(work)
    mount, volume, lab = Path("mnt"), Path("disk.gavel"), Path("lab")
    mount.mkdir()
    mounted = False
    try:
        tell("A volume is a sparse file (or a block device). Two commands, and it is a directory:")
        run("gavel", "mkfs", volume, "--size", "2G", "--label", "demo")
        run("gavel", "mount", volume, mount)
        mounted = True
        show(mount)
        tell("Unmounted, it is all in one file; commands work on that as well.")
        run("gavel", "umount", mount)
        mounted = False
        run("gavel", "log", f"{volume}:/project/asyncio", "--limit", "2")

        tell("And now three masters on this machine, any of which may write; a majority decides.")
        run("gavel", "lab", "up", lab)
        show_cluster(lab)
        tell("That is GavelFS. Read on in docs/guide/mounting.md, docs/guide/history.md and docs/guide/cluster.md.")
    except Failed as problem:
        print(f"\nThe demo failed: {problem}", file=sys.stderr)
        return 1
    finally:
        if mounted:
            subprocess.run([*GAVEL, "umount", str(mount)], check=False)
        if (lab / "lab.json").exists():
            subprocess.run([*GAVEL, "lab", "down", str(lab)], check=False)
        os.chdir("/")
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
