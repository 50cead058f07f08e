"""The five steps of the wizard. They change `Answers` and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QCoreApplication
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QVBoxLayout, QWidget

from gui.presets import FULL, NORMAL, PRESETS, QUIET
from gui.screens.checklist import length
from gui.screens.hosts import device_text
from gui.store import Store
from gui.theme.tokens import BODY, MEDIUM, PLAIN, ROW, STATE, STRONG
from gui.widgets.buttons import Radio, Tick
from gui.widgets.card import Card
from gui.widgets.note import Note
from gui.widgets.text import Icon, Text
from nexusnode.control.messages import IdleTest, Models, Pair

GB = 1 << 30
IDLE, GENTLY, HOURS = "idle", "gently", "hours"
GENTLE_DUTY = 0.3


@dataclass(slots=True)
class Answers:
    """What the user has chosen so far. `model` is a name to fetch, "" = the bundled one."""

    when: str = IDLE
    preset: str = NORMAL
    model: str = ""
    autostart: bool = False


class Step(QWidget):
    def __init__(self, store: Store, answers: Answers, title: str) -> None:
        super().__init__()
        self.store = store
        self.answers = answers
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(12)
        self.column.addWidget(Text(title, STATE, STRONG, wrap=True))
        self.setAccessibleName(title)

    def refresh(self) -> None:
        """Show what the store holds now."""

    def add(self, text: str, tone: str = "text2") -> Text:
        label = Text(text, BODY, PLAIN, tone, wrap=True)
        self.column.addWidget(label)
        return label


class Choices(Card):
    """Radio buttons, each with a sentence."""

    def __init__(self, options: Sequence[tuple[str, str, str]]) -> None:
        super().__init__(padding=16, gap=4)
        self.buttons: dict[str, Radio] = {}
        self.sentences: dict[str, Text] = {}
        self._group = QButtonGroup(self)
        for key, text, said in options:
            self.buttons[key] = button = Radio(text)
            button.setAccessibleDescription(said)
            self._group.addButton(button)
            self.sentences[key] = Text(said, ROW, PLAIN, "text2", wrap=True)
            self.sentences[key].setContentsMargins(34, 0, 0, 6)
            self.box.addWidget(button)
            self.box.addWidget(self.sentences[key])


class Welcome(Step):
    def __init__(self, store: Store, answers: Answers) -> None:
        super().__init__(store, answers, _tr("Lend your computer's spare time to open AI"))
        self.add(
            _tr(
                "Large language models answer slowly because they work word by word. Your computer"
                " runs a small model that guesses the next words; the large one checks many guesses"
                " at once. What it says stays exactly the same, it only comes faster."
            )
        )
        card = Card(padding=16, gap=10)
        for icon, text in (
            ("plug", _tr("It costs power: about as much as a game that runs quietly.")),
            ("wifi", _tr("It uses little data: some megabytes an hour, 10 GB a day at most.")),
            ("keyboard", _tr("It stops within 2 seconds when you come back.")),
        ):
            card.box.addLayout(_said(icon, "accent", text))
        self.column.addWidget(card)
        never = Card(_tr("What it never does"), padding=16, gap=10)
        for text in (
            _tr("It never reads your files, your keys or your screen."),
            _tr("It sends nothing about you: no statistics, no search for updates."),
            _tr("It never starts with your computer unless you switch that on."),
        ):
            never.box.addLayout(_said("cross", "text2", text))
        self.column.addWidget(never)
        self.column.addStretch(1)


class Computer(Step):
    def __init__(self, store: Store, answers: Answers) -> None:
        super().__init__(store, answers, _tr("This computer"))
        card = Card(padding=16, gap=10)
        self._device = Text("", BODY, MEDIUM, wrap=True)
        self._memory = Text("", ROW, PLAIN, "text2", wrap=True)
        row = QHBoxLayout()
        row.setSpacing(10)
        row.addWidget(Icon("chip", "text2", 20))
        row.addWidget(self._device, 1)
        card.box.addLayout(row)
        card.box.addWidget(self._memory)
        self.column.addWidget(card)
        bundled = _tr("Starts at once, needs no download. Helps hosts of the SmolLM2 family.")
        self.models = Choices(
            (
                ("bundled", _tr("Use the small bundled model"), bundled),
                ("recommended", _tr("Fetch the recommended model"), ""),
            )
        )
        self.models.buttons["bundled"].setChecked(True)
        self.models.buttons["recommended"].toggled.connect(self._choose)
        self.column.addWidget(self.models)
        self.column.addStretch(1)

    def refresh(self) -> None:
        meters = self.store.meters
        if meters is None:
            self._device.setText(_tr("Waiting for the node to start…"))
            self._memory.setText(_tr("This takes a few seconds the first time."))
        else:
            self._device.setText(device_text(meters.device))
            free, total = (b / GB for b in (meters.memory_free_bytes, meters.memory_total_bytes))
            self._memory.setText(
                _tr("{0} of {1} GB memory free").format(f"{free:.1f}", f"{total:.0f}")
            )
        self._show_recommended(self.store.models)

    def _show_recommended(self, models: Models | None) -> None:
        name = _to_fetch(models)
        self.models.buttons["recommended"].setVisible(bool(name))
        self.models.sentences["recommended"].setVisible(bool(name))
        if models is None or not name:
            return
        size = next(m.file_bytes for m in models.models if m.name == name) / 1e6
        words = _tr("{0}, {1} MB. {2} The bundled one runs until it is here.")
        said = words.format(name, f"{size:.0f}", models.recommended_reason)
        self.models.sentences["recommended"].setText(said)
        self.models.buttons["recommended"].setAccessibleDescription(said)

    def _choose(self, is_on: bool) -> None:
        self.answers.model = _to_fetch(self.store.models) if is_on else ""


class When(Step):
    def __init__(self, store: Store, answers: Answers) -> None:
        super().__init__(store, answers, _tr("When may it run?"))
        away = _tr("Recommended. It starts after 5 minutes without mouse or keyboard.")
        gently = _tr("Always, but it rests most of the time so that you notice nothing.")
        hours = _tr("At hours of the week that you pick on the page “When to run”.")
        self.when = Choices(
            (
                (IDLE, _tr("Only while I am away"), away),
                (GENTLY, _tr("Also while I work, gently"), gently),
                (HOURS, _tr("Let me choose"), hours),
            )
        )
        self.when.buttons[IDLE].setChecked(True)
        for key, button in self.when.buttons.items():
            button.toggled.connect(lambda is_on, key=key: self._choose(key, is_on))
        self.column.addWidget(self.when)
        self.proof = Note(_tr("Looking how this computer tells that you are away…"), "warn")
        self.column.addWidget(self.proof)
        self.column.addStretch(1)

    def show_idle(self, test: IdleTest) -> None:
        """Prove the detector: the line counts while the user sits still."""
        if test.detector and test.idle_seconds is not None:
            words = _tr("We can see that you moved the mouse or typed {0} ago ({1}).")
            self.proof.show_text(words.format(length(test.idle_seconds), test.detector), "accent")
            return
        words = _tr("{0} Choose hours instead: without this it would stay paused.")
        why = test.why_not or _tr("This desktop does not say when you are away.")
        self.proof.show_text(words.format(why), "warn")

    def _choose(self, key: str, is_on: bool) -> None:
        if is_on:
            self.answers.when = key


class Limits(Step):
    def __init__(self, store: Store, answers: Answers) -> None:
        super().__init__(store, answers, _tr("How much may it use?"))
        self.presets = Choices(
            (
                (QUIET, _tr("Quiet"), _tr("Half the time, up to 70 °C: fans stay slow.")),
                (
                    NORMAL,
                    _tr("Normal"),
                    _tr("All it needs, up to 80 °C: what suits most computers."),
                ),
                (FULL, _tr("Full"), _tr("All the time, up to 87 °C: the fans will be heard.")),
            )
        )
        self.presets.buttons[NORMAL].setChecked(True)
        for key, button in self.presets.buttons.items():
            button.toggled.connect(lambda is_on, key=key: self._choose(key, is_on))
        self.column.addWidget(self.presets)
        self.autostart = Tick(_tr("Start Nexus when I log in"))
        self.autostart.toggled.connect(self._choose_autostart)
        self.column.addWidget(self.autostart)
        self.add(_tr("On battery and on metered internet it always pauses. Settings change that."))
        self.column.addStretch(1)

    def _choose(self, key: str, is_on: bool) -> None:
        if is_on:
            self.answers.preset = key

    def _choose_autostart(self, is_on: bool) -> None:
        self.answers.autostart = is_on


class Summary(Step):
    def __init__(self, store: Store, answers: Answers) -> None:
        super().__init__(store, answers, _tr("Ready"))
        card = Card(padding=16, gap=10)
        self._lines = [Text("", BODY, PLAIN, wrap=True) for _ in range(4)]
        for icon, line in zip(("clock", "sliders", "cube", "gear"), self._lines, strict=True):
            row = QHBoxLayout()
            row.setSpacing(10)
            row.addWidget(Icon(icon, "text2", 18))
            row.addWidget(line, 1)
            card.box.addLayout(row)
        self.column.addWidget(card)
        self.column.addWidget(
            Note(
                _tr(
                    "It runs now for 10 minutes, even while you are here, so that you see it work."
                    " After that your rule holds."
                )
            )
        )
        self.column.addStretch(1)

    def refresh(self) -> None:
        answers = self.answers
        when = {
            IDLE: _tr("Runs only while you are away."),
            GENTLY: _tr("Runs always, gently while you work."),
            HOURS: _tr("Runs always, until you pick hours on the page “When to run”."),
        }
        limits = {
            QUIET: _tr("Uses little: quiet."),
            NORMAL: _tr("Uses a normal share."),
            FULL: _tr("Uses all that is free."),
        }
        model = _tr("Drafts with the bundled model.")
        if answers.model:
            model = _tr("Fetches {0}, and drafts with the bundled model.").format(answers.model)
        login = (
            _tr("Starts when you log in.") if answers.autostart else _tr("Starts when you open it.")
        )
        for line, text in zip(
            self._lines, (when[answers.when], limits[answers.preset], model, login), strict=True
        ):
            line.setText(text)


def patch_of(answers: Answers, store: Store) -> tuple[Pair, ...]:
    """Return the settings that differ and that this node has, as TOML writes them."""
    defaults = {row.key: row.default for row in store.schema.rows} if store.schema else {}
    wanted = {"run.when": '"idle"' if answers.when == IDLE else '"always"'}
    for key, value in PRESETS[answers.preset].items():
        wanted[key] = defaults.get(key, "") if value is None else str(value)
    if answers.when == GENTLY:
        wanted["limits.duty"] = str(GENTLE_DUTY)
    return tuple(
        Pair(key, value)
        for key, value in wanted.items()
        if value and store.setting(key) not in (None, value)
    )


def _to_fetch(models: Models | None) -> str:
    """Return the recommended model's name if it is not here yet."""
    if models is None:
        return ""
    absent = {m.name for m in models.models if m.state != "ready" and not m.is_bundled}
    return models.recommended if models.recommended in absent else ""


def _said(icon: str, tone: str, text: str) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(10)
    row.addWidget(Icon(icon, tone, 18))
    row.addWidget(Text(text, BODY, PLAIN, wrap=True), 1)
    return row


def _tr(text: str) -> str:
    return QCoreApplication.translate("Wizard", text)
