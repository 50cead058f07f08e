"""Diagnostics: the log, the doctor's findings, and a report to hand on, seen before it is made."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QPlainTextEdit,
    QVBoxLayout,
)

from gui.store import Store
from gui.theme.theme import theme
from gui.theme.tokens import MEDIUM, ROW, SMALL
from gui.widgets.badge import Badge
from gui.widgets.buttons import Button, QuietButton
from gui.widgets.card import Card, rule
from gui.widgets.fields import ChoiceField, clear
from gui.widgets.note import Note
from gui.widgets.notices import Notices
from gui.widgets.page import Page
from gui.widgets.text import Text
from gui.words import breakable, size
from nexusnode.control.messages import (
    FileTarget,
    Finding,
    Findings,
    LogLines,
    LogQuery,
    Report,
    ReportFile,
    Written,
)

LOG_LINES = 500
LEVELS = ("debug", "info", "warning", "error")
_TONES = {"well": "accent", "note": "warn", "ill": "bad"}
_ORDER = ("ill", "note", "well")


class DiagnosticsPage(Page):
    """The page. It asks when it is opened, and again by its buttons; nothing runs by itself."""

    title = "Diagnostics"
    icon_name = "list"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._is_asked = False
        self._files: tuple[ReportFile, ...] = ()
        self.notices = Notices()
        self.body.addWidget(self.notices)
        self.body.addWidget(self._doctor_card())
        self.body.addWidget(self._log_card())
        self.body.addWidget(self._report_card())
        self.body.addStretch(1)

    def refresh(self) -> None:
        self.notices.show_connection(self.store)
        for button in (self._examine, self._reload, self._preview, self._level):
            button.setEnabled(self.store.is_connected)
        self._save.setEnabled(self.store.is_connected)
        if self.store.is_connected and not self._is_asked:
            self._is_asked = True
            self._ask_log()
            self._ask_doctor()
        elif not self.store.is_connected:
            self._is_asked = False

    def _doctor_card(self) -> Card:
        self._examine = QuietButton(self.tr("Examine again"))
        self._examine.clicked.connect(self._ask_doctor)
        card = Card(self.tr("Is everything well?"), self._examine)
        self._table = QGridLayout()
        self._table.setHorizontalSpacing(16)
        self._table.setVerticalSpacing(8)
        self._table.setColumnStretch(2, 1)
        self._unexamined = Text(self.tr("Not examined yet."), ROW, tone="text2", wrap=True)
        card.box.addWidget(self._unexamined)
        card.box.addLayout(self._table)
        return card

    def _log_card(self) -> Card:
        labels = {
            "debug": self.tr("Everything"),
            "info": self.tr("What happens"),
            "warning": self.tr("Warnings and errors"),
            "error": self.tr("Errors only"),
        }
        self._level = ChoiceField(self.tr("What the log shows"), LEVELS, labels)
        self._level.show_value("info")
        self._level.edited.connect(self._ask_log)
        self._reload = QuietButton(self.tr("Read again"))
        self._reload.setAccessibleName(self.tr("Read the log again"))
        self._reload.clicked.connect(self._ask_log)
        line = QHBoxLayout()
        line.setSpacing(12)
        line.addWidget(self._level)
        line.addStretch(1)
        line.addWidget(self._reload)
        card = Card(self.tr("Log"))
        card.box.addLayout(line)
        self._log = _reader(self.tr("Log"))
        self._log.setPlaceholderText(self.tr("Nothing of this kind was logged."))
        card.box.addWidget(self._log)
        return card

    def _report_card(self) -> Card:
        card = Card(self.tr("Report for someone who helps you"))
        card.box.addWidget(
            Text(
                self.tr(
                    "A zip file without keys, chats and other people's addresses. Nothing is sent"
                    " anywhere: you choose where it is saved and who gets it."
                ),
                ROW,
                tone="text2",
                wrap=True,
            )
        )
        self._preview = Button(self.tr("Show what it contains"))
        self._preview.clicked.connect(self._ask_preview)
        self._save = Button(self.tr("Save…"))
        self._save.setAccessibleName(self.tr("Save the report"))
        self._save.clicked.connect(self._on_save)
        self._save.hide()
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self._preview)
        buttons.addWidget(self._save)
        buttons.addStretch(1)
        self._file_row = QVBoxLayout()
        self._content = _reader(self.tr("Content of the report"))
        self._content.hide()
        self._saved = Note("")
        self._saved.hide()
        for item in (buttons, self._file_row):
            card.box.addLayout(item)
        card.box.addWidget(self._content)
        card.box.addWidget(self._saved)
        return card

    def _ask_log(self) -> None:
        pending = self.store.call("log.tail", LogQuery(LOG_LINES, str(self._level.value())))
        self._reload.while_pending(pending)
        pending.done.connect(self._show_log)
        pending.failed.connect(self._on_failed)

    def _show_log(self, log: LogLines) -> None:
        self._log.setPlainText("\n".join(log.lines))
        bar = self._log.verticalScrollBar()
        bar.setValue(bar.maximum())

    def _ask_doctor(self) -> None:
        self._unexamined.setText(self.tr("Examining…"))
        self._unexamined.show()
        pending = self.store.call("doctor")
        self._examine.while_pending(pending)
        pending.done.connect(self._show_findings)
        pending.failed.connect(self._on_no_doctor)

    def _on_no_doctor(self, code: str, sentence: str) -> None:
        self._unexamined.setText(self.tr("Not examined."))
        self._on_failed(code, sentence)

    def _show_findings(self, found: Findings) -> None:
        self._unexamined.hide()
        clear(self._table)
        ordered = sorted(found.findings, key=lambda finding: _rank(finding.status))
        for line, finding in enumerate(ordered):
            if line:
                self._table.addWidget(rule(), 2 * line - 1, 0, 1, 3)
            self._show_finding(2 * line, finding)

    def _show_finding(self, line: int, finding: Finding) -> None:
        words = {"well": self.tr("Well"), "note": self.tr("Note"), "ill": self.tr("Trouble")}
        badge = Badge()
        status = words.get(finding.status, finding.status)
        badge.show_text(status, _TONES.get(finding.status, "warn"))
        top = Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft
        self._table.addWidget(badge, line, 0, top)
        self._table.addWidget(Text(_sentence(finding.name), ROW, MEDIUM), line, 1, top)
        column = QVBoxLayout()
        column.setSpacing(2)
        column.addWidget(Text(_sentence(breakable(finding.finding)), ROW, wrap=True))
        more = " ".join(part for part in (finding.meaning, finding.advice) if part)
        if more and finding.status != "well":
            column.addWidget(Text(more, SMALL, tone="text2", wrap=True))
        self._table.addLayout(column, line, 2)

    def _ask_preview(self) -> None:
        pending = self.store.call("diagnostics.preview")
        self._preview.while_pending(pending, self.tr("Collecting…"))
        pending.done.connect(self._show_preview)
        pending.failed.connect(self._on_failed)

    def _show_preview(self, report: Report) -> None:
        self.notices.show_refusal("")
        self._files = report.files
        clear(self._file_row)
        names = tuple(file.name for file in report.files)
        labels = {file.name: f"{file.name} ({size(file.bytes)})" for file in report.files}
        choice = ChoiceField(self.tr("File of the report"), names, labels)
        choice.edited.connect(self._show_file)
        self._file_row.addWidget(choice, 0, Qt.AlignmentFlag.AlignLeft)
        if names:
            self._show_file(names[0])
        self._content.setVisible(bool(report.files))
        self._save.setVisible(bool(report.files))

    def _show_file(self, name: str) -> None:
        file = next(file for file in self._files if file.name == name)
        is_whole = len(file.text.encode()) >= file.bytes
        end = "" if is_whole else self.tr("\n… the rest of the file is of the same kind.")
        self._content.setPlainText(file.text + end)
        self._content.setAccessibleDescription(file.name)

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, self.tr("Save the report"), "nexus-report.zip", "Zip (*.zip)"
        )
        if path:
            self.write_report(path)

    def write_report(self, path: str) -> None:
        """Have the daemon write the report where the user has chosen."""
        pending = self.store.call("diagnostics.write", FileTarget(path))
        self._save.while_pending(pending, self.tr("Saving…"))
        pending.done.connect(self._on_written)
        pending.failed.connect(self._on_failed)

    def _on_written(self, written: Written) -> None:
        words = self.tr("Saved: {path} ({size}).")
        self._saved.show_text(words.format(path=written.path, size=size(written.bytes)))
        self._saved.show()
        self.notices.show_refusal("")

    def _on_failed(self, code: str, sentence: str) -> None:
        self.notices.show_refusal(sentence)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _rank(status: str) -> int:
    return _ORDER.index(status) if status in _ORDER else 0


def _reader(name: str) -> QPlainTextEdit:
    """Return a box of text that is read and copied, never wrapped or edited."""
    box = QPlainTextEdit()
    box.setReadOnly(True)
    box.setTabChangesFocus(True)
    box.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
    box.setAccessibleName(name)
    box.setMinimumHeight(theme().px(220))
    box.setTextInteractionFlags(
        Qt.TextInteractionFlag.TextSelectableByMouse
        | Qt.TextInteractionFlag.TextSelectableByKeyboard
    )
    return box
