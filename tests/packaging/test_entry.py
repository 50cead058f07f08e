"""The packaged app's one program: what its name and first word make of it."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from p2p.process.child import command

ROOT = Path(__file__).resolve().parents[2]
ENTRY = ROOT / "packaging" / "entry.py"


def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the program as if it had been started under `name`."""
    start = (
        f"import runpy, sys; sys.argv = {[name, *words]!r};"
        f"space = runpy.run_path({str(ENTRY)!r}); sys.exit(space['main']())"
    )
    return subprocess.run(
        [sys.executable, "-c", start],
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )


def children() -> tuple[str, ...]:
    """The list as written, read without running the file."""
    (found,) = (
        node.value
        for node in ast.parse(ENTRY.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CHILDREN"
    )
    return tuple(ast.literal_eval(found))


@pytest.mark.slow
def test_any_other_name_is_the_command_line() -> None:
    done = run("/usr/bin/nexusnode", "--version")

    assert done.returncode == 0
    assert done.stdout.startswith("nexusnode ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [(), ("os",), ("nexusnode.cli.main",), ("nexusnode.draft.worker", "x")]
)
def test_only_a_listed_child_is_started(words: tuple[str, ...]) -> None:
    done = run("nexusnode", "--child", *words)

    assert done.returncode == 2
    assert "nexusnode.models.gguf" in done.stderr


@pytest.mark.slow
def test_a_listed_child_runs_and_leaves_when_its_parent_is_gone() -> None:
    done = run("nexusnode", "--child", "nexusnode.models.gguf")

    assert done.returncode == 0, done.stderr


def test_every_child_of_the_node_is_on_the_list() -> None:
    files = (ROOT / "nexusnode").rglob("*.py")
    speaking = [file for file in files if "process.pipe import" in file.read_text()]

    names = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in speaking}

    assert names == set(children())


def test_the_packaged_app_starts_itself_again_for_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("nexusnode.models.gguf")[1:] == ["-P", "-m", "nexusnode.models.gguf"]

    monkeypatch.setattr(sys, "frozen", True, raising=False)

    assert command("nexusnode.models.gguf") == [sys.executable, "--child", "nexusnode.models.gguf"]


@pytest.mark.parametrize("before", [{}, {"LD_LIBRARY_PATH": "/home/ada/lib"}])
def test_programs_that_are_not_ours_get_the_users_library_path(before: dict[str, str]) -> None:
    give_back = runpy.run_path(str(ENTRY))["give_back"]
    booted = {"LD_LIBRARY_PATH": "/opt/nexus/_internal"}
    if before:
        booted["LD_LIBRARY_PATH_ORIG"] = before["LD_LIBRARY_PATH"]

    give_back(booted)

    assert booted == {**before, "PYINSTALLER_RESET_ENVIRONMENT": "1"}
