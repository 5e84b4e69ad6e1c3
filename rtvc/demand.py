"""How many sessions a group should have room for, with so many in it. Pure.

Callers come by chance, so room for as many as there are is too little, and chance weighs more the
fewer they are: sessions at a Poisson rate differ from their mean by its square root (one standard
deviation). So a group of S sessions should have room for S + √S: square-root staffing (Halfin and
Whitt 1981, Operations Research 29(3); here with β = 1). A target in percent alone leaves too much
room to a large group or too little to a small one.
"""

import math


def demand(sessions: int, servers: int) -> float:
    """What one of so many servers asks for, in sessions: its own, and its part of their root.

    All ask for S + √S together where sessions are spread evenly, and for less where they are not.

    >>> demand(9, 1), 4 * demand(25, 4) == 100 + 10
    (12.0, True)
    """
    return sessions + math.sqrt(sessions / max(servers, 1))
