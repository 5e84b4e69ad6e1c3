"""Loads of speech-to-text models as a log tells them: how long, how many, per session or not."""

from collections import deque

from rtvc.profile.logs.summary import ModelLoad

LOADS_KEPT = 1_000


class Loads:
    """The loads of one log; nothing in it says which of two that overlap has ended."""

    def __init__(self) -> None:
        self.kept: deque[ModelLoad] = deque(maxlen=LOADS_KEPT)
        """The last ones."""
        self.overlapped = 0
        """How many ended of which nobody knows how long they took."""
        self.in_process = 0
        """Begun since the server's start."""
        self.most_in_process = 0
        self._per_session = False
        self._process = 0
        self._served = False
        self._open: list[ModelLoad] = []
        self._overlap = False

    @property
    def per_session(self) -> bool | None:
        """Whether models were loaded beyond one at the start of a process; None: no load."""
        return self._per_session if self.kept else None

    def process_started(self) -> None:
        """What the process before it loaded is gone."""
        self._process += 1
        self.in_process = 0
        self._served = False
        self._open, self._overlap = [], False

    def served(self) -> None:
        """The process has, or had, a client."""
        self._served = True

    def began(self, at_s: float | None, clients: int, *, for_first_client: bool) -> None:
        """`for_first_client`: this server loads its one model no sooner."""
        load = ModelLoad(at_s, self._process, clients)
        self.kept.append(load)
        self._open.append(load)
        if len(self._open) > 1:
            self._overlap = True
        self.in_process += 1
        self.most_in_process = max(self.most_in_process, self.in_process)
        if self.in_process > 1 or (self._served and not for_first_client):
            self._per_session = True

    def ended(self) -> ModelLoad | None:
        """The one that ended; None: none was open, or several were."""
        if not self._open:
            return None
        load = self._open.pop(0)
        alone = not self._overlap
        self.overlapped += not alone
        self._overlap = bool(self._open) and self._overlap
        return load if alone else None
