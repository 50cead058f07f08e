"""The pages, in the order of the navigation."""

from gui.screens.chat import ChatPage
from gui.screens.diagnostics import DiagnosticsPage
from gui.screens.earnings import EarningsPage
from gui.screens.home import HomePage
from gui.screens.models import ModelsPage
from gui.screens.network import NetworkPage
from gui.screens.resources import ResourcesPage
from gui.screens.settings import SettingsPage
from gui.screens.when import WhenPage
from gui.widgets.page import Page

PAGES: tuple[type[Page], ...] = (
    HomePage,
    WhenPage,
    ResourcesPage,
    ModelsPage,
    NetworkPage,
    EarningsPage,
    ChatPage,
    DiagnosticsPage,
    SettingsPage,
)
