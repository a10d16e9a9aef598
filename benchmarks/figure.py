"""One measured figure and what it ought to be."""

from __future__ import annotations

from dataclasses import dataclass


class NotMeasured(Exception):
    """Something did not run as it must for its figure to mean anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound for a figure: at least or at most `bound`, in the figure's unit."""

    relation: str
    bound: float

    @classmethod
    def at_least(cls, bound: float) -> Target:
        """The figure is to be this or more."""
        return cls(relation="≥", bound=bound)

    @classmethod
    def at_most(cls, bound: float) -> Target:
        """The figure is to be this or less."""
        return cls(relation="≤", bound=bound)

    def met_by(self, value: float) -> bool:
        """Whether `value` is within the bound."""
        return value >= self.bound if self.relation == "≥" else value <= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number with a name, a unit and, where there is one, a target."""

    name: str
    value: float
    unit: str
    target: Target | None = None

    @property
    def verdict(self) -> str:
        """`pass`, `miss`, or nothing when the figure is there to be compared with."""
        if self.target is None:
            return ""
        return "pass" if self.target.met_by(self.value) else "miss"
