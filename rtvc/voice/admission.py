"""May one more session start? Decided at once, with a reason and a time to try again."""

from rtvc.errors import AdmissionRefused


class Admission:
    """Slots for sessions; a slot is taken before the session is built, so a burst can't overshoot.

    >>> admission = Admission(max_sessions=1)
    >>> admission.enter()
    >>> admission.sessions
    1
    """

    def __init__(self, max_sessions: int, *, retry_after_s: float = 5.0) -> None:
        self.max_sessions = max_sessions
        self.retry_after_s = retry_after_s
        self.sessions = 0
        """Sessions inside."""
        self.refused = 0
        """Sessions refused since the start."""

    @property
    def full(self) -> bool:
        return self.sessions >= self.max_sessions

    def closed(self, headroom_sessions: float | None = None, *, overloaded: bool = False) -> bool:
        """Whether one more session would be refused; `headroom_sessions` None: unknown.

        An empty server takes a session whatever it thinks of itself.
        """
        no_headroom = headroom_sessions is not None and headroom_sessions < 1
        return self.full or ((no_headroom or overloaded) and self.sessions > 0)

    def enter(self, headroom_sessions: float | None = None, *, overloaded: bool = False) -> None:
        """Take a slot.

        Raises:
            AdmissionRefused: all slots are taken, or one more session would be too much.
        """
        if self.closed(headroom_sessions, overloaded=overloaded):
            self.refused += 1
            raise AdmissionRefused(self._reason(overloaded), retry_after_s=self.retry_after_s)
        self.sessions += 1

    def _reason(self, overloaded: bool) -> str:
        if self.full:
            return f"the server is full: {self.sessions} of {self.max_sessions} sessions"
        if overloaded:
            return (
                f"overloaded: transcripts of the {self.sessions} sessions here are late "
                "although partials are off"
            )
        return (
            f"no headroom: one more than {self.sessions} sessions would make transcripts too late"
        )

    def leave(self) -> None:
        """Give a slot back."""
        self.sessions -= 1
