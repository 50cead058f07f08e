"""Settings: looks, start, hosts, disk, privacy, licences, and everything back to its default."""

from PySide6.QtCore import Qt, QTimer, qVersion
from PySide6.QtWidgets import QFileDialog, QMessageBox, QVBoxLayout

from gui import appearance
from gui.screens.form import Entry, FormPage, current
from gui.store import Store
from gui.theme.theme import MAX_PERCENT, MIN_PERCENT
from gui.theme.tokens import MEDIUM, ROW
from gui.widgets.buttons import Button
from gui.widgets.card import Card, rule
from gui.widgets.fields import ChoiceField, NumberField, clear, value_of
from gui.widgets.row import Row
from gui.widgets.switch import Switch
from gui.widgets.text import Text
from gui.words import UNKNOWN, breakable, size
from nexusnode.control.messages import Autostart, FileTarget, SettingView, Storage, Written
from p2p.settings import Value

_TEXT_SIZE = SettingView("text", "int", "100", "100", "", MIN_PERCENT, MAX_PERCENT, (), True)
_LICENCES = (
    ("Nexus", "Apache-2.0"),
    ("Qt, PySide6, shiboken6", "LGPL-3.0"),
    ("llama.cpp, ggml", "MIT"),
    ("SmolLM2 draft model", "Apache-2.0"),
    ("Inter", "OFL-1.1"),
)


class SettingsPage(FormPage):
    """The page. Looks are the window's own and work without a node."""

    title = "Settings"
    icon_name = "gear"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._is_asked = False

    def build(self, box: QVBoxLayout) -> None:
        box.addWidget(self._looks_card())
        box.addWidget(self._start_card())
        hosts = Card(self.tr("How hosts are found"), gap=8)
        if self.form.add(self._host_entries(), hosts.box):
            box.addWidget(hosts)
        box.addWidget(self._storage_card())
        box.addWidget(self._privacy_card())
        box.addWidget(self._about_card())
        box.addWidget(self._reset_card())
        self._is_asked = False

    def show_values(self) -> None:
        is_connected = self.store.is_connected
        snapshot = self.store.snapshot
        self._autostart.setEnabled(is_connected and snapshot is not None)
        if snapshot is not None:
            self._autostart.setChecked(snapshot.autostart)
        for button in (self._export, self._reset):
            button.setEnabled(is_connected)
        self._show_addresses()
        version = self.store.version if is_connected else UNKNOWN
        self._version.setText(
            self.tr("Window {own} · node {node} · Qt {qt}").format(
                own=self.store.own_version, node=version, qt=qVersion()
            )
        )
        if not is_connected:
            self._is_asked = False
            self._free.setEnabled(False)
        elif not self._is_asked:
            self._is_asked = True
            self._ask("storage")

    def _looks_card(self) -> Card:
        card = Card(self.tr("Looks"), gap=8)
        choice, percent = appearance.chosen()
        labels = {
            "system": self.tr("As the desktop"),
            "light": self.tr("Light"),
            "dark": self.tr("Dark"),
        }
        self._theme = ChoiceField(self.tr("Theme"), appearance.CHOICES, labels)
        self._theme.show_value(choice)
        self._size = NumberField(self.tr("Text size"), _TEXT_SIZE, "%")
        self._size.show_value(percent)
        # Restyling ends the press of the very control that asked for it: after the event.
        for field in (self._theme, self._size):
            field.edited.connect(lambda _: QTimer.singleShot(0, self, self._choose_looks))
        card.box.addWidget(Row(self.tr("Theme"), self._theme))
        card.box.addWidget(rule())
        card.box.addWidget(Row(self.tr("Text size"), self._size))
        return card

    def _choose_looks(self) -> None:
        percent = self._size.value()
        assert isinstance(percent, int)
        appearance.choose(str(self._theme.value()), percent)

    def _start_card(self) -> Card:
        card = Card(self.tr("Start"), gap=8)
        self._autostart = Switch()
        self._autostart.clicked.connect(self._on_autostart)
        card.box.addWidget(
            Row(
                self.tr("Start when you log in"),
                self._autostart,
                self.tr("Off until you switch it on. No update ever changes this."),
            )
        )
        return card

    def _storage_card(self) -> Card:
        self._free = Button(self.tr("Free up space"))
        self._free.clicked.connect(lambda: self._ask("storage.free"))
        card = Card(self.tr("Disk"), gap=8)
        self._folders = QVBoxLayout()
        self._folders.setSpacing(8)
        self._folders.addWidget(
            Text(self.tr("Not known while the node is not answering."), ROW, tone="text2")
        )
        card.box.addLayout(self._folders)
        card.box.addWidget(rule())
        card.box.addWidget(
            Row(
                self.tr("Unfinished downloads"),
                self._free,
                self.tr("Throws away what was fetched in part. Whole models stay."),
            )
        )
        self._export = Button(self.tr("Save…"))
        self._export.clicked.connect(self._on_export)
        self._statistics = Row(self.tr("Statistics as a table (CSV)"), self._export)
        self._export.setAccessibleName(self.tr("Save the statistics"))
        card.box.addWidget(rule())
        card.box.addWidget(self._statistics)
        return card

    def _privacy_card(self) -> Card:
        card = Card(self.tr("Privacy"), gap=8)
        words = self.tr("Every address that Nexus may contact:")
        card.box.addWidget(Text(words, ROW, MEDIUM, wrap=True))
        self._addresses = Text("", ROW, wrap=True)
        self._addresses.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        card.box.addWidget(self._addresses)
        card.box.addWidget(
            Text(
                self.tr(
                    "There is no telemetry and no check for updates. Hosts see the address of your"
                    " internet connection, as every server does. Statistics stay on this computer."
                ),
                ROW,
                tone="text2",
                wrap=True,
            )
        )
        return card

    def _about_card(self) -> Card:
        card = Card(self.tr("About"), gap=8)
        self._version = Text("", ROW, wrap=True)
        card.box.addWidget(self._version)
        card.box.addWidget(rule())
        for name, licence in _LICENCES:
            card.box.addWidget(Row(name, Text(licence, ROW, tone="text2")))
        words = self.tr("Full texts lie beside the program, in THIRD_PARTY_NOTICES.md.")
        card.box.addWidget(Text(words, ROW, tone="text2", wrap=True))
        return card

    def _reset_card(self) -> Card:
        card = Card(self.tr("Start over"), gap=8)
        self._reset = Button(self.tr("Reset…"))
        self._reset.clicked.connect(self._on_reset)
        row = Row(
            self.tr("All settings back to their defaults"),
            self._reset,
            self.tr("Models, statistics and the key of the chat stay."),
        )
        self._reset.setAccessibleName(self.tr("Reset all settings"))
        card.box.addWidget(row)
        return card

    def _on_autostart(self) -> None:
        pending = self.store.call("autostart", Autostart(self._autostart.isChecked()))
        pending.done.connect(lambda _: self.notices.show_refusal(""))
        pending.failed.connect(self._on_no_autostart)

    def _on_no_autostart(self, code: str, sentence: str) -> None:
        if self.store.snapshot is not None:
            self._autostart.setChecked(self.store.snapshot.autostart)
        self.notices.show_refusal(sentence)

    def _ask(self, method: str) -> None:
        pending = self.store.call(method)
        pending.done.connect(self._show_storage)
        pending.failed.connect(lambda _, sentence: self.notices.show_refusal(sentence))

    def _show_storage(self, storage: Storage) -> None:
        clear(self._folders)
        names = {
            "models": self.tr("Models"),
            "logs": self.tr("Log"),
            "data": self.tr("Statistics and identity"),
            "settings": self.tr("Settings"),
        }
        partial_bytes = 0
        for folder in storage.folders:
            words = Text(size(folder.bytes), ROW, tabular=True)
            name = names.get(folder.name, folder.name)
            row = Row(name, words, breakable(folder.path))
            words.setAccessibleName(f"{name}: {words.text()}")
            self._folders.addWidget(row)
            partial_bytes += folder.partial_bytes
        if partial_bytes:
            self._free.set_text(self.tr("Free {size}").format(size=size(partial_bytes)))
        else:
            self._free.set_text(self.tr("Nothing to free"))
        self._free.setEnabled(bool(partial_bytes) and self.store.is_connected)

    def _on_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, self.tr("Save the statistics"), "nexus-statistics.csv", "CSV (*.csv)"
        )
        if path:
            self.export(path)

    def export(self, path: str) -> None:
        """Have the daemon write its history where the user has chosen."""
        pending = self.store.call("history.export", FileTarget(path))
        self._export.while_pending(pending, self.tr("Saving…"))
        pending.done.connect(self._on_exported)
        pending.failed.connect(lambda _, sentence: self.notices.show_refusal(sentence))

    def _on_exported(self, written: Written) -> None:
        self.notices.show_refusal("")
        words = self.tr("Saved: {path} ({size}).")
        self._statistics.set_hint(words.format(path=written.path, size=size(written.bytes)))

    def _show_addresses(self) -> None:
        bootstrap = current(self.store, "hosts.bootstrap")
        chat = current(self.store, "chat.url")
        hosts = self.store.snapshot.hosts if self.store.snapshot else ()
        entry = ", ".join(bootstrap) if isinstance(bootstrap, tuple) else ""
        lines = [
            self.tr("Entry points, to find hosts: {addresses}").format(
                addresses=entry or self.tr("none set")
            ),
            self.tr("Hosts you draft for: {addresses}").format(
                addresses=", ".join(host.address for host in hosts) or self.tr("none now")
            ),
            self.tr("huggingface.co, only when you press Get, and any address you enter there"),
            self.tr("The host of your chat, only when you chat: {address}").format(
                address=chat or self.tr("none set")
            ),
        ]
        self._addresses.setText(breakable("\n".join(f"• {line}" for line in lines)))

    def _on_reset(self) -> None:
        answer = QMessageBox.question(
            self,
            self.tr("Reset all settings"),
            self.tr("Put every setting back to its default? The node keeps its models."),
        )
        if answer == QMessageBox.StandardButton.Yes:
            self.reset()

    def reset(self) -> None:
        """Send the default of every setting that differs from it; models stay where they are."""
        rows = self.store.schema.rows if self.store.schema else ()
        changed: dict[str, Value] = {
            row.key: value_of(row.default)
            for row in rows
            if row.key != "models.folder" and current(self.store, row.key) != value_of(row.default)
        }
        if changed:
            self.form.send(changed)

    def _host_entries(self) -> list[Entry]:
        return [
            Entry(
                "hosts.bootstrap",
                self.tr("Entry points"),
                self.tr("Peers through which hosts are found. Whoever runs a host names one."),
                placeholder="/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…",
            ),
            Entry(
                "hosts.allow",
                self.tr("Only these hosts"),
                self.tr("Ids of the only hosts to draft for. Empty: every host that asks."),
                placeholder="12D3KooW…",
            ),
        ]
