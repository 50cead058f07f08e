"""Home: what the node does now, what it has done, and what it waits for."""

import time

from PySide6.QtCore import QTimer
from PySide6.QtGui import QHideEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QGridLayout

from gui.screens.checklist import Checklist
from gui.screens.hero import Hero
from gui.screens.history import SPANS, kept_tokens, kilowatt_hours, midnight, series_of
from gui.screens.hosts import Device, Hosts
from gui.store import Store
from gui.theme.theme import theme
from gui.theme.tokens import GAP
from gui.widgets.card import Card
from gui.widgets.figure import Figure
from gui.widgets.page import Page
from gui.widgets.plot import Plot
from gui.widgets.segments import Segments
from gui.words import UNKNOWN
from nexusnode.control.messages import History, HistoryQuery

HISTORY_MS = 10_000
NARROW = 1040 - 212  # the page's width in a window of 1040
POINTS = 240


class HomePage(Page):
    title = "Home"
    icon_name = "home"
    has_heading = False

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._span = SPANS[0]
        self._history: tuple[History, float, float] | None = None
        self._today: History | None = None
        self.hero = Hero(store)
        self.hero.page_wanted.connect(self.page_wanted)
        self.hero.node_wanted.connect(self.node_wanted)
        self.kept = Figure("check", self.tr("Tokens kept today"))
        self.share = Figure("bolt", self.tr("Drafts kept"))
        self.power = Figure("plug", self.tr("Power"))
        self.earned = Figure("coin", self.tr("Earned"))
        texts = (self.tr("Hour"), self.tr("Day"), self.tr("Week"))
        self.spans = Segments(self.tr("Time shown"), texts)
        self.spans.chosen.connect(self._choose_span)
        self.plot = Plot()
        self.plot_card = Card(self.tr("Kept tokens per minute"), self.spans, head=34)
        self.plot_card.box.addWidget(self.plot, 1)
        self.checks = Checklist(store)
        self.hosts = Hosts(store)
        self.device = Device(store)
        self.device.page_wanted.connect(self.page_wanted)
        self._lay_out()
        self._clock = QTimer(self, interval=HISTORY_MS)
        self._clock.timeout.connect(self._ask_history)

    def refresh(self) -> None:
        self._arrange()
        self.hero.refresh()
        self._show_figures()
        self._show_plot()
        self.checks.setVisible(self.store.is_connected and self.store.snapshot is not None)
        self.checks.refresh()
        self.hosts.refresh()
        self.device.refresh()
        if self.store.is_connected and self._history is None:
            self._ask_history()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._clock.start()
        self._ask_history()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._clock.stop()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def _lay_out(self) -> None:
        self._figures = QGridLayout()
        self._figures.setSpacing(GAP)
        self._grid = QGridLayout()
        self._grid.setSpacing(GAP)
        self.body.addWidget(self.hero)
        self.body.addLayout(self._figures)
        self.body.addLayout(self._grid, 1)
        self._arranged: tuple[bool, bool] | None = None
        self._arrange()

    def _arrange(self) -> None:
        """Put the right column beside the left one, or under it in a narrow window."""
        is_narrow = self.width() < theme().px(NARROW)
        is_live = self.store.is_connected
        if (is_narrow, is_live) == self._arranged:
            return
        self._arranged = (is_narrow, is_live)
        self.hero.set_narrow(is_narrow)
        for index, figure in enumerate((self.kept, self.share, self.power, self.earned)):
            self._figures.removeWidget(figure)
            self._figures.addWidget(figure, *divmod(index, 2 if is_narrow else 4))
        for column in range(4):
            self._figures.setColumnStretch(column, 1 if column < 2 or not is_narrow else 0)
        for index, card in enumerate((self.plot_card, self.checks, self.hosts, self.device)):
            self._grid.removeWidget(card)
            row, column = (index, 0) if is_narrow else divmod(index, 2)
            is_wide = card is self.plot_card and not is_live and not is_narrow
            self._grid.addWidget(card, row, column, 1, 2 if is_wide else 1)
        self._grid.setColumnMinimumWidth(1, 0 if is_narrow else 344)
        self._grid.setColumnStretch(0, 1)
        self._grid.setRowStretch(0, 1)

    def _choose_span(self, index: int) -> None:
        self._span = SPANS[index]
        self._history = None
        self._ask_history()

    def _ask_history(self) -> None:
        if not self.store.is_connected:
            return
        now = int(time.time())
        start = now - self._span
        query = HistoryQuery(start, now, POINTS)
        pending = self.store.call("history.query", query)
        pending.done.connect(lambda rows: self._take_history(rows, start, now))
        today = HistoryQuery(midnight(), now, POINTS)
        self.store.call("history.query", today).done.connect(self._take_today)

    def _take_history(self, history: History, start: int, end: int) -> None:
        if end - start == self._span:
            self._history = (history, start, end)
            self._show_plot()

    def _take_today(self, history: History) -> None:
        self._today = history
        self._show_figures()

    def _show_plot(self) -> None:
        is_live = self.store.is_connected
        empty = self.tr("Nothing yet. The line begins when the first tokens are kept.")
        if self._history is None:
            now = time.time()
            self._history_empty(now, is_live, empty)
            return
        series = series_of(*self._history, self.store.snapshot)
        values = [value for run in series.runs for _, value in run]
        mean = sum(values) / len(values) if values else 0.0
        sentence = self.tr("Kept tokens per minute: mean {0} while running, {1} pauses").format(
            round(mean), len(series.bands)
        )
        self.plot.show_series(series, is_live, sentence, empty)

    def _history_empty(self, now: float, is_live: bool, empty: str) -> None:
        series = series_of(History(60.0, ()), now - self._span, now, None)
        self.plot.show_series(series, is_live, empty, empty)

    def _show_figures(self) -> None:
        is_live = self.store.is_connected
        kept = f"{kept_tokens(self._today):,}" if self._today else UNKNOWN
        told = self.tr("since midnight") if is_live else self.tr("counted until it stopped")
        unit = self.tr("tokens") if self._today else ""
        self.kept.show_value(kept, unit, told)
        self._show_share(is_live)
        self._show_power(is_live)
        self.earned.show_value(UNKNOWN, "", self.tr("Not connected to a market yet"))

    def _show_share(self, is_live: bool) -> None:
        meters = self.store.meters
        if not is_live or meters is None or not meters.committed:
            why = self.tr("No answer in the last hour") if is_live else self.tr("No figure now")
            self.share.show_value(UNKNOWN, "", why)
            return
        share = f"{100 * meters.credited / meters.committed:.1f}"
        self.share.show_value(share, "%", self.tr("of tokens, last hour"))

    def _show_power(self, is_live: bool) -> None:
        meters = self.store.meters
        energy = kilowatt_hours(self._today) if self._today else None
        used = self.tr("{0} kWh today").format(f"{energy:.2f}") if energy is not None else ""
        if not is_live or meters is None:
            self.power.show_value(UNKNOWN, "", used)
        elif meters.watts is None:
            self.power.show_value(UNKNOWN, "", self.tr("No power reading here"))
        else:
            limit = meters.watts_limit
            below = self.tr("limit {0} W").format(round(limit)) if limit else ""
            parts = " · ".join(part for part in (below, used) if part)
            self.power.show_value(f"{meters.watts:.0f}", "W", parts)
