"""When to run: away or always, how "away" is seen, the hours of the week, what it waits for."""

from PySide6.QtCore import QTimeZone
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from gui.hours import WEEK, read_hours, write_hours
from gui.screens.form import Entry, FormPage, current, has_key
from gui.theme.tokens import ROW
from gui.widgets.buttons import Button
from gui.widgets.card import Card, rule
from gui.widgets.fields import ChoiceField
from gui.widgets.note import Note
from gui.widgets.row import Row
from gui.widgets.switch import Switch
from gui.widgets.text import Text
from gui.widgets.week import WeekGrid
from gui.words import lasting
from nexusnode.control.messages import IdleTest

HOURS, ZONE = "run.hours", "run.timezone"
_SEEN_SECONDS = 10.0  # who has just pressed Test was seen that recently


class WhenPage(FormPage):
    """The page."""

    title = "When to run"
    icon_name = "clock"

    def build(self, box: QVBoxLayout) -> None:
        box.addWidget(self._mode_card())
        if has_key(self.store, HOURS):
            box.addWidget(self._hours_card())
        waits = Card(self.tr("What it waits for"), gap=8)
        if self.form.add(self._waiting_entries(), waits.box):
            box.addWidget(waits)
        apps = Card(self.tr("Pause while one of these programs runs"), gap=8)
        if self.form.add(self._app_entries(), apps.box):
            box.addWidget(apps)

    def show_values(self) -> None:
        delay = self.form.row("run.idle_minutes")
        if delay is not None:
            delay.setEnabled(current(self.store, "run.when") != "always")
        self._show_detector()
        if has_key(self.store, HOURS):
            self._show_hours()

    def _mode_card(self) -> Card:
        card = Card(self.tr("When it helps"), gap=8)
        if self.form.add(self._mode_entries(), card.box):
            card.box.addWidget(rule())
        self._test = Button(self.tr("Test"))
        self._test.clicked.connect(self._on_test)
        self._detector = Row(self.tr("How it sees that you are away"), self._test)
        # The row names its control; two buttons called alike would be no help.
        self._test.setAccessibleName(self.tr("Test whether you are seen"))
        card.box.addWidget(self._detector)
        self._tested = Note("")
        self._tested.hide()
        card.box.addWidget(self._tested)
        return card

    def _hours_card(self) -> Card:
        self._limited = Switch(self.tr("Only at chosen hours"))
        self._limited.clicked.connect(self._on_limited)
        card = Card(self.tr("Hours of the week"), gap=8)
        card.box.addWidget(
            Row(
                self.tr("Only at chosen hours"),
                self._limited,
                self.tr("Off: at any time, if nothing else forbids it."),
            )
        )
        self._grid_box = QWidget()
        inside = QVBoxLayout(self._grid_box)
        inside.setContentsMargins(0, 4, 0, 0)
        inside.setSpacing(8)
        self._never = Note(
            self.tr(
                "This never runs. Choose at least half an hour; until then the hours before stay."
            ),
            "warn",
        )
        self._never.hide()
        self._unread = Note("", "warn")
        self._unread.hide()
        self._grid = WeekGrid()
        self._grid.edited.connect(self._on_grid)
        self._total = Text("", ROW, tone="text2", wrap=True)
        foot = QHBoxLayout()
        foot.addWidget(self._total, 1)
        for widget in (self._never, self._unread, self._grid):
            inside.addWidget(widget)
        inside.addLayout(foot)
        card.box.addWidget(self._grid_box)
        if has_key(self.store, ZONE):
            field = ChoiceField(self.tr("Time zone"), *self._zones())
            self.form.bind(ZONE, field)
            own = bytes(QTimeZone.systemTimeZoneId().data()).decode()
            hint = self.tr("Whose clock counts. This computer's is {zone}.").format(zone=own)
            inside.addWidget(Row(self.tr("Time zone"), field, hint))
        return card

    def _show_detector(self) -> None:
        meters = self.store.meters
        self._test.setEnabled(self.store.is_connected)
        if meters is None or not self.store.is_connected:
            hint = self.tr("Not known while the node is not answering.")
        elif not meters.detector:
            found = [s.finding for s in meters.sensors if s.kind == "idle" and not s.works]
            hint = " ".join([self.tr("Nothing here can tell. It waits rather than guess."), *found])
        elif meters.idle_seconds is None:
            hint = self.tr("By {detector}.").format(detector=meters.detector)
        else:
            hint = self.tr("By {detector}: last key or mouse move {time} ago.").format(
                detector=meters.detector, time=lasting(meters.idle_seconds)
            )
        self._detector.set_hint(hint)

    def _show_hours(self) -> None:
        texts = current(self.store, HOURS)
        covered, unread = read_hours(texts if isinstance(texts, tuple) else ())
        self._unread.setVisible(bool(unread))
        if unread:
            words = self.tr("Not shown here, as written by hand: {texts}")
            self._unread.show_text(words.format(texts=", ".join(unread)), "warn")
        if self._never.isHidden():
            self._limited.setChecked(bool(texts))
            self._grid.set_covered(covered)
        self._limited.setEnabled(self.store.is_connected)
        self._grid.setEnabled(self.store.is_connected)
        self._show_total()

    def _show_total(self) -> None:
        self._grid_box.setVisible(self._limited.isChecked())
        words = self.tr("{hours} of 168 hours. Drag, or use the arrow keys and Space.")
        self._total.setText(words.format(hours=f"{len(self._grid.covered()) / 2:g}"))

    def _on_limited(self) -> None:
        """Begin with the whole week: turning the switch on alone changes nothing."""
        self._never.hide()
        covered = frozenset(range(WEEK)) if self._limited.isChecked() else frozenset()
        self._grid.set_covered(covered)
        self.form.send({HOURS: write_hours(covered)})
        self._show_total()

    def _on_grid(self) -> None:
        covered = self._grid.covered()
        self._never.setVisible(not covered)
        self._show_total()
        if covered:  # an empty list would mean any time
            self.form.send({HOURS: write_hours(covered)})

    def _on_test(self) -> None:
        pending = self.store.call("idle.test")
        self._test.while_pending(pending)
        pending.done.connect(self._on_tested)
        pending.failed.connect(lambda _, sentence: self._show_test(sentence, "bad"))

    def _on_tested(self, found: IdleTest) -> None:
        if not found.detector or found.idle_seconds is None:
            self._show_test(found.why_not or self.tr("Nothing here can tell."), "warn")
        elif found.idle_seconds <= _SEEN_SECONDS:
            words = self.tr("It works: {detector} saw you {time} ago.")
            self._show_test(self._fill(words, found.detector, found.idle_seconds), "accent")
        else:
            words = self.tr("{detector} saw nobody for {time}, yet you have just pressed Test.")
            self._show_test(self._fill(words, found.detector, found.idle_seconds), "warn")

    def _show_test(self, text: str, tone: str) -> None:
        self._tested.show_text(text, tone)
        self._tested.show()

    def _fill(self, words: str, detector: str, seconds: float) -> str:
        return words.format(detector=detector, time=lasting(seconds))

    def _zones(self) -> tuple[tuple[str, ...], dict[str, str]]:
        known = [bytes(zone.data()).decode() for zone in QTimeZone.availableTimeZoneIds()]
        names = [name for name in known if "/" in name and not name.startswith("Etc/")]
        return ("", "UTC", *names), {"": self.tr("This computer's")}

    def _mode_entries(self) -> list[Entry]:
        return [
            Entry(
                "run.when",
                self.tr("Help"),
                self.tr("Always still gives way to games, heat, battery and your hours."),
                labels=(
                    ("idle", self.tr("Only while I am away")),
                    ("always", self.tr("Also while I work")),
                ),
            ),
            Entry(
                "run.idle_minutes",
                self.tr("Away after"),
                self.tr("Without a key, click or mouse move for this long."),
                unit=self.tr("min"),
            ),
        ]

    def _waiting_entries(self) -> list[Entry]:
        return [
            Entry(
                "run.on_battery",
                self.tr("Run on battery"),
                self.tr("Off: it waits until the power cable is in."),
            ),
            Entry(
                "run.battery_percent",
                self.tr("On battery only above"),
                self.tr("Counts if it may run on battery at all."),
                unit="%",
            ),
            Entry(
                "limits.metered",
                self.tr("Run on a metered connection"),
                self.tr("Off: it waits while your data is limited or paid for by size."),
            ),
            Entry(
                "run.fullscreen",
                self.tr("Pause for full screen"),
                self.tr("A film, a presentation or a game has the computer for itself."),
            ),
        ]

    def _app_entries(self) -> list[Entry]:
        return [
            Entry(
                "run.apps",
                self.tr("Pause while one of these runs"),
                self.tr(
                    "Full-screen games are seen anyway. Names as in a list of processes: blender"
                ),
                placeholder=self.tr("Name of a program"),
            )
        ]
