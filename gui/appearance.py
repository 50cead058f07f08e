"""Theme and text size as the user has chosen them, kept in QSettings beside the geometry."""

from PySide6.QtCore import QSettings

from gui.theme.theme import MAX_PERCENT, MIN_PERCENT, theme

CHOICES = ("system", "light", "dark")
_THEME, _PERCENT = "appearance/theme", "appearance/text_percent"


def chosen() -> tuple[str, int]:
    """Return theme and text size; what a hand has written wrongly counts as not chosen."""
    kept = QSettings()
    choice = str(kept.value(_THEME, CHOICES[0]))
    written = str(kept.value(_PERCENT, MIN_PERCENT))
    percent = int(written) if written.isdecimal() else MIN_PERCENT
    return (
        choice if choice in CHOICES else CHOICES[0],
        max(MIN_PERCENT, min(MAX_PERCENT, percent)),
    )


def choose(choice: str, percent: int) -> None:
    """Use these from now on, in this and later windows."""
    kept = QSettings()
    kept.setValue(_THEME, choice)
    kept.setValue(_PERCENT, percent)
    theme().choose(choice, percent)


def restore() -> None:
    """Use what was chosen before. To be called once, before the first window."""
    theme().choose(*chosen())
