"""All causes that training can prove."""

from __future__ import annotations

from slipstream.diagnosis.causes import network, objective, optimization, regularization, stopping
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.suspicion import Suspicion


def suspicions(run: Evidence) -> list[Suspicion]:
    """Return the causes that the evidence suggests, the likeliest first."""
    modules = (objective, network, optimization, regularization, stopping)
    found = [one for module in modules for cause in module.CAUSES for one in cause(run) if one.changes]
    return sorted(found, key=lambda one: -one.score)
