"""The pages, in the order of the navigation."""

from gui.screens.home import HomePage
from gui.widgets.page import Page

PAGES: tuple[type[Page], ...] = (HomePage,)
