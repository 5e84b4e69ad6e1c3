"""Whether this instance stands aside, and when it may go; pure.

A group that has more instances than it wants can't take one away while all are protected, and all
are, as a load balancer that spreads callers leaves none empty. So those that are too many stand
aside (`rtvc.surplus`): every server reads the same list and works out the same names. Who stands
aside says "not ready", keeps the sessions that it has, and once it is empty has the group end it.
When more are wanted it is ready again at once.

It refuses nobody: how the others are it does not know. If all of them fail, a load balancer that
finds none ready sends callers to all, and they find this one.
"""

from rtvc.server.cloud.instance import Roster
from rtvc.surplus import Member, standing_aside

LOOK_S = 30.0
"""Between two looks at the group."""
NOTICED_S = 20.0
"""A load balancer asks every 10 s and believes what it hears twice; until then it sends callers."""
FORGOTTEN_S = 120.0
"""What was seen longer ago counts no more: to be there for nobody costs callers, to be there for
nothing costs money."""

_IN_SERVICE = "InService"


def too_many(roster: Roster) -> frozenset[str]:
    """Ids of the instances that stand aside."""
    return standing_aside(in_service(roster), roster.desired)


def in_service(roster: Roster) -> list[Member]:
    """Those that callers are meant for.

    One that is still on its way has to say that it is ready to get there, and one that is leaving
    is not wanted any more. Nor is one that EC2 finds broken: it is replaced.
    """
    return [
        Member(one.instance_id, one.protected, one.zone)
        for one in roster.instances
        if one.state == _IN_SERVICE and one.healthy
    ]


class Aside:
    """One instance's place beside the others.

    >>> from rtvc.server.cloud.instance import Listed
    >>> both = tuple(Listed(f"i-{n}", "a", "InService", protected=True) for n in (1, 2))
    >>> aside = Aside("i-1")
    >>> aside.seen(0.0, Roster(1, both))
    >>> aside.stands, aside.left_alone(NOTICED_S - 1), aside.left_alone(NOTICED_S)
    (True, False, True)
    """

    def __init__(self, instance_id: str) -> None:
        self.stands = False
        """What the server is told."""
        self._instance_id = instance_id
        self._since_s = 0.0
        self._seen_at_s = 0.0

    def seen(self, now_s: float, roster: Roster) -> None:
        """The group as it is now."""
        self._seen_at_s = now_s
        stood, self.stands = self.stands, self._instance_id in too_many(roster)
        if self.stands and not stood:
            self._since_s = now_s

    def unseen(self, now_s: float) -> None:
        """Nobody could say how the group is."""
        if now_s - self._seen_at_s >= FORGOTTEN_S:
            self.stands = False

    def left_alone(self, now_s: float) -> bool:
        """Whether a load balancer sends nobody any more, as long as another server is ready."""
        return self.stands and now_s - self._since_s >= NOTICED_S

    def goes(self, now_s: float, roster: Roster, *, sessions: int) -> bool:
        """Whether nothing keeps the instance in the group, which was seen to be so just now.

        Its protection was lifted, so it has been empty for long enough; who comes just while it
        goes has the time that a drain leaves.
        """
        own = roster.find(self._instance_id)
        free = own is not None and own.state == _IN_SERVICE and not own.protected
        return free and self.left_alone(now_s) and sessions == 0
