"""Rows of the daemon's table of settings as rows of a page: shown, edited, sent, put back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QVBoxLayout

from gui.store import Store
from gui.theme.tokens import GAP, ROW
from gui.widgets.card import rule
from gui.widgets.fields import (
    ChoiceField,
    Field,
    ListField,
    NumberField,
    SwitchField,
    TextField,
    clear,
    value_of,
)
from gui.widgets.notices import Notices
from gui.widgets.page import Page
from gui.widgets.row import Row
from gui.widgets.text import Text
from nexusnode.control.messages import Pair, SettingsPatch, SettingView
from p2p.settings import Value, toml_value


@dataclass(frozen=True, slots=True)
class Entry:
    """How one key is shown. `zero` are the words for 0; `labels` those for its choices."""

    key: str
    title: str
    hint: str = ""
    unit: str = ""
    zero: str = ""
    placeholder: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def has_key(store: Store, key: str) -> bool:
    """Whether this daemon knows the setting; what it does not know is not shown."""
    return row_of(store, key) is not None


def row_of(store: Store, key: str) -> SettingView | None:
    rows = store.schema.rows if store.schema else ()
    return next((row for row in rows if row.key == key), None)


def current(store: Store, key: str) -> Value | None:
    """Return a setting's value, None while it is not known."""
    text = store.setting(key)
    if text is None and (row := row_of(store, key)) is not None:
        text = row.value
    return None if text is None else value_of(text)


class Form(QObject):
    """Binds fields to keys. `refused` says why a change was not taken, "" once one was."""

    refused = Signal(str)

    def __init__(self, store: Store, parent: QObject) -> None:
        super().__init__(parent)
        self._store = store
        self._fields: dict[str, Field] = {}
        self._rows: dict[str, Row] = {}
        self._titles: dict[str, str] = {}

    def add(self, entries: Sequence[Entry], box: QVBoxLayout) -> int:
        """Add a row to `box` for each entry that the daemon knows; return how many."""
        count = 0
        for entry in entries:
            row = row_of(self._store, entry.key)
            if row is None:
                continue
            if count:
                box.addWidget(rule())
            field = field_for(row, entry)
            self.bind(entry.key, field)
            self._titles[entry.key] = entry.title
            if isinstance(field, ListField):
                box.addWidget(Text(entry.hint or entry.title, ROW, tone="text2", wrap=True))
                box.addWidget(field)
            else:
                self._rows[entry.key] = Row(entry.title, field, entry.hint)
                box.addWidget(self._rows[entry.key])
            count += 1
        return count

    def bind(self, key: str, field: Field) -> None:
        self._fields[key] = field
        field.edited.connect(partial(self._send, key))
        self._show(key)

    def row(self, key: str) -> Row | None:
        return self._rows.get(key)

    def waiting(self) -> list[str]:
        """Return the titles of what takes effect at the node's next start only."""
        needs = self._store.settings.needs_restart if self._store.settings else ()
        return [title for key, title in self._titles.items() if key in needs]

    def refresh(self) -> None:
        """Show what the daemon has, where the user is not just changing it."""
        for key, field in self._fields.items():
            field.setEnabled(self._store.is_connected)
            self._show(key)

    def send(self, values: dict[str, Value]) -> None:
        """Send values together: the daemon takes all or none."""
        pairs = tuple(Pair(key, toml_value(value)) for key, value in values.items())
        pending = self._store.call("settings.set", SettingsPatch(pairs, None))
        pending.done.connect(lambda _: self.refused.emit(""))
        pending.failed.connect(partial(self._on_failed, tuple(values)))

    def _send(self, key: str, value: Value) -> None:
        self.send({key: value})

    def _on_failed(self, keys: tuple[str, ...], code: str, sentence: str) -> None:
        for key in keys:
            self._show(key, is_sure=True)
        self.refused.emit(sentence)

    def _show(self, key: str, is_sure: bool = False) -> None:
        value = current(self._store, key)
        if value is not None and key in self._fields:
            self._fields[key].show_value(value, is_sure)


def field_for(row: SettingView, entry: Entry) -> Field:
    """Return the control that suits the row's kind."""
    if row.choices:
        return ChoiceField(entry.title, row.choices, dict(entry.labels))
    match row.kind:
        case "bool":
            return SwitchField(entry.title)
        case "int" | "float":
            return NumberField(entry.title, row, entry.unit, entry.zero)
        case "list":
            return ListField(entry.title, entry.placeholder)
        case _:
            return TextField(entry.title, entry.placeholder)


class FormPage(Page):
    """A page of settings: built anew when the daemon's table changes, then kept up to date."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.notices = Notices()
        self.body.addWidget(self.notices)
        self._content = QVBoxLayout()
        self._content.setSpacing(GAP)
        self.body.addLayout(self._content)
        self.body.addStretch(1)
        self._built_from: tuple[SettingView, ...] | None = None
        self.form = Form(store, self)

    def build(self, box: QVBoxLayout) -> None:
        """Add the cards to `box`, bound to `self.form`."""
        raise NotImplementedError

    def show_values(self) -> None:
        """Show what is no plain setting."""

    def refresh(self) -> None:
        self.notices.show_connection(self.store)
        table = self.store.schema.rows if self.store.schema else ()
        shape = tuple(replace(row, value="") for row in table)
        if shape != self._built_from:
            self._built_from = shape
            clear(self._content)
            self.form.deleteLater()
            self.form = Form(self.store, self)
            self.form.refused.connect(self.notices.show_refusal)
            self.build(self._content)
        self.form.refresh()
        self.notices.show_restart(self.form.waiting())
        self.show_values()
