"""Tries what `make package` made as a user would: install, draft for a real host, open, remove.

As root with debootstrap the .deb is installed into a fresh Debian 12 and everything runs there as
an ordinary user; otherwise the .deb is only unpacked, and the app runs from where it lies.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from build_app import DIST, MAX_BYTES, ROOT, size
from build_linux import APP

from benchmarks.asking import Question, complete
from benchmarks.fleet import Fleet, Member

SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
USER, USER_ID = "ada", 1000
INSTALL_SECONDS = 600.0
READY_SECONDS = 120.0
WINDOW_SECONDS = 30.0


class Place:
    """Where the app lies: in a root of its own, or unpacked somewhere on this machine."""

    def __init__(self, folder: Path, is_installed: bool) -> None:
        self.folder = folder
        self.is_installed = is_installed
        self.data = "/home/ada/data" if is_installed else str(folder / "data")

    def command(self, name: str, *words: str, **environment: str) -> list[str]:
        """Return the words that run one of the app's commands as an ordinary user there."""
        pairs = [f"{key}={value}" for key, value in environment.items()]
        if not self.is_installed:
            return ["env", *pairs, str(self.folder / "opt" / "nexus" / name), *words]
        clean = ["env", "-i", "HOME=/home/ada", "PATH=/usr/bin:/bin", "LANG=C.UTF-8", *pairs]
        return [
            "chroot", f"--userspec={USER_ID}:{USER_ID}", str(self.folder), *clean, name, *words
        ]  # fmt: skip

    def run(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of the app's commands to its end."""
        return subprocess.run(
            self.command(name, *words), capture_output=True, text=True, timeout=120, check=False
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=ROOT / "build" / f"root-{SUITE}")
    parser.add_argument("--unpack", action="store_true", help="do not install into a root")
    flags = parser.parse_args()
    (deb,) = DIST.glob("nexus_*.deb")
    check_files(deb)
    can_install = os.geteuid() == 0 and shutil.which("debootstrap") and not flags.unpack
    with tempfile.TemporaryDirectory(prefix="nexus-check-") as name:
        where = installed(deb, Path(name), flags.base) if can_install else unpacked(deb, Path(name))
        with where as place:
            say(f"{deb.name} is {'installed' if place.is_installed else 'unpacked'}")
            check_doctor(place)
            check_drafting(place, Path(name))
            if (DIST / "nexus" / "nexus-gui").is_symlink():
                check_window(place)
            if place.is_installed:
                check_removal(place.folder)
    print("package: all checks passed")


def check_files(deb: Path) -> None:
    """The .deb's size, its desktop files as their own tools see them, the sums of dist."""
    assert size(DIST / "nexus") <= MAX_BYTES, size(DIST / "nexus")
    names = {path.name for path in (DIST / "nexus").rglob("*")}
    assert not {"torch", "transformers", "tokenizers"} & names
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=DIST, check=True, timeout=120
    )
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", str(deb), folder], check=True, timeout=120)
        share = Path(folder) / "usr" / "share"
        assert not list(Path(folder).rglob("*autostart*"))
        assert not list(Path(folder).glob("usr/lib/systemd/**/*.wants"))
        if not (share / "applications").exists():
            return  # an app without its window
        entry = share / "applications" / f"{APP}.desktop"
        subprocess.run(["desktop-file-validate", str(entry)], check=True, timeout=60)
        assert (share / "icons" / "hicolor" / "256x256" / "apps" / f"{APP}.png").exists()
        if shutil.which("appstreamcli"):
            about = share / "metainfo" / f"{APP}.metainfo.xml"
            subprocess.run(
                ["appstreamcli", "validate", "--no-net", str(about)], check=True, timeout=60
            )


@contextlib.contextmanager
def unpacked(deb: Path, folder: Path) -> Iterator[Place]:
    """Unpack without installing."""
    root = folder / "root"
    subprocess.run(["dpkg-deb", "-x", str(deb), str(root)], check=True, timeout=120)
    yield Place(root, is_installed=False)


@contextlib.contextmanager
def installed(deb: Path, folder: Path, base: Path) -> Iterator[Place]:
    """Install with apt, which pulls what it depends on, into a copy of a fresh Debian."""
    if not (base / "usr" / "bin" / "apt-get").exists():
        shutil.rmtree(base, ignore_errors=True)
        base.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["debootstrap", "--variant=minbase", SUITE, str(base), MIRROR],
            check=True, timeout=INSTALL_SECONDS, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    root = folder / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(root)], check=True, timeout=120)
    shutil.copy(deb, root / "tmp")
    mounts = [("proc", root / "proc"), ("sysfs", root / "sys")]
    for kind, at in mounts:
        subprocess.run(["mount", "-t", kind, kind, str(at)], check=True, timeout=60)
    try:
        in_root(root, "useradd", "--create-home", "--uid", str(USER_ID), USER)
        in_root(root, "apt-get", "update", "-qq")
        in_root(
            root, "apt-get", "install", "-qq", "-y", "--no-install-recommends", f"/tmp/{deb.name}"
        )
        yield Place(root, is_installed=True)
    finally:
        for _, at in reversed(mounts):
            subprocess.run(["umount", "--lazy", str(at)], check=False, timeout=60)


def in_root(root: Path, *words: str) -> str:
    """Run a command of the root as its root user and return what it said."""
    done = subprocess.run(
        ["chroot", str(root), "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
         "DEBIAN_FRONTEND=noninteractive", *words],
        capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def check_doctor(place: Place) -> None:
    """Everything that needs no network is well, a draft worker of llama.cpp among it."""
    assert place.run("nexusnode", "--version").stdout.startswith("nexusnode ")
    done = place.run("nexusnode", "doctor", "--json", "--data", place.data)
    assert done.stdout, done.stderr
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert found["draft worker"]["is_well"], found["draft worker"]
    assert found["packages"]["is_well"], found["packages"]
    ill = [name for name, check in found.items() if not check["is_well"]]
    say(f"doctor: {found['draft worker']['fact']}; not well: {', '.join(ill) or 'nothing'}")


def check_drafting(place: Place, folder: Path) -> None:
    """The installed node finds a real host, drafts in a frozen child, and leaves at SIGTERM."""
    node_id = place.run("nexusnode", "id", "--data", place.data).stdout.strip()
    # Only nodes draft: what is accepted is the packaged worker's.
    environment = {"NEXUS_DRAFTING_ALWAYS": "true", "NEXUS_DRAFTING_NGRAM": "false"}
    node = Member("packaged node", folder / "node")
    with Fleet(folder / "fleet", 0, environment=environment) as fleet:
        fleet.start_bootstrap()
        fleet.start_host([node_id])
        try:
            words = (
                "run",
                "--always",
                "--data",
                place.data,
                "--bootstrap",
                fleet.bootstrap_address,
            )
            node.start(*place.command("nexusnode", *words, NEXUS_DRAFT_NICE="0"))
            fleet.wait_engine(READY_SECONDS)
            fleet.wait_connected(1, READY_SECONDS)
            node.check()
            report = complete(fleet, Question("Count from one to thirty.")).report
            assert report["accepted"] > 0, report
            status = json.loads(
                place.run("nexusnode", "status", "--json", "--data", place.data).stdout
            )
            assert status["accepted"] > 0, status
            process = node.process
            assert process is not None
            children = psutil.Process(process.pid).children(recursive=True)
            resident = psutil.Process(process.pid).memory_info().rss / 1e6
            assert "nexusnode.draft.worker" in children[0].cmdline(), children
            process.terminate()
            assert process.wait(10) == 0, node.log.read_text()
            assert not any(child.is_running() for child in children)
        finally:
            node.end()
    say(f"drafting: {report['accepted']} of {report['drafted']} kept; daemon {resident:.0f} MB")


def check_window(place: Place) -> None:
    """The desktop entry's command shows the window; the daemon that it starts can be stopped."""
    entry = (ROOT / "packaging" / "linux" / f"{APP}.desktop").read_text()
    match = re.search(r"^Exec=(\S+)", entry, re.MULTILINE)
    assert match is not None
    read, write = os.pipe()
    server = subprocess.Popen(
        [
            "Xvfb",
            "-displayfd",
            str(write),
            "-screen",
            "0",
            "1280x900x24",
            "-ac",
            "-nolisten",
            "tcp",
        ],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as told:
            display = f":{told.readline().strip()}"
        started = time.monotonic()
        window = subprocess.Popen(
            place.command(match[1], DISPLAY=display), stderr=subprocess.PIPE, text=True
        )
        try:
            found = subprocess.run(
                [
                    "timeout",
                    str(WINDOW_SECONDS),
                    "xdotool",
                    "search",
                    "--sync",
                    "--onlyvisible",
                    "--name",
                    "Nexus",
                ],
                env={**os.environ, "DISPLAY": display},
                capture_output=True,
                check=False,
                timeout=WINDOW_SECONDS + 5,
            )
            took = time.monotonic() - started
            assert found.returncode == 0, _ended(window)
            resident = psutil.Process(window.pid).memory_info().rss / 1e6
            while place.run("nexusnode", "status").returncode != 0:
                assert time.monotonic() < started + READY_SECONDS, "the window started no node"
                time.sleep(0.2)
        finally:
            window.kill()
            window.wait()
            stopped = place.run("nexusnode", "stop")
        assert stopped.returncode == 0, stopped.stderr
    finally:
        server.terminate()
        server.wait()
    say(f"window: shown after {took:.1f} s, {resident:.0f} MB; the node that it started has ended")


def check_removal(root: Path) -> None:
    """Removing leaves nothing but the user's own files, and says where those are."""
    before = (root / "home" / USER / "data" / "identity").read_bytes()
    said = in_root(root, "apt-get", "remove", "-qq", "-y", "nexus")
    assert "~/.local/share/nexus" in said, said
    left = [
        str(path)
        for top in ("opt", "usr/bin", "usr/share", "usr/lib/systemd")
        for path in (root / top).rglob("*nexus*")
    ]
    assert not left, left
    assert (root / "home" / USER / "data" / "identity").read_bytes() == before
    say("removed: nothing is left but the user's data")


def say(text: str) -> None:
    print(f"package: {text}", flush=True)


def _ended(process: subprocess.Popen[str]) -> str:
    process.kill()
    return f"no window within {WINDOW_SECONDS:.0f} s: {process.communicate()[1][-2000:]}"


if __name__ == "__main__":
    main()
