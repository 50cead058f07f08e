"""Builds the app's folder, `dist/nexus`: PyInstaller by `nexus.spec`, then links, licences, sizes.

    python packaging/build_app.py            build
    python packaging/build_app.py --again    build a second time and compare file by file

Equal input gives an equal folder: times, hash order and modes are fixed.
"""

import argparse
import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import notices

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "app"
DIST = ROOT / "dist"
MAX_BYTES = 300_000_000  # issue "the app people double-click": unpacked
BUILD_SECONDS = 900.0  # 45 to 140 s measured on two busy cores
# Qt's xcb platform needs them; PyInstaller takes along only what this machine has.
XCB = (
    "libxcb-cursor.so.0", "libxcb-icccm.so.4", "libxcb-keysyms.so.1", "libxcb-image.so.0",
    "libxcb-render-util.so.0", "libxcb-shape.so.0", "libxkbcommon-x11.so.0",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--again", action="store_true", help="build beside dist/nexus and compare")
    if parser.parse_args().again:
        compare(DIST / "nexus", build(ROOT / "build" / "again"))
    else:
        print(f"{build(DIST)}: {size(DIST / 'nexus') / 1e6:.0f} MB")


def build(target: Path) -> Path:
    """Make the app's folder inside `target` and return it.

    Raises:
        SystemExit: something is missing here, may not be shipped, or the folder is too large.
    """
    frozen, spec = BUILD / "frozen.json", ROOT / "packaging" / "nexus.spec"
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = target / "nexus"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(
        [sys.executable, "-m", "PyInstaller", "-y", "--clean", "--log-level", "WARN",
         "--distpath", str(target), "--workpath", str(BUILD / "work"), str(spec)],
        check=True,
        timeout=BUILD_SECONDS,
        cwd=BUILD,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0",
             "SOURCE_DATE_EPOCH": str(epoch()), "NEXUS_FROZEN": str(frozen)},
    )  # fmt: skip
    finish(folder)
    found = notices.components(frozen, notices.Table(ROOT / "packaging" / "licences.toml"))
    notices.collect(found, folder / "licences")
    (folder / "sbom.cdx.json").write_text(notices.bill(found, version("nexusnode"), epoch()))
    settle(folder)
    if size(folder) > MAX_BYTES:
        raise SystemExit(f"{folder}: {size(folder) / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f}")
    return folder


def finish(folder: Path) -> None:
    """Add the links that PyInstaller cannot make; see that nothing the window needs is missing."""
    inside = folder / "_internal"
    if sys.platform != "linux":
        return
    for library in sorted((inside / "llama_cpp" / "lib").glob("*.so.0")):
        plain = library.with_suffix("")  # llama_cpp asks for libllama.so
        if not plain.exists():
            plain.symlink_to(library.name)
    for library in inside.glob("libpython3*.so*"):
        # 23 MB with symbols, 6 without. Only this one: strip breaks libraries patched by a wheel.
        subprocess.run(["strip", "--strip-unneeded", str(library)], check=True, timeout=60)
    if (ROOT / "gui" / "main.py").exists():
        (folder / "nexus-gui").symlink_to("nexusnode")
        missing = [name for name in XCB if not list(inside.rglob(name))]
        if missing:
            raise SystemExit(f"not on this machine (packaging/apt.txt): {', '.join(missing)}")
        if gtk := list(inside.rglob("libgtk-3*")):
            raise SystemExit(f"GTK came along: {gtk[0]}")


def settle(folder: Path) -> None:
    """Give every file the same time and one of two modes, whatever the umask here is."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            runs = path.is_dir() or (path.parent == folder and path.stat().st_mode & stat.S_IXUSR)
            path.chmod(0o755 if runs else 0o644)
        os.utime(path, (epoch(), epoch()), follow_symlinks=False)


def listing(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each file's path in `folder` and its SHA-256, or where it links to."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            yield name, f"-> {os.readlink(path)}"
        elif path.is_file():
            with path.open("rb") as file:
                yield name, hashlib.file_digest(file, "sha256").hexdigest()


def compare(first: Path, second: Path) -> None:
    """Raise SystemExit if two builds hold different files; say how they differ."""
    one, two = dict(listing(first)), dict(listing(second))
    differing = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    if differing:
        raise SystemExit(
            f"two builds differ in {len(differing)} files: {', '.join(differing[:10])}"
        )
    print(f"two builds are equal: {len(one)} files")


def size(folder: Path) -> int:
    """Return the bytes of all files below `folder`."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def epoch() -> int:
    """Return the time that all things made carry: SOURCE_DATE_EPOCH, or the last commit's."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    asked = subprocess.run(
        ["git", "log", "-1", "--format=%ct"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    return int(asked.stdout) if asked.returncode == 0 else 1_764_000_000


if __name__ == "__main__":
    main()
