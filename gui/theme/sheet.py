"""The one style sheet. It holds no font size: that would undo the user's text size."""

from pathlib import Path

from gui.theme.tokens import CARD_RADIUS, CONTROL_HEIGHT, CONTROL_RADIUS, Palette


def sheet(c: Palette, percent: int) -> str:
    """Return the style sheet of a palette with measures for text of `percent`."""

    def px(size: float) -> str:
        return f"{round(size * percent / 100)}px"

    tick = (Path(__file__).parent / "icons" / c.tick).as_posix()
    height = px(CONTROL_HEIGHT - 2)
    tones = "\n".join(
        f'QLabel[tone="{tone}"] {{ color:{c[tone]}; }}'
        for tone in ("text", "text2", "accent", "on_accent", "warn", "bad")
    )
    return f"""
    QWidget {{ color:{c.text}; }}
    QLabel {{ background:transparent; }}
    {tones}
    QMainWindow, QDialog, #root {{ background:{c.bg}; }}
    #page, #page_body {{ background:{c.bg}; }}
    QScrollArea {{ background:transparent; border:0; }}
    #side {{ background:{c.side}; border-right:1px solid {c.line}; }}
    #card {{ background:{c.card}; border:1px solid {c.line}; border-radius:{CARD_RADIUS}px; }}
    #card[tone="bad"] {{ border:1px solid {c.bad}; }}
    #rule {{ background:{c.line}; border:0; }}
    #note {{ background:{c.tint}; border-radius:{CONTROL_RADIUS}px; }}
    #note[tone="warn"] {{ background:{c.warn_tint}; }}
    #note[tone="bad"] {{ background:{c.bad_tint}; }}

    QPushButton {{ border-radius:{CONTROL_RADIUS}px; padding:0 {px(15)}; min-height:{height};
        border:1px solid {c.line}; background:{c.card}; color:{c.text}; }}
    QPushButton:hover {{ background:{c.hover}; }}
    QPushButton:disabled {{ color:{c.text2}; background:{c.track}; border-color:{c.line}; }}
    QPushButton#primary {{ background:{c.accent}; color:{c.on_accent};
        border:1px solid {c.accent}; }}
    QPushButton#primary:disabled {{ background:{c.track}; color:{c.text2};
        border-color:{c.line}; }}
    QPushButton:focus {{ border:2px solid {c.accent}; padding:0 {px(14)};
        min-height:{px(CONTROL_HEIGHT - 4)}; }}
    QPushButton#primary:focus {{ border:2px solid {c.text}; }}
    QPushButton#quiet {{ border:2px solid transparent; padding:0 4px; min-height:{px(22)};
        border-radius:4px; background:transparent; color:{c.accent}; }}
    QPushButton#quiet:hover {{ background:{c.hover}; }}
    QPushButton#quiet:disabled {{ color:{c.text2}; }}
    QPushButton#quiet:focus {{ border:2px solid {c.accent}; }}

    QToolButton#nav {{ border:2px solid transparent; border-radius:{CONTROL_RADIUS}px;
        padding:0 10px; color:{c.text2}; text-align:left; background:transparent; }}
    QToolButton#nav:hover {{ background:{c.hover}; color:{c.text}; }}
    QToolButton#nav:checked {{ background:{c.tint}; color:{c.accent}; }}
    QToolButton#nav:focus {{ border:2px solid {c.accent}; }}
    #segments {{ background:{c.track}; border-radius:{CONTROL_RADIUS}px; }}
    QToolButton#segment {{ border:1px solid transparent; border-radius:6px;
        padding:{px(4)} {px(12)}; color:{c.text2}; background:transparent; }}
    QToolButton#segment:checked {{ background:{c.card}; color:{c.text};
        border:1px solid {c.line}; }}
    QToolButton#segment:focus {{ border:1px solid {c.accent}; }}

    QLineEdit, QPlainTextEdit, QTextEdit, QComboBox, QSpinBox, QDoubleSpinBox, QTimeEdit,
    QListView {{ border:1px solid {c.border}; border-radius:{CONTROL_RADIUS}px;
        background:{c.card}; color:{c.text}; padding:{px(4)} {px(10)};
        selection-background-color:{c.accent}; selection-color:{c.on_accent}; }}
    QLineEdit, QComboBox, QSpinBox, QDoubleSpinBox, QTimeEdit {{ min-height:{px(26)}; }}
    QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus, QComboBox:focus, QSpinBox:focus,
    QDoubleSpinBox:focus, QTimeEdit:focus, QListView:focus {{ border:2px solid {c.accent}; }}
    QComboBox QAbstractItemView {{ background:{c.card}; color:{c.text};
        selection-background-color:{c.tint}; selection-color:{c.accent};
        border:1px solid {c.line}; }}
    QHeaderView::section {{ background:{c.card}; color:{c.text2}; border:0;
        border-bottom:1px solid {c.line}; padding:6px 8px; }}
    QTableView {{ background:{c.card}; color:{c.text}; border:0; gridline-color:{c.line};
        selection-background-color:{c.tint}; selection-color:{c.text}; }}
    QCheckBox, QRadioButton {{ spacing:10px; color:{c.text}; background:transparent;
        border:2px solid transparent; border-radius:6px; padding:4px; }}
    QCheckBox:focus, QRadioButton:focus {{ border:2px solid {c.accent}; }}
    QCheckBox::indicator, QRadioButton::indicator {{ width:{px(16)}; height:{px(16)};
        border:1px solid {c.border}; background:{c.card}; }}
    QCheckBox::indicator {{ border-radius:4px; }}
    QRadioButton::indicator {{ border-radius:{px(9)}; }}
    QCheckBox::indicator:checked {{ background:{c.accent}; border-color:{c.accent};
        image:url({tick}); }}
    QRadioButton::indicator:checked {{ background:{c.card};
        border:{px(5)} solid {c.accent}; width:{px(8)}; height:{px(8)}; }}
    QSlider {{ border:2px solid transparent; border-radius:6px; min-height:{px(24)}; }}
    QSlider:focus {{ border:2px solid {c.accent}; }}
    QSlider::groove:horizontal {{ height:4px; background:{c.track}; border-radius:2px; }}
    QSlider::sub-page:horizontal {{ background:{c.accent}; border-radius:2px; }}
    QSlider::handle:horizontal {{ background:{c.accent}; width:16px; margin:-6px 0;
        border-radius:8px; }}
    QSlider::handle:horizontal:disabled, QSlider::sub-page:horizontal:disabled {{
        background:{c.other}; }}
    QProgressBar {{ background:{c.track}; border:0; border-radius:4px; max-height:8px;
        min-height:8px; }}
    QProgressBar::chunk {{ background:{c.accent}; border-radius:4px; }}
    QScrollBar:vertical {{ background:transparent; width:10px; margin:2px; }}
    QScrollBar::handle:vertical {{ background:{c.other}; border-radius:3px; min-height:32px; }}
    QScrollBar:horizontal {{ background:transparent; height:10px; margin:2px; }}
    QScrollBar::handle:horizontal {{ background:{c.other}; border-radius:3px; min-width:32px; }}
    QScrollBar::add-line, QScrollBar::sub-line {{ width:0; height:0; }}
    QScrollBar::add-page, QScrollBar::sub-page {{ background:transparent; }}

    QToolTip {{ background:{c.card}; color:{c.text}; border:1px solid {c.line}; padding:4px; }}
    QMenu {{ background:{c.card}; border:1px solid {c.line}; border-radius:10px; padding:6px; }}
    QMenu::item {{ padding:{px(8)} {px(28)} {px(8)} {px(10)}; border-radius:6px;
        color:{c.text}; }}
    QMenu::item:selected {{ background:{c.tint}; color:{c.accent}; }}
    QMenu::item:disabled {{ color:{c.text2}; background:transparent; }}
    QMenu::separator {{ height:1px; background:{c.line}; margin:6px 4px; }}
    QMenu::icon {{ padding-left:8px; }}
    """
