"""Says what is in the packaged app: collects licences, refuses the unknown, lists it all.

Works on the list that `nexus.spec` writes of what was frozen, not on the environment, which holds
build tools as well. Each frozen file is traced to the Python or Debian package that it came from.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib.metadata import Distribution, PackageMetadata, distributions, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STANDARD = HERE / "licences"
LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)
# Texts that a package may leave out of its files, by the start of an SPDX id.
TEXTS = {
    "LGPL-3.0": (STANDARD / "LGPL-3.txt", STANDARD / "GPL-3.txt"),
    "LGPL-2.1": (STANDARD / "LGPL-2.1.txt",),
    "Apache-2.0": (ROOT / "LICENSE",),
    "MIT": (STANDARD / "MIT.txt",),
    "BSD": (STANDARD / "BSD.txt",),
}
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


@dataclass(frozen=True, slots=True)
class Component:
    """One package in the app. `texts` are its licence files on this machine."""

    name: str
    version: str
    licence: str
    purl: str
    source: str
    texts: tuple[Path, ...] = ()


class Table:
    """`licences.toml`: what is allowed, and what is known of packages that do not say it."""

    def __init__(self, path: Path) -> None:
        table = tomllib.loads(path.read_text())
        self.allowed = frozenset(table["allowed"])
        self.python = {_key(name): licence for name, licence in table["python"].items()}
        self.debian: dict[str, str] = table["debian"]
        self.inside: list[dict[str, str]] = table["inside"]

    def allows(self, expression: str) -> bool:
        """Say whether an SPDX expression leaves a choice that may be shipped."""
        words = re.sub(r"[()]", " ", expression)
        if "(" in expression and " OR " in expression:
            return False  # nested choices are read by a person and put in the table
        return any(
            all(part.strip() in self.allowed for part in choice.split(" AND "))
            for choice in words.split(" OR ")
        )


def components(frozen: Path, table: Table) -> list[Component]:
    """Trace what was frozen to packages.

    Raises:
        SystemExit: a file's origin or a licence is not known, or may not be shipped; all are named.
    """
    listed = json.loads(frozen.read_text())
    sources = {source for _, source in listed["modules"] + listed["files"]}
    owners = {
        str(Path(str(file.locate())).resolve()): distribution
        for distribution in distributions()
        for file in distribution.files or ()
    }
    python: dict[str, Distribution] = {}
    debian: set[str] = set()
    has_python, unknown = False, []
    for source in sorted(sources):
        path = Path(source)
        if not path.is_absolute():
            continue  # a module without a file, or the second name of one that is listed
        if owner := owners.get(str(path.resolve())):
            python[_key(owner.metadata["Name"])] = owner
        elif _is_below(path, ROOT) and "site-packages" not in path.parts:
            pass  # our own, or made by the build
        elif _is_below(path, *_python_folders()):
            has_python = True
        elif package := _debian_package(path):
            debian.add(package)
        elif path.name not in ("base_library.zip",):
            unknown.append(f"{source}: belongs to no package")
    python.setdefault("pyinstaller", Distribution.from_name("pyinstaller"))
    found = [
        _own(),
        *(
            _python(each, table)
            for each in python.values()
            if _key(each.metadata["Name"]) != "nexusnode"
        ),
    ]
    if has_python:
        found.append(_cpython())
    found += [_debian(package, table) for package in sorted(debian)]
    found += list(_inside(found, table))
    unknown += [
        f"{each.name} {each.version}: {each.licence or 'no licence is named'}"
        for each in found
        if not table.allows(each.licence)
    ]
    if unknown:
        raise SystemExit(
            "not to be shipped, or not known (packaging/licences.toml):\n  " + "\n  ".join(unknown)
        )
    return sorted(found, key=lambda each: each.name.lower())


def collect(found: Iterable[Component], folder: Path) -> None:
    """Write `folder`: an index, and each package's licence texts in a folder of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = ["What this app is made of. Texts lie in the folders beside this file.", ""]
    for each in found:
        lines.append(f"{each.name} {each.version}: {each.licence}\n    source: {each.source}")
        place = folder / re.sub(r"[^\w.+-]", "_", each.name)
        place.mkdir(exist_ok=True)
        for number, text in enumerate(each.texts or _standard_texts(each.licence)):
            name = text.name if not (place / text.name).exists() else f"{number}-{text.name}"
            shutil.copyfile(text, place / name)
    lines += ["", (STANDARD / "offer.txt").read_text()]
    (folder / "INDEX.txt").write_text("\n".join(lines))


def bill(found: Iterable[Component], number: str, epoch: int) -> str:
    """Return a CycloneDX 1.5 bill of materials. The same content gives the same text."""
    listed = [
        {
            "type": "library",
            "bom-ref": each.purl,
            "name": each.name,
            "version": each.version,
            "licenses": [{"expression": each.licence}],
            "purl": each.purl,
            "externalReferences": [{"type": "distribution", "url": each.source}],
        }
        for each in found
        if each.name != "nexusnode"
    ]
    digest = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
    serial = f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": _utc(epoch),
            "component": {
                "type": "application",
                "bom-ref": "nexus",
                "name": "nexus",
                "version": number,
                "licenses": [{"expression": "Apache-2.0"}],
            },
        },
        "components": listed,
    }
    return json.dumps(document, indent=1) + "\n"


def _own() -> Component:
    texts = (ROOT / "LICENSE", ROOT / "THIRD_PARTY_NOTICES.md")
    number = version("nexusnode")
    return Component(
        "nexusnode", number, "Apache-2.0", f"pkg:pypi/nexusnode@{number}", "this project", texts
    )


def _cpython() -> Component:
    version = sys.version.split()[0]
    text = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    source = f"https://www.python.org/ftp/python/{version}/"
    texts = (text,) if text.exists() else ()
    return Component("Python", version, "PSF-2.0", f"pkg:generic/python@{version}", source, texts)


def _python(distribution: Distribution, table: Table) -> Component:
    data = distribution.metadata
    name, version = data["Name"], data["Version"]
    licence = (
        table.python.get(_key(name))
        or _field(data, "License-Expression")
        or _said(distribution, table)
    )
    texts = tuple(
        Path(str(file.locate()))
        for file in distribution.files or ()
        if ".dist-info" in str(file) and LICENCE_FILE.search(file.name)
    )
    pypi = f"https://pypi.org/project/{name}/{version}/"
    return Component(name, version, licence, f"pkg:pypi/{name.lower()}@{version}", pypi, texts)


def _said(distribution: Distribution, table: Table) -> str:
    """Return the licence by the older fields of a package's metadata, "" if they do not say."""
    text = _field(distribution.metadata, "License")
    if table.allows(text):
        return text
    lines = distribution.metadata.get_all("Classifier") or []
    names = [line.rpartition("::")[2].strip() for line in lines if line.startswith("License ::")]
    licences = {CLASSIFIERS[name] for name in names if name in CLASSIFIERS}
    return licences.pop() if len(licences) == 1 else ""


def _field(data: PackageMetadata, name: str) -> str:
    found = data.get_all(name)
    return str(found[0]) if found else ""


def _debian(package: str, table: Table) -> Component:
    name, _, version = package.partition("=")
    known = next((table.debian[key] for key in table.debian if fnmatchcase(name, key)), "")
    text = Path("/usr/share/doc") / name / "copyright"
    source = f"https://sources.debian.org/src/{name}/"
    return Component(name, version, known, f"pkg:deb/debian/{name}@{version}", source, (text,))


def _inside(found: list[Component], table: Table) -> Iterator[Component]:
    hosts = {_key(each.name): each for each in found}
    for part in table.inside:
        if host := hosts.get(_key(part["of"])):
            purl = f"pkg:generic/{part['name'].lower()}@{host.version}"
            version = f"as in {host.name} {host.version}"
            texts = (ROOT / part["text"],) if "text" in part else host.texts
            yield Component(part["name"], version, part["licence"], purl, part["source"], texts)


def _debian_package(path: Path) -> str:
    """Return "name=version" of the Debian package that holds `path`, "" if none does."""
    if shutil.which("dpkg") is None:
        return ""
    usr = Path("/usr") / path.relative_to("/")
    spellings = {path, path.resolve(), usr, Path("/", *path.resolve().parts[2:])}
    for spelling in sorted(spellings):
        asked = subprocess.run(
            ["dpkg", "-S", str(spelling)], capture_output=True, text=True, timeout=60, check=False
        )
        if asked.returncode == 0:
            name = asked.stdout.partition(": ")[0].split(",")[0].partition(":")[0]
            version = subprocess.run(
                ["dpkg-query", "-W", "-f=${Version}", name],
                capture_output=True, text=True, timeout=60, check=True,
            ).stdout  # fmt: skip
            return f"{name}={version}"
    return ""


def _standard_texts(licence: str) -> tuple[Path, ...]:
    return next((texts for start, texts in TEXTS.items() if licence.startswith(start)), ())


def _python_folders() -> tuple[Path, ...]:
    libraries = Path(sysconfig.get_config_var("LIBDIR") or sys.base_prefix)
    names = [Path(sysconfig.get_path("stdlib"))]
    if not str(libraries).startswith("/usr"):
        names.append(libraries)
    return tuple(names)


def _is_below(path: Path, *folders: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _utc(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
