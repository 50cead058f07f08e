"""Makes the Linux packages of `dist/nexus`: a .deb, a .tar.zst, and SHA256SUMS over dist.

Needs dpkg-deb, readelf and zstd. The packages are equal for equal folders.
"""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from build_app import DIST, ROOT, epoch, size

LINUX = ROOT / "packaging" / "linux"
APP = "org.nexusnode.Nexus"
ICON_PIXELS = (16, 24, 32, 48, 64, 128, 256)
PACK_SECONDS = 600.0
CONTROL = """\
Package: nexus
Version: {version}
Architecture: {architecture}
Maintainer: The Nexus contributors <nexus@localhost>
Installed-Size: {kilobytes}
Depends: {depends}
Recommends: libvulkan1
Section: net
Priority: optional
Description: lend this computer's idle time to large language models
 Runs a small draft model while the computer is idle and streams its guesses
 to hosts that run large models, which answer faster for it. Stops and
 frees its memory within two seconds when you come back.
"""


def main() -> None:
    folder = DIST / "nexus"
    if not (folder / "nexusnode").exists():
        raise SystemExit(f"{folder} is missing: run packaging/build_app.py first")
    number = version("nexusnode")
    architecture = _output("dpkg", "--print-architecture").strip()
    for made in (
        debian(folder, DIST / f"nexus_{number}_{architecture}.deb", number, architecture),
        tarball(folder, DIST / f"nexus-{number}-linux-{architecture}.tar.zst", number),
        Path(shutil.copy(folder / "sbom.cdx.json", DIST / f"nexus-{number}.cdx.json")),
        sums(DIST),
    ):
        print(f"{made.relative_to(ROOT)}: {made.stat().st_size / 1e6:.1f} MB")


def debian(folder: Path, target: Path, number: str, architecture: str) -> Path:
    """Build the .deb: the app in /opt/nexus, and beside it what a desktop and a shell look for."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        shutil.copytree(folder, root / "opt" / "nexus", symlinks=True)
        lay_out(root, number)
        control = root / "DEBIAN"
        control.mkdir()
        values = {
            "version": number,
            "architecture": architecture,
            "depends": ", ".join(depends(folder)),
        }
        text = CONTROL.format(kilobytes=size(root) // 1024, **values)
        _write(control / "control", text)
        _write(control / "postrm", (LINUX / "postrm").read_text(), 0o755)
        for path in [root, *root.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
            os.utime(path, (epoch(), epoch()), follow_symlinks=False)
        # xz took 3.5 minutes of a busy core. Debian 12 and Ubuntu 22.04 read zstd.
        _run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z12", "--build", str(root), str(target))
    return target


def lay_out(root: Path, number: str) -> None:
    """Put the files outside /opt in place below `root`."""
    share = root / "usr" / "share"
    date = datetime.fromtimestamp(epoch(), UTC)
    names = {"@VERSION@": number, "@DATE@": date.strftime("%Y-%m-%d")}
    commands = root / "usr" / "bin"
    commands.mkdir(parents=True)
    for name in ("nexusnode", "nexus-gui"):
        if (root / "opt" / "nexus" / name).exists():
            (commands / name).symlink_to(f"/opt/nexus/{name}")
    _write(
        root / "usr" / "lib" / "systemd" / "user" / "nexusnode.service",
        _text("nexusnode.service", names),
    )
    manual = share / "man" / "man1"
    _write(manual / "nexusnode.1.gz", _text("nexusnode.1", names))
    documents = share / "doc" / "nexus"
    _write(documents / "copyright", _text("copyright", names))
    when = date.strftime("%a, %d %b %Y %H:%M:%S +0000")
    _write(
        documents / "changelog.gz",
        f"nexus ({number}) unstable; urgency=medium\n\n  * See /opt/nexus/CHANGELOG.md.\n\n"
        f" -- The Nexus contributors <nexus@localhost>  {when}\n",
    )
    shutil.copy(ROOT / "CHANGELOG.md", root / "opt" / "nexus" / "CHANGELOG.md")
    if (commands / "nexus-gui").is_symlink():
        (manual / "nexus-gui.1.gz").symlink_to("nexusnode.1.gz")
        _write(share / "applications" / f"{APP}.desktop", _text(f"{APP}.desktop", names))
        _write(share / "metainfo" / f"{APP}.metainfo.xml", _text(f"{APP}.metainfo.xml", names))
        icons(share / "icons" / "hicolor")


def icons(folder: Path) -> None:
    """Write the icon as it was drawn and in the sizes that desktops ask for."""
    from PySide6.QtCore import QByteArray
    from PySide6.QtGui import QImage, QPainter
    from PySide6.QtSvg import QSvgRenderer

    drawn = LINUX / f"{APP}.svg"
    _write(folder / "scalable" / "apps" / drawn.name, drawn.read_text())
    renderer = QSvgRenderer(QByteArray(drawn.read_bytes()))
    for pixels in ICON_PIXELS:
        image = QImage(pixels, pixels, QImage.Format.Format_ARGB32)
        image.fill(0)
        painter = QPainter(image)
        renderer.render(painter)
        painter.end()
        place = folder / f"{pixels}x{pixels}" / "apps"
        place.mkdir(parents=True)
        if not image.save(str(place / f"{APP}.png")):
            raise SystemExit(f"{place}: the icon cannot be written")


def depends(folder: Path) -> list[str]:
    """Return the Debian packages that hold what the app's libraries need and do not bring along."""
    files = [path for path in folder.rglob("*") if path.is_file() and _is_elf(path)]
    brought = {path.name for path in folder.rglob("*")}
    read = _output("readelf", "-d", *map(str, files))
    needed = set(re.findall(r"\(NEEDED\)\s+Shared library: \[(.+?)\]", read)) - brought
    places = dict(
        re.findall(r"^\s+(\S+) \(libc6,x86-64.*\) => (\S+)$", _output("/sbin/ldconfig", "-p"), re.M)
    )
    packages = set()
    for name in sorted(needed):
        place = places.get(name)
        if place is None:
            raise SystemExit(f"{name}: needed by the app, but neither in it nor on this machine")
        packages.add(_owner(Path(place)))
    packages.discard("libc6")
    # What was compiled on this machine may ask for a newer C library than the wheels do.
    asked = re.findall(r"Name: GLIBC_2\.(\d+)", _output("readelf", "-V", *map(str, files)))
    return [f"libc6 (>= 2.{max(map(int, asked))})", *sorted(packages), "tzdata"]


def tarball(folder: Path, target: Path, number: str) -> Path:
    """Pack the folder for other distributions: unpack anywhere, run nexusnode or nexus-gui."""
    _run(
        "tar", "--create", f"--file={target}", f"--directory={folder.parent}",
        "--sort=name", f"--mtime=@{epoch()}", "--owner=0", "--group=0", "--numeric-owner",
        f"--transform=flags=r;s,^nexus,nexus-{number},",
        "--use-compress-program=zstd -T0 -12", folder.name,
    )  # fmt: skip
    return target


def sums(folder: Path) -> Path:
    """Write SHA256SUMS over the files that are handed out."""
    target = folder / "SHA256SUMS"
    lines = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and path != target:
            with path.open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    target.write_text("".join(lines))
    return target


def _owner(path: Path) -> str:
    spellings = (
        path,
        path.resolve(),
        Path("/usr") / path.relative_to("/"),
        Path("/usr") / path.resolve().relative_to("/"),
    )
    for spelling in spellings:
        found = subprocess.run(
            ["dpkg", "-S", str(spelling)], capture_output=True, text=True, timeout=60, check=False
        )
        if found.returncode == 0:
            return found.stdout.partition(":")[0]
    raise SystemExit(f"{path}: belongs to no Debian package")


def _text(name: str, names: dict[str, str]) -> str:
    text = (LINUX / name).read_text()
    for name, value in names.items():
        text = text.replace(name, value)
    return text


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)
    path.chmod(mode)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _output(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PACK_SECONDS, check=True
    ).stdout


def _run(*command: str) -> None:
    subprocess.run(command, timeout=PACK_SECONDS, check=True)


if __name__ == "__main__":
    main()
