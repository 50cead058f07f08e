"""The two palettes and the measures. Contrast of every pair in use is tested."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours as #RRGGBB. `line` and `track` only decorate; `border` is of what can be used;
    `tick` is the drawing in a ticked box."""

    bg: str
    side: str
    card: str
    line: str
    border: str
    text: str
    text2: str
    accent: str
    on_accent: str
    tint: str
    hover: str
    warn: str
    warn_tint: str
    bad: str
    bad_tint: str
    track: str
    other: str
    tick: str

    def __getitem__(self, token: str) -> str:
        colour: str = getattr(self, token)
        return colour


LIGHT = Palette(
    bg="#F4F6F5",
    side="#EBEFED",
    card="#FFFFFF",
    line="#DCE3E0",
    border="#73827C",
    text="#17211E",
    text2="#53625D",
    accent="#0A6E60",
    on_accent="#FFFFFF",
    tint="#DDF0EB",
    hover="#E1E8E5",
    warn="#875200",
    warn_tint="#FBEED6",
    bad="#B3261E",
    bad_tint="#FBE4E2",
    track="#E3E9E6",
    other="#A9B8B2",
    tick="tick.svg",
)
DARK = Palette(
    bg="#101514",
    side="#0C100F",
    card="#18201E",
    line="#2A3532",
    border="#6E7E78",
    text="#E7EEEB",
    text2="#9DADA7",
    accent="#4FD1B8",
    on_accent="#06211C",
    tint="#16352F",
    hover="#1F2927",
    warn="#F0B95B",
    warn_tint="#382A12",
    bad="#FF9A90",
    bad_tint="#3D1C1A",
    track="#28322F",
    other="#56655F",
    tick="tick-dark.svg",
)

# Type, in pixels at 100 %.
AXIS, SMALL, ROW, BODY, TITLE, STATE, FIGURE = 11, 12, 13, 14, 15, 22, 28
# Weights. Inter is shipped in 400, 500 and 600; what lies between takes the nearest.
PLAIN, MEDIUM, STRONG = 400, 500, 600

CARD_RADIUS = 12
CONTROL_RADIUS = 8
CONTROL_HEIGHT = 38
PAGE_MARGIN = 24
GAP = 16
