"""The pages, in the order of the navigation."""

from gui.widgets.page import Page

PAGES: tuple[type[Page], ...] = ()
