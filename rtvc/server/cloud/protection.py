"""When a scale-in may take this instance: once it can be spared and was empty for a while; pure.

It can be spared when it stands aside, or has failed: then the group gets rid of what is broken
before what works. The group launches its instances protected, so that none is taken before its
first caller. One that only happens to be empty stays protected: the load balancer sends it callers,
and would cut those who came just when the group took it. An instance that is wanted again is
protected again, or told that it is ending already, and then the server drains.
"""


class Protection:
    """What EC2 Auto Scaling is told, and when.

    >>> protection = Protection(0.0, protected=True)
    >>> protection.wish(300.0, sessions=0, settled=True, spare=False, idle_s=300)
    >>> protection.wish(300.0, sessions=0, settled=True, spare=True, idle_s=300)
    False
    """

    def __init__(self, now_s: float, *, protected: bool | None) -> None:
        """`protected` None: nobody knows."""
        self.protected = protected
        """As EC2 Auto Scaling has it."""
        self._in_use_at_s = now_s
        self._refused: tuple[bool, float] | None = None

    def wish(
        self, now_s: float, *, sessions: int, settled: bool, spare: bool, idle_s: float
    ) -> bool | None:
        """What to ask for now; None: nothing.

        `settled`: a server that still loads was launched for callers, and counts as in use.
        `spare`: the group can do without it, and nobody comes to it any more.
        """
        in_use = sessions > 0 or not settled
        if in_use:
            self._in_use_at_s = now_s
        wanted = in_use or not spare or now_s - self._in_use_at_s < idle_s
        if wanted is self.protected or self._pausing(wanted, now_s):
            return None
        return wanted

    def _pausing(self, wanted: bool, now_s: float) -> bool:
        """Who is wanted while nobody could be told that it is not must not wait for that."""
        if self._refused is None:
            return False
        wished, not_before_s = self._refused
        return wished is wanted and now_s < not_before_s

    def done(self, protected: bool) -> None:
        """EC2 Auto Scaling has it so now."""
        self.protected, self._refused = protected, None

    def failed(self, wished: bool, now_s: float, pause_s: float) -> None:
        """It may have it so or not; ask for the same no sooner than that."""
        self.protected, self._refused = None, (wished, now_s + pause_s)
