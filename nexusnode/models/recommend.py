"""Which draft model suits this machine, and the sentence why. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from nexusnode.models.fit import Fit


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that is here or can be had. `hosts` want its family now; `spare` is a sentence."""

    name: str
    family: str
    fit: Fit
    spare: str
    hosts: int
    speed: float | None
    is_bundled: bool


def recommend(candidates: Sequence[Candidate], default_family: str) -> tuple[str, str]:
    """Return the name of the model to take and why; ("", why) if none fits.

    Of those that fit: one that hosts ask for now, else one of the family that most of them serve.
    Among equals the faster here, where that was measured, then the order given.
    """
    fitting = [one for one in candidates if one.fit is Fit.FITS]
    wanted = [one for one in fitting if one.hosts]
    if wanted:
        best = max(wanted, key=lambda one: (one.hosts, one.speed or 0.0))
        asking = "1 host asks" if best.hosts == 1 else f"{best.hosts} hosts ask"
        return best.name, f"{asking} for it now. {best.spare}"
    usual = [one for one in fitting if one.family == default_family and not one.is_bundled]
    if usual:
        best = max(usual, key=lambda one: one.speed or 0.0)
        return best.name, f"For hosts of {best.family}. {best.spare}{_bundled_note(candidates)}"
    small = next((one for one in candidates if one.is_bundled and one.fit is not Fit.NO), None)
    if small is None:
        return "", "No model fits in the memory that is free now: close other programs."
    return small.name, (
        f"The one that fits in the memory that is free now. It serves {small.family} hosts only."
    )


def _bundled_note(candidates: Sequence[Candidate]) -> str:
    families = [one.family for one in candidates if one.is_bundled]
    return (
        f" The one that came with Nexus serves {families[0]} hosts only, and none is known now."
        if families
        else ""
    )
