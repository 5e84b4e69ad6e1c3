"""The loudspeaker of a simulated caller: sound plays in real time from its first arrival."""

from dataclasses import dataclass


@dataclass(slots=True)
class Playback:
    """How much of one reply has been heard; the server may send it faster than it plays.

    >>> playback = Playback()
    >>> playback.receive(10.0, 3.0)
    >>> playback.heard_s(11.0), playback.silent_at_s
    (1.0, 13.0)
    >>> playback.stop(12.0)
    >>> playback.heard_s(99.0), playback.silent_at_s
    (2.0, 12.0)
    """

    received_s: float = 0.0
    """Seconds of sound received while playing."""
    ends_at_s: float | None = None
    """When the sound received so far is over; None before the first."""
    stopped_at_s: float | None = None
    """When it was cut off; None if it was not."""

    def receive(self, at_s: float, audio_s: float) -> None:
        """Queue sound; a piece that comes after the buffer ran dry plays at once."""
        if self.stopped_at_s is not None:
            return
        self.ends_at_s = (at_s if self.ends_at_s is None else max(self.ends_at_s, at_s)) + audio_s
        self.received_s += audio_s

    def stop(self, at_s: float) -> None:
        """Cut it off; nothing happens if it is over already."""
        if self.playing(at_s):
            self.stopped_at_s = at_s

    def playing(self, at_s: float) -> bool:
        return self.stopped_at_s is None and self.ends_at_s is not None and at_s < self.ends_at_s

    def heard_s(self, at_s: float) -> float:
        """Seconds of the reply that have left the loudspeaker."""
        if self.ends_at_s is None:
            return 0.0
        until_s = at_s if self.stopped_at_s is None else min(at_s, self.stopped_at_s)
        return max(0.0, self.received_s - max(0.0, self.ends_at_s - until_s))

    @property
    def silent_at_s(self) -> float | None:
        """When it fell silent, or will with what came so far; None if nothing came."""
        return self.ends_at_s if self.stopped_at_s is None else self.stopped_at_s
