"""What a look at one thing has found."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One line."""

    mark: str  # ✓ good, ✗ bad, – neither: no run fails of it, or it could not be looked at
    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.mark} {self.what}" + (f"; {self.advice}" if self.advice else "")


def good(what: str) -> Finding:
    """It is as it has to be."""
    return Finding("✓", what)


def bad(what: str, advice: str = "") -> Finding:
    """A run would fail of it; and what to do."""
    return Finding("✗", what, advice)


def unsure(what: str, advice: str = "") -> Finding:
    """Worth knowing."""
    return Finding("–", what, advice)
