"""How much of the time the worker may compute: less while the machine is between cool and hot."""

from nexusnode.policy.facts import Facts, Limits

MIN_DUTY = 0.05  # what the worker can keep (draft/messages.py, Pace)


def duty_of(facts: Facts, limits: Limits) -> float:
    """Return the share, `MIN_DUTY` to 1, in steps of 0.01: a worker need not hear of less."""
    share = 1.0
    span = limits.hot_celsius - limits.cool_celsius
    if facts.celsius is not None and facts.celsius > limits.cool_celsius:
        share = (limits.hot_celsius - facts.celsius) / span if span > 0 else 0.0
    return min(1.0, max(MIN_DUTY, round(limits.duty * share, 2)))
