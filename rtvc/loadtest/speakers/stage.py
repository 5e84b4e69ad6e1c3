"""Who is on: in a search, the first so many speakers talk and the others wait to be called."""

from gevent.event import Event

from rtvc.loadtest.spec import Order


class Stage:
    """The order in force; speakers wait here for one that wants them."""

    def __init__(self) -> None:
        self._order = Order(step=-1, speakers=0, ramp_s=0.0)
        self._before = 0
        self._ordered_at_s = 0.0
        self._changed = Event()

    @property
    def speakers(self) -> int:
        """How many are wanted."""
        return self._order.speakers

    def obey(self, order: Order, now_s: float) -> bool:
        """Put a new order in force; False for one that is already."""
        if order.step <= self._order.step and order.over == self._order.over:
            return False
        self._before, self._order, self._ordered_at_s = self._order.speakers, order, now_s
        called, self._changed = self._changed, Event()
        called.set()
        return True

    def enter(self, number: int, after: int) -> tuple[int, float] | None:
        """Wait for an order newer than step `after` that wants this speaker.

        Returns its step and when to arrive; None once the search is over.
        """
        while not self._order.over:
            if self._order.step > after and number < self._order.speakers:
                return self._order.step, self._arrival_s(number)
            self._changed.wait()
        return None

    def _arrival_s(self, number: int) -> float:
        """New speakers come one after another; who has been here comes back at once."""
        newcomers = self._order.speakers - self._before
        if number < self._before or newcomers <= 0:
            return self._ordered_at_s
        share = (number - self._before) / newcomers
        return self._ordered_at_s + self._order.ramp_s * share
