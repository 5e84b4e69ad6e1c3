"""How the figures of a bench are written in its sentences. Pure."""

import math

from rtvc.results.cells import Held


def seconds(value: float) -> str:
    """About three digits, in what is read most easily.

    >>> seconds(0.0412), seconds(0.5), seconds(2.5), seconds(float("inf"))
    ('41.2 ms', '500 ms', '2.5 s', 'missing')
    """
    if math.isinf(value):
        return "missing"
    number, unit = (value, "s") if value >= 1 else (1000 * value, "ms")
    return f"{digits(number)} {unit}"


def digits(number: float) -> str:
    """About three significant digits, trailing zeros left out.

    >>> digits(412.3), digits(41.26), digits(4.0), digits(0.04)
    ('412', '41.3', '4', '0.04')
    """
    places = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    text = f"{number:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """
    >>> percent(0.052), percent(1.0)
    ('5.2 %', '100 %')
    """
    return f"{digits(100 * share)} %"


def points(change: float) -> str:
    """A difference of two rates, in hundredths.

    >>> points(0.006), points(-0.0123), points(0.0002)
    ('+0.6 points', '−1.2 points', '±0 points')
    """
    written = f"{abs(100 * change):.1f}".removesuffix(".0")
    sign = "±" if written == "0" else "+" if change > 0 else "−"
    return f"{sign}{written} points"


def times(ratio: float) -> str:
    """How many times as fast, in words.

    >>> times(4.1), times(0.5), times(1.01)
    ('4.1× faster than', '2× slower than', 'as fast as')
    """
    if 0.97 < ratio < 1.03:
        return "as fast as"
    factor, word = (ratio, "faster") if ratio > 1 else (1 / ratio, "slower")
    return f"{digits(factor)}× {word} than"


def held_text(held: Held) -> str:
    """Sessions, or that nobody looked for more.

    >>> held_text(Held(14, 15, 0.5, 0.45, 120)), held_text(Held(128, None, 0.5, 0.45, 120))
    ('14', '128 or more')
    """
    return f"{held.sessions}" if held.fails_at is not None else f"{held.sessions} or more"


def gibibytes(count: float) -> str:
    """
    >>> gibibytes(4 * 2**30), gibibytes(181 * 2**20)
    ('4 GiB', '181 MiB')
    """
    if count < 2**30:
        return f"{count / 2**20:.0f} MiB"
    return f"{digits(count / 2**30)} GiB"
