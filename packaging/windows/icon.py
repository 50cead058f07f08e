"""Writes the app's icon as .ico, by Qt, for `build.ps1`. Not run on Windows yet."""

import sys
from pathlib import Path

from PySide6.QtCore import QByteArray
from PySide6.QtGui import QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

DRAWN = Path(__file__).resolve().parent.parent / "linux" / "org.nexusnode.Nexus.svg"


def main(target: Path) -> None:
    image = QImage(256, 256, QImage.Format.Format_ARGB32)
    image.fill(0)
    painter = QPainter(image)
    QSvgRenderer(QByteArray(DRAWN.read_bytes())).render(painter)
    painter.end()
    target.parent.mkdir(parents=True, exist_ok=True)
    if not image.save(str(target)):
        raise SystemExit(f"{target}: the icon cannot be written")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
