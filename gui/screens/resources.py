"""Resources: how much of this computer the node may take, beside what it takes now."""

from functools import partial

from PySide6.QtWidgets import QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from gui.presets import FULL, NORMAL, PRESETS, QUIET
from gui.screens.form import Entry, FormPage, current, has_key, row_of
from gui.theme.theme import font
from gui.theme.tokens import MEDIUM, ROW
from gui.widgets.card import Card
from gui.widgets.fields import value_of
from gui.widgets.row import Row
from gui.widgets.text import Text
from gui.words import share, size
from nexusnode.control.messages import Meters
from p2p.settings import Value

PRESET = "limits.preset"
_ELSEWHERE = ("limits.metered", PRESET)
_HEAT = ("limits.watts", "limits.hot_celsius", "limits.cool_celsius", "limits.duty")
_MEMORY = (
    "limits.memory_cap_mb",
    "limits.memory_reserve_mb",
    "limits.gpu_other_percent",
    "limits.threads",
    "limits.sessions",
    "limits.context",
)
_NETWORK = ("limits.gb_per_day", "limits.down_mbit", "limits.up_mbit", "limits.disk_reserve_gb")


class ResourcesPage(FormPage):
    """The page. A limit whose sensor cannot be read says so instead of offering a slider."""

    title = "Resources"
    icon_name = "sliders"

    def build(self, box: QVBoxLayout) -> None:
        box.addWidget(self._preset_card())
        named = (*_HEAT, *_MEMORY, *_NETWORK, *_ELSEWHERE)
        rows = self.store.schema.rows if self.store.schema else ()
        others = [row.key for row in rows if row.key.startswith("limits.")]
        groups = (
            (self.tr("Heat and power"), _HEAT),
            (self.tr("Memory and processor"), _MEMORY),
            (self.tr("Network and disk"), _NETWORK),
            (self.tr("More"), tuple(key for key in others if key not in named)),
        )
        for title, keys in groups:
            card = Card(title, gap=8)
            if self.form.add([self._entry(key) for key in keys], card.box):
                box.addWidget(card)

    def show_values(self) -> None:
        chosen = self._preset_in_use()
        for name, button in self._presets.items():
            button.setChecked(name == chosen)
            button.setEnabled(self.store.is_connected)
        self._own.setVisible(not chosen)
        for key in (*_HEAT, *_MEMORY, *_NETWORK):
            row = self.form.row(key)
            if row is not None:
                self._show_now(key, row)

    def _preset_card(self) -> Card:
        group = QWidget()
        group.setObjectName("segments")
        line = QHBoxLayout(group)
        line.setContentsMargins(3, 3, 3, 3)
        line.setSpacing(2)
        self._presets: dict[str, QToolButton] = {}
        for name, words in (
            (QUIET, self.tr("Quiet")),
            (NORMAL, self.tr("Normal")),
            (FULL, self.tr("Full")),
        ):
            button = QToolButton()
            button.setObjectName("segment")
            button.setText(words)
            button.setFont(font(ROW, MEDIUM))
            button.setCheckable(True)
            button.setAccessibleName(words)
            button.clicked.connect(partial(self._on_preset, name))
            self._presets[name] = button
            line.addWidget(button)
        card = Card(self.tr("How hard it works"), gap=8)
        hint = self.tr("Quiet keeps fans slow, Full takes what is safe. You can change each below.")
        card.box.addWidget(Row(self.tr("Preset"), group, hint))
        self._own = Text(self.tr("Your own mixture is in use."), ROW, tone="text2")
        card.box.addWidget(self._own)
        return card

    def _on_preset(self, name: str) -> None:
        values: dict[str, Value] = dict(self._values_of(name))
        if has_key(self.store, PRESET):
            values[PRESET] = name
        self.form.send(values)
        self.show_values()

    def _preset_in_use(self) -> str:
        for name in PRESETS:
            values = self._values_of(name)
            if values and all(current(self.store, key) == value for key, value in values.items()):
                return name
        return ""

    def _values_of(self, preset: str) -> dict[str, Value]:
        """Return the preset's values for what this daemon knows, within its bounds."""
        values: dict[str, Value] = {}
        for key, wanted in PRESETS[preset].items():
            row = row_of(self.store, key)
            if row is None:
                continue
            if wanted is None:
                values[key] = value_of(row.default)
                continue
            low = wanted if row.low is None else row.low
            high = wanted if row.high is None else row.high
            bounded = min(max(wanted, low), high)
            values[key] = int(bounded) if row.kind == "int" else float(bounded)
        return values

    def _show_now(self, key: str, row: Row) -> None:
        """Say what the limit meets now; without a sensor the control would be a lie."""
        meters = self.store.meters if self.store.is_connected else None
        dead = self._dead_sensor(key, meters)
        row.control.setVisible(not dead)
        now = "" if dead or meters is None else self._now(key, meters)
        row.set_hint(dead or " ".join(part for part in (self._entry(key).hint, now) if part))

    def _dead_sensor(self, key: str, meters: Meters | None) -> str:
        if meters is None:
            return ""
        if key == "limits.watts" and meters.watts is None:
            return self.tr("This device does not report its power.")
        if key in ("limits.hot_celsius", "limits.cool_celsius") and meters.celsius is None:
            return self.tr("This device does not report its temperature.")
        return ""

    def _now(self, key: str, meters: Meters) -> str:
        models = self.store.models
        match key:
            case "limits.watts":
                return self.tr("Now {watts} W.").format(watts=f"{meters.watts:.0f}")
            case "limits.hot_celsius":
                return self.tr("Now {celsius} °C.").format(celsius=f"{meters.celsius:.0f}")
            case "limits.duty":
                return self.tr("Now {share}.").format(share=share(meters.duty, 1))
            case "limits.memory_cap_mb" | "limits.memory_reserve_mb" if meters.memory_total_bytes:
                return self.tr("Now {free} of {total} free.").format(
                    free=size(meters.memory_free_bytes), total=size(meters.memory_total_bytes)
                )
            case "limits.gb_per_day":
                used = meters.received_bytes + meters.sent_bytes
                return self.tr("{used} today.").format(used=size(used))
            case "limits.disk_reserve_gb" if models is not None:
                return self.tr("Now {free} free.").format(free=size(models.free_bytes))
        return ""

    def _entry(self, key: str) -> Entry:
        known = {entry.key: entry for entry in self._entries()}
        if key in known:
            return known[key]
        row = row_of(self.store, key)
        name = key.rpartition(".")[2].replace("_", " ").capitalize()
        return Entry(key, name, row.text.splitlines()[0] if row and row.text else "")

    def _entries(self) -> list[Entry]:
        off, gb, mb = self.tr("no limit"), self.tr("GB"), self.tr("MB")
        return [
            Entry("limits.watts", self.tr("Power"), unit="W", zero=off),
            Entry(
                "limits.hot_celsius",
                self.tr("Pause at"),
                self.tr("Hotter than this it stops."),
                unit="°C",
            ),
            Entry(
                "limits.cool_celsius",
                self.tr("Go on below"),
                self.tr("From here up it works more slowly."),
                unit="°C",
            ),
            Entry(
                "limits.duty",
                self.tr("Share of the time"),
                self.tr("1 = without a break; less is cooler, and slower."),
            ),
            Entry("limits.memory_cap_mb", self.tr("Memory at most"), unit=mb, zero=off),
            Entry(
                "limits.memory_reserve_mb",
                self.tr("Memory kept free for you"),
                unit=mb,
            ),
            Entry(
                "limits.gpu_other_percent",
                self.tr("Wait while other programs use more than"),
                self.tr("Of the graphics card, over 20 seconds."),
                unit="%",
            ),
            Entry(
                "limits.threads",
                self.tr("Threads"),
                self.tr("Processor cores for the draft model."),
                zero=self.tr("half the cores"),
            ),
            Entry(
                "limits.sessions",
                self.tr("Answers at the same time"),
                self.tr("More take more memory."),
            ),
            Entry(
                "limits.context",
                self.tr("Longest conversation"),
                self.tr("In tokens, the question included."),
            ),
            Entry("limits.gb_per_day", self.tr("Data per day"), unit=gb, zero=off),
            Entry("limits.down_mbit", self.tr("Download speed"), unit="Mbit/s", zero=off),
            Entry("limits.up_mbit", self.tr("Upload speed"), unit="Mbit/s", zero=off),
            Entry("limits.disk_reserve_gb", self.tr("Disk kept free"), unit=gb),
        ]
