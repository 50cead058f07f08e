"""Chat: the user's own questions to a host, with the drafted-and-kept part of each answer shown."""

from PySide6.QtCore import QElapsedTimer, QEvent, QObject, Qt, QUrl
from PySide6.QtGui import QKeyEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QPlainTextEdit, QVBoxLayout

from gui.screens.form import current
from gui.store import Store
from gui.theme.theme import font
from gui.theme.tokens import BODY, ROW, SMALL
from gui.widgets.buttons import Button, PrimaryButton, QuietButton
from gui.widgets.card import Card
from gui.widgets.notices import Notices
from gui.widgets.page import Page
from gui.widgets.row import Row
from gui.widgets.switch import Switch
from gui.widgets.text import Text
from gui.widgets.transcript import Transcript, Turn
from gui.words import UNKNOWN, breakable, plural, share
from nexusnode.control.messages import (
    ChatEnd,
    ChatEvent,
    ChatStart,
    ChatStarted,
    ChatStop,
    ChatTurn,
    Pair,
    SettingsPatch,
)
from p2p.settings import toml_value

MAX_TOKENS = 1024
TEMPERATURE = 0.7
MAX_TURNS = 255  # of a question with what went before; the API takes 256
MAX_TEXT = 1 << 18


class ChatPage(Page):
    """The page. It asks for a host first if none is set; the key is never shown again."""

    title = "Chat"
    icon_name = "chat"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.notices = Notices()
        self._chat: int | None = None
        self._is_asking = False
        self._is_changing_host = False
        self._first_token = QElapsedTimer()
        self._access = self._access_card()
        self._talk = self._talk_card()
        self.body.addWidget(self.notices)
        self.body.addWidget(self._access)
        self.body.addWidget(self._talk, 1)
        self.body.addStretch(0)
        self._gap = self.body.count() - 1
        store.chat_event.connect(self._on_event)
        store.changed.connect(self._on_store)

    def refresh(self) -> None:
        address = current(self.store, "chat.url")
        is_asked = self._is_changing_host or (not address and self.store.settings is not None)
        self.notices.show_connection(self.store)
        self._access.setVisible(is_asked)
        self._talk.setVisible(not is_asked)
        self.body.setStretch(self._gap, 1 if is_asked else 0)
        self._keep_old.setVisible(bool(address))
        self._save.setEnabled(self.store.is_connected)
        self._host.setText(self.tr("With {host}").format(host=breakable(self._host_name())))
        self._show_buttons()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Enter sends; with Shift it is a new line."""
        if (
            watched is self._question
            and isinstance(event, QKeyEvent)
            and event.type() == QEvent.Type.KeyPress
            and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
            and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        ):
            self._on_send()
            return True
        return super().eventFilter(watched, event)

    def _access_card(self) -> Card:
        card = Card(self.tr("Which host shall answer?"), gap=8)
        self._address, self._key = QLineEdit(), QLineEdit()
        self._address.setPlaceholderText("http://127.0.0.1:8000/v1")
        self._key.setEchoMode(QLineEdit.EchoMode.Password)
        for line in (self._address, self._key):
            line.setMinimumWidth(320)
            line.returnPressed.connect(self._on_save)
        self._save = PrimaryButton(self.tr("Save"))
        self._save.clicked.connect(self._on_save)
        self._keep_old = Button(self.tr("Back"))
        self._keep_old.clicked.connect(lambda: self._change_host(False))
        foot = QHBoxLayout()
        foot.addStretch(1)
        foot.addWidget(self._keep_old)
        foot.addWidget(self._save)
        card.box.addWidget(
            Row(
                self.tr("Address"),
                self._address,
                self.tr("Of the host's API. Who runs the host can tell you."),
            )
        )
        card.box.addWidget(
            Row(
                self.tr("Key"),
                self._key,
                self.tr("Kept in a file that only you can read. Empty: the one before stays."),
            )
        )
        card.box.addLayout(foot)
        return card

    def _talk_card(self) -> Card:
        self._host = Text("", ROW, tone="text2", wrap=True)
        change = QuietButton(self.tr("Change host"))
        change.clicked.connect(lambda: self._change_host(True))
        self._new = QuietButton(self.tr("New chat"))
        self._new.clicked.connect(self._on_new)
        line = QHBoxLayout()
        line.setSpacing(12)
        line.addWidget(self._host, 1)
        line.addWidget(change)
        line.addWidget(self._new)
        card = Card()
        card.box.addLayout(line)
        self._transcript = Transcript(self.tr("Conversation"))
        self._transcript.setPlaceholderText(self.tr("Ask something. Nothing is kept."))
        self._question = QPlainTextEdit()
        self._question.setPlaceholderText(self.tr("Your question. Enter sends it."))
        self._question.setAccessibleName(self.tr("Your question"))
        self._question.setTabChangesFocus(True)
        self._question.installEventFilter(self)
        self._question.textChanged.connect(self._show_buttons)
        self._send = PrimaryButton(self.tr("Send"))
        self._send.clicked.connect(self._on_send)
        self._stop = Button(self.tr("Stop"))
        self._stop.clicked.connect(self._on_stop)
        buttons = QVBoxLayout()
        buttons.addWidget(self._send)
        buttons.addWidget(self._stop)
        buttons.addStretch(1)
        asking = QHBoxLayout()
        asking.setSpacing(12)
        asking.addWidget(self._question, 1)
        asking.addLayout(buttons)
        self._draft = Switch(self.tr("Let nodes draft"), is_on=True)
        legend = Text(
            self.tr("Underlined: drafted by a node and kept. Off: nothing goes to any node."),
            SMALL,
            tone="text2",
            wrap=True,
        )
        foot = QHBoxLayout()
        foot.setSpacing(8)
        foot.addWidget(self._draft)
        foot.addWidget(Text(self.tr("Let nodes draft"), ROW))
        foot.addWidget(legend, 1)
        card.box.addWidget(self._transcript, 1)
        card.box.addLayout(asking)
        card.box.addLayout(foot)
        return card

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._question.setFixedHeight(font(BODY).pixelSize() * 6)

    def _show_buttons(self) -> None:
        has_words = bool(self._question.toPlainText().strip())
        self._send.setVisible(not self._is_asking)
        self._stop.setVisible(self._is_asking)
        self._send.setEnabled(has_words and self.store.is_connected)
        self._stop.setEnabled(self._chat is not None)
        self._new.setEnabled(not self._is_asking and bool(self._transcript.turns))

    def _on_save(self) -> None:
        address, key = self._address.text().strip(), self._key.text().strip()
        if not address.startswith(("http://", "https://")):
            self.notices.show_refusal(
                self.tr("An address begins with http:// or https://, and mostly ends with /v1.")
            )
            return
        pairs = [Pair("chat.url", toml_value(address))]
        if key:
            pairs.append(Pair("chat.key", toml_value(key)))
        pending = self.store.call("settings.set", SettingsPatch(tuple(pairs), None))
        self._save.while_pending(pending)
        pending.done.connect(self._on_saved)
        pending.failed.connect(lambda _, sentence: self.notices.show_refusal(sentence))

    def _on_saved(self) -> None:
        self._key.clear()
        self.notices.show_refusal("")
        self._change_host(False)

    def _change_host(self, is_changing: bool) -> None:
        self._is_changing_host = is_changing
        address = current(self.store, "chat.url")
        if is_changing:
            self._address.setText(str(address or ""))
        self.refresh()
        (self._address if is_changing else self._question).setFocus()

    def _on_new(self) -> None:
        self._transcript.forget()
        self.notices.show_refusal("")
        self._show_buttons()
        self._question.setFocus()

    def _on_send(self) -> None:
        question = self._question.toPlainText().strip()[:MAX_TEXT]
        if not question or self._is_asking or not self.store.is_connected:
            return
        self.notices.show_refusal("")
        self._question.clear()
        self._transcript.begin(Turn(self.tr("You"), [(question, False)]))
        turns = self._turns()
        self._transcript.begin(Turn(self._host_name()))
        self._is_asking = True
        self._first_token.invalidate()
        start = ChatStart(turns, "", MAX_TOKENS, TEMPERATURE, None, self._draft.isChecked())
        pending = self.store.call("chat.start", start)
        pending.done.connect(self._on_started)
        pending.failed.connect(lambda _, sentence: self._fail(sentence))
        self._show_buttons()

    def _turns(self) -> tuple[ChatTurn, ...]:
        own = self.tr("You")
        said = [
            ChatTurn("user" if turn.speaker == own else "assistant", turn.text[:MAX_TEXT])
            for turn in self._transcript.turns
            if turn.text
        ]
        return tuple(said[-MAX_TURNS:])

    def _on_started(self, started: ChatStarted) -> None:
        self._chat = started.chat
        self._show_buttons()

    def _on_stop(self) -> None:
        if self._chat is not None:
            self._stop.setEnabled(False)
            self.store.call("chat.stop", ChatStop(self._chat))

    def _on_event(self, event: ChatEvent) -> None:
        if event.chat != self._chat:
            return
        if event.tokens:
            if not self._first_token.isValid():
                self._first_token.start()
            pieces = [(token.text, bool(token.node)) for token in event.tokens]
            self._transcript.append_pieces(pieces)
        if event.end is not None and event.end.reason == "failed":
            self._fail(event.end.sentence)
        elif event.end is not None:
            self._finish(self._foot(event.end))

    def _on_store(self, topic: str) -> None:
        if topic == "connection" and self._is_asking and not self.store.is_connected:
            self._fail(self.tr("The node stopped answering in the middle of the answer."))

    def _fail(self, sentence: str) -> None:
        self.notices.show_refusal(sentence)
        if self._transcript.turns[-1].text:
            self._finish(self.tr("Broken off."))
            return
        self._transcript.drop_last()
        question = self._transcript.turns[-1].text
        self._transcript.drop_last()
        if not self._question.toPlainText():
            self._question.setPlainText(question)
        self._finish("")

    def _finish(self, foot: str) -> None:
        self._is_asking = False
        self._chat = None
        if foot:
            self._transcript.end(foot)
        self._show_buttons()

    def _foot(self, end: ChatEnd) -> str:
        seconds = self._first_token.elapsed() / 1000 if self._first_token.isValid() else 0.0
        speed = f"{(end.tokens - 1) / seconds:.0f}" if seconds > 0 and end.tokens > 1 else UNKNOWN
        parts = [
            plural("token", end.tokens),
            self.tr("{speed} tokens/s").format(speed=speed),
            self.tr("{share} drafted and kept").format(share=share(end.accepted, end.tokens)),
        ]
        reasons = {"length": self.tr("cut at its length"), "stopped": self.tr("stopped by you")}
        if end.reason in reasons:
            parts.append(reasons[end.reason])
        return " · ".join(parts)

    def _host_name(self) -> str:
        return QUrl(str(current(self.store, "chat.url") or "")).authority()
