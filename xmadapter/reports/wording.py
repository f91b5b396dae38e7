"""How numbers and names read: percent with one decimal, points with a sign, names without control characters."""

from collections.abc import Iterable

from xmadapter.evaluation import Interval

__all__ = ["MINUS", "bounds", "count_of", "half_width", "listed", "percent", "points", "shots_title", "visible"]

MINUS = "\N{MINUS SIGN}"


def visible(text: str) -> str:
    r"""Spell out every character that does not print: control codes, direction marks, lone surrogates, line ends.

    Names come from data and configs; raw, they could rewrite a terminal or hide in a page.

    Example:
        >>> visible("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def percent(share: float) -> str:
    """Write a share in [0, 1] as percent, without the sign of percent.

    Example:
        >>> percent(0.7281)
        '72.8'
    """
    return f"{100 * share:.1f}"


def half_width(interval: Interval) -> str:
    """Write half the width of an interval in percent points, `±4.1`; empty where there is no spread."""
    return f"±{percent((interval.high - interval.low) / 2)}" if interval.high > interval.low else ""


def points(difference: float) -> str:
    """Write a difference of two shares as percent points with a sign; only 0 has none.

    Example:
        >>> points(0.021)
        '+2.1'
    """
    # A mean of shares that cancel is 0 up to rounding, far below what one image can change.
    return f"{100 * difference:+.1f}".replace("-", MINUS) if abs(difference) > 1e-12 else "0.0"


def bounds(interval: Interval) -> str:
    """Write the bounds of a difference, as in `+0.5 to +3.5`."""
    return f"{points(interval.low)} to {points(interval.high)}"


def shots_title(shots: int) -> str:
    """Name a shot count: `1 shot`, `16 shots`."""
    return count_of(shots, "shot")


def count_of(number: int, noun: str, plural: str | None = None) -> str:
    """Count a noun: `1 seed`, `10,000 images`; the plural ends in s unless it is given."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(values: Iterable[object]) -> str:
    """Join values with commas."""
    return ", ".join(map(str, values))
