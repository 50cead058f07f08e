"""Models: what this computer can draft with, fetched, chosen and thrown away here."""

from functools import partial

from PySide6.QtCore import QCoreApplication, Qt, Signal
from PySide6.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QVBoxLayout,
)

from gui.store import Pending, Store
from gui.theme.tokens import BODY, MEDIUM, ROW, SMALL, STRONG
from gui.widgets.badge import Badge
from gui.widgets.buttons import Button, QuietButton
from gui.widgets.card import Card
from gui.widgets.fields import clear
from gui.widgets.note import Note
from gui.widgets.notices import Notices
from gui.widgets.page import Page
from gui.widgets.row import Row
from gui.widgets.text import Text
from gui.words import breakable, lasting, plural, size
from nexusnode.control.messages import (
    ModelMove,
    ModelName,
    ModelPull,
    Models,
    ModelView,
    Pair,
    SettingsPatch,
)
from p2p.settings import toml_value

_FITS = {"fits": "accent", "tight": "warn", "no": "bad"}
_HASH_CHARACTERS = 64


class ModelsPage(Page):
    """The page. Cards are kept by name, so that a download does not take the focus away."""

    title = "Models"
    icon_name = "cube"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.notices = Notices()
        self._advice = Note("")
        self._cards: dict[str, ModelCard] = {}
        self._list = QVBoxLayout()
        self._list.setSpacing(12)
        self._empty = Text(self.tr("No model is known yet."), BODY, tone="text2", wrap=True)
        for widget in (self.notices, self._advice):
            self.body.addWidget(widget)
        self.body.addLayout(self._list)
        self.body.addWidget(self._empty)
        self.body.addWidget(self._pull_card())
        self.body.addWidget(self._folder_card())
        self.body.addStretch(1)

    def refresh(self) -> None:
        models = self.store.models
        self.notices.show_connection(self.store)
        needs = self.store.settings.needs_restart if self.store.settings else ()
        self.notices.show_restart([self.tr("the chosen model")] if "models.draft" in needs else [])
        self._show_advice(models)
        self._empty.setVisible(not (models and models.models))
        for widget in (self._source, self._hash, self._get, self._move):
            widget.setEnabled(self.store.is_connected)
        if models is None:
            return
        self._folder.set_hint(
            self.tr("{folder}\n{free} free on this disk").format(
                folder=breakable(models.folder), free=size(models.free_bytes)
            )
        )
        names = [model.name for model in models.models]
        if names != list(self._cards):
            clear(self._list)
            self._cards = {name: self._card(name) for name in names}
        for model in models.models:
            self._cards[model.name].show_model(model, self.store.is_connected)

    def _card(self, name: str) -> "ModelCard":
        card = ModelCard()
        card.asked.connect(partial(self._on_asked, name))
        self._list.addWidget(card)
        return card

    def _show_advice(self, models: Models | None) -> None:
        known = {model.name: model for model in models.models} if models else {}
        best = known.get(models.recommended) if models else None
        self._advice.setVisible(best is not None and not best.is_active)
        if models is not None and best is not None:
            words = self.tr("Recommended: {name}. {reason}")
            self._advice.show_text(
                words.format(name=models.recommended, reason=models.recommended_reason)
            )

    def _pull_card(self) -> Card:
        card = Card(self.tr("Another model"), gap=8)
        self._source = QLineEdit()
        self._source.setPlaceholderText(self.tr("owner/repository/file.gguf or https://…"))
        self._source.setMinimumWidth(320)
        self._source.textChanged.connect(self._show_hash)
        self._source.returnPressed.connect(self._on_get)
        self._hash = QLineEdit()
        self._hash.setPlaceholderText(self.tr("64 characters, from the publisher"))
        self._hash.setMinimumWidth(320)
        self._hash.returnPressed.connect(self._on_get)
        self._hash_row = Row(
            self.tr("SHA-256"),
            self._hash,
            self.tr("An address alone proves nothing: what arrives is checked against this."),
        )
        self._get = Button(self.tr("Get"))
        self._get.setAccessibleName(self.tr("Get this model"))
        self._get.clicked.connect(self._on_get)
        card.box.addWidget(
            Row(
                self.tr("From Hugging Face, or by address"),
                self._source,
                self.tr("A GGUF file of the family that your hosts run."),
            )
        )
        card.box.addWidget(self._hash_row)
        card.box.addWidget(self._get, 0, Qt.AlignmentFlag.AlignRight)
        self._show_hash("")
        return card

    def _folder_card(self) -> Card:
        card = Card(self.tr("Where models are kept"), gap=8)
        self._move = Button(self.tr("Move…"))
        self._folder = Row(self.tr("Folder"), self._move)
        self._move.setAccessibleName(self.tr("Move the models to another folder"))
        self._move.clicked.connect(self._on_move)
        card.box.addWidget(self._folder)
        return card

    def _show_hash(self, source: str) -> None:
        self._hash_row.setVisible("://" in source)

    def _on_get(self) -> None:
        source, sha256 = self._source.text().strip(), self._hash.text().strip().lower()
        is_address = "://" in source
        if not source:
            self.notices.show_refusal(self.tr("Write which model: a name or an address."))
        elif is_address and len(sha256) != _HASH_CHARACTERS:
            self.notices.show_refusal(self.tr("An address needs its SHA-256, 64 characters."))
        else:
            pull = ModelPull(source, sha256 if is_address else "")
            self._get.while_pending(self._ask("models.pull", pull, clear_form=True))

    def _on_asked(self, name: str, method: str) -> None:
        params: object = ModelName(name)
        if method == "models.pull":
            params = ModelPull(name, "")
        elif method == "settings.set":
            params = SettingsPatch((Pair("models.draft", toml_value(name)),), None)
        elif method == "models.delete" and not self._is_sure(name):
            return
        pending = self._ask(method, params)
        if (button := self._cards[name].buttons().get(method)) is not None:
            button.while_pending(pending)

    def _on_move(self) -> None:
        start = self.store.models.folder if self.store.models else ""
        folder = QFileDialog.getExistingDirectory(self, self.tr("Where to keep models"), start)
        if folder:
            pending = self._ask("models.move", ModelMove(folder))
            self._move.while_pending(pending, self.tr("Moving…"))

    def _is_sure(self, name: str) -> bool:
        words = self.tr("Delete {name}? It can be downloaded again.").format(name=name)
        answer = QMessageBox.question(self, self.tr("Delete a model"), words)
        return answer == QMessageBox.StandardButton.Yes

    def _ask(self, method: str, params: object, clear_form: bool = False) -> Pending:
        def done(_: object) -> None:
            self.notices.show_refusal("")
            if clear_form:
                self._source.clear()
                self._hash.clear()
            if method == "settings.set":
                self.store.call("models.list")

        pending = self.store.call(method, params)
        pending.done.connect(done)
        pending.failed.connect(lambda _, sentence: self.notices.show_refusal(sentence))
        return pending


class ModelCard(Card):
    """One model. `asked` carries the method of the control API that its button stands for."""

    asked = Signal(str)

    def __init__(self) -> None:
        super().__init__(padding=16, gap=8)
        self._shown: tuple[ModelView, bool] | None = None
        self._name = Text("", BODY, STRONG, wrap=True)
        self._fit = Badge()
        self._use = Badge()
        self._facts = Text("", ROW, tone="text2", wrap=True)
        self._reason = Text("", SMALL, tone="text2", wrap=True)
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._progress = Text("", SMALL, MEDIUM, "text2", wrap=True, tabular=True)
        self._buttons: dict[str, Button] = {}
        self._button_row = QHBoxLayout()
        self._button_row.setSpacing(8)
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self._name, 1)
        head.addWidget(self._use)
        head.addWidget(self._fit)
        line = QHBoxLayout()
        line.setSpacing(16)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(self._facts)
        words.addWidget(self._reason)
        line.addLayout(words, 1)
        line.addLayout(self._button_row)
        self.box.addLayout(head)
        self.box.addLayout(line)
        self.box.addWidget(self._bar)
        self.box.addWidget(self._progress)

    def show_model(self, model: ModelView, is_connected: bool) -> None:
        if self._shown == (model, is_connected):
            return
        self._shown = (model, is_connected)
        self._name.setText(breakable(model.name))
        self.setAccessibleName(model.name)
        self._fit.show_text(self._fit_words(model.fit), _FITS.get(model.fit, "warn"))
        self._use.setVisible(model.is_active)
        self._use.show_text(self.tr("In use"), "accent")
        self._facts.setText(" · ".join(self._facts_of(model)))
        is_broken = model.state == "failed"
        self._reason.setText((model.reason if is_broken else "") or model.fit_reason)
        self._reason.set_tone("bad" if is_broken else "text2")
        self._reason.setVisible(bool(self._reason.text()))
        self._show_progress(model, is_connected)
        self._show_buttons(model, is_connected)

    def buttons(self) -> dict[str, Button]:
        """Return what can be asked now, by method."""
        return dict(self._buttons)

    def _facts_of(self, model: ModelView) -> list[str]:
        facts = [model.family] if model.family else []
        if model.file_bytes:
            facts.append(size(model.file_bytes))
        if model.speed is not None:
            facts.append(self.tr("{speed} tokens/s here").format(speed=f"{model.speed:.0f}"))
        if model.hosts:
            wanted = self.tr("wanted by {hosts}").format(hosts=plural("host", model.hosts))
        else:
            wanted = self.tr("no host wants it now")
        facts.append(wanted)
        if model.licence:
            facts.append(model.licence)
        if model.is_bundled:
            facts.append(self.tr("came with Nexus"))
        return facts

    def _show_progress(self, model: ModelView, is_connected: bool) -> None:
        is_partial = model.state in ("loading", "paused") or (
            model.state == "failed" and model.done_bytes > 0
        )
        self._bar.setVisible(is_partial)
        self._progress.setVisible(is_partial)
        if not is_partial:
            return
        per_mille = round(1000 * model.done_bytes / model.file_bytes) if model.file_bytes else 0
        self._bar.setRange(0, 1000)
        self._bar.setValue(min(per_mille, 1000))
        parts = [f"{size(model.done_bytes)} / {size(model.file_bytes)}"]
        if model.state == "loading" and is_connected:
            parts.append(f"{size(model.bytes_per_second)}/s")
            if model.seconds_left is not None:
                left = lasting(model.seconds_left)
                parts.append(self.tr("{time} left").format(time=left))
        elif model.state == "paused":
            parts.append(self.tr("paused"))
        self._progress.setText(" · ".join(parts))
        self._bar.setAccessibleName(f"{model.name}: {self._progress.text()}")

    def _show_buttons(self, model: ModelView, is_connected: bool) -> None:
        wanted = _actions(model)
        if wanted != tuple(self._buttons):
            had_focus = any(button.hasFocus() for button in self._buttons.values())
            clear(self._button_row)
            self._buttons = {method: self._button(method) for method in wanted}
            if had_focus and self._buttons:
                next(iter(self._buttons.values())).setFocus()
        for method, button in self._buttons.items():
            words = self._method_words(method)
            button.setAccessibleName(f"{words}: {model.name}")
            button.setEnabled(is_connected and (method != "models.pull" or model.fit != "no"))

    def _button(self, method: str) -> Button:
        is_flat = method in ("models.delete", "models.cancel")
        button = (QuietButton if is_flat else Button)(self._method_words(method))
        button.clicked.connect(lambda: self.asked.emit(method))
        self._button_row.addWidget(button)
        return button

    def _method_words(self, method: str) -> str:
        return {
            "models.pull": self.tr("Get"),
            "models.pause": self.tr("Pause"),
            "models.resume": self.tr("Resume"),
            "models.cancel": self.tr("Cancel"),
            "models.delete": self.tr("Delete"),
            "settings.set": self.tr("Use"),
        }[method]

    def _fit_words(self, fit: str) -> str:
        words = {"fits": self.tr("Fits"), "tight": self.tr("Tight"), "no": self.tr("Does not fit")}
        return words.get(fit, QCoreApplication.translate("pages", "Not known"))


def _actions(model: ModelView) -> tuple[str, ...]:
    """Return what can be done with a model, main thing first."""
    match model.state:
        case "absent":
            return ("models.pull",)
        case "loading":
            return ("models.pause", "models.cancel")
        case "paused" | "failed":
            return ("models.resume", "models.cancel")
        case "ready" if model.is_active:
            return ()
        case "ready":
            return ("settings.set",) if model.is_bundled else ("settings.set", "models.delete")
        case _:
            return ()
