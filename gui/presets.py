"""Quiet, normal, full: what each sets. One table for the wizard and the page of limits."""

QUIET, NORMAL, FULL = "quiet", "normal", "full"
# Values by setting; None is the setting's own default. Chosen: Quiet stays below what makes most
# fans audible, Full below where cards slow themselves down.
PRESETS: dict[str, dict[str, float | None]] = {
    QUIET: {"limits.duty": 0.5, "limits.hot_celsius": 70, "limits.cool_celsius": 62},
    NORMAL: {"limits.duty": None, "limits.hot_celsius": None, "limits.cool_celsius": None},
    FULL: {"limits.duty": 1.0, "limits.hot_celsius": 87, "limits.cool_celsius": 80},
}
