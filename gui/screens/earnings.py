"""Earnings: there is no market yet, and the page says so instead of showing zeros."""

from gui.store import Store
from gui.theme.tokens import BODY
from gui.widgets.card import Card
from gui.widgets.figure import Figure
from gui.widgets.page import Page
from gui.widgets.text import Text


class EarningsPage(Page):
    """The page."""

    title = "Earnings"
    icon_name = "coin"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        figure = Figure("coin", self.tr("Earned"))
        figure.show_value("—", below=self.tr("No market connected. Nexus works without one."))
        card = Card(self.tr("How it would be counted"))
        card.box.addWidget(
            Text(
                self.tr(
                    "What counts is kept tokens: those that your computer drafted and that the"
                    " host's model would have said itself. How many they are stands on Home and"
                    " Network. Nothing is owed to you, or by you, while no market is connected."
                ),
                BODY,
                tone="text2",
                wrap=True,
            )
        )
        self.body.addWidget(figure)
        self.body.addWidget(card)
        self.body.addStretch(1)
