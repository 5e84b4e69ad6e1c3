"""When a scale-in may take an instance."""

from rtvc.server.cloud.protection import Protection

IDLE_S = 300.0


class Instance:
    """One whose callers the test sends; `wish` is what EC2 Auto Scaling is asked for."""

    def __init__(self, *, protected: bool | None = True) -> None:
        self.protection = Protection(100.0, protected=protected)
        self.sessions = 0
        self.settled = True
        self.spare = True

    def wish(self, at_s: float) -> bool | None:
        """So many seconds after the start."""
        return self.protection.wish(
            100.0 + at_s,
            sessions=self.sessions,
            settled=self.settled,
            spare=self.spare,
            idle_s=IDLE_S,
        )


def test_a_fresh_one_is_not_given_free_before_its_first_caller_could_come() -> None:
    instance = Instance()
    assert [instance.wish(at_s) for at_s in (0, 1, IDLE_S - 0.1)] == [None, None, None]
    assert instance.wish(IDLE_S) is False


def test_loading_does_not_count_as_idle() -> None:
    instance = Instance()
    instance.settled = False
    assert instance.wish(1000) is None
    instance.settled = True
    assert instance.wish(1000 + IDLE_S - 0.1) is None
    assert instance.wish(1000 + IDLE_S) is False


def test_nobody_is_taken_while_somebody_talks_nor_shortly_after() -> None:
    instance = Instance()
    instance.sessions = 1
    assert instance.wish(5000) is None
    instance.sessions = 0
    assert instance.wish(5000 + IDLE_S - 0.1) is None
    assert instance.wish(5000 + IDLE_S) is False


def test_an_instance_that_is_needed_is_not_given_free_however_long_it_is_empty() -> None:
    instance = Instance()
    instance.spare = False
    assert instance.wish(100 * IDLE_S) is None
    # How long it was empty by then counts.
    instance.spare = True
    assert instance.wish(100 * IDLE_S + 1) is False


def test_an_instance_that_is_wanted_again_is_protected_at_once() -> None:
    instance = Instance()
    assert instance.wish(IDLE_S) is False
    instance.protection.done(False)
    instance.spare = False
    assert instance.wish(IDLE_S + 1) is True


def test_what_is_so_already_is_not_asked_for() -> None:
    instance = Instance()
    assert instance.wish(IDLE_S) is False
    instance.protection.done(False)
    assert instance.wish(IDLE_S + 1) is None


def test_a_caller_protects_the_instance_at_once() -> None:
    instance = Instance(protected=False)
    instance.wish(IDLE_S)
    instance.sessions = 1
    assert instance.wish(IDLE_S + 1) is True
    instance.protection.done(True)
    assert instance.wish(IDLE_S + 2) is None


def test_one_of_which_nothing_is_known_is_protected_first() -> None:
    assert Instance(protected=None).wish(0) is True
    assert Instance(protected=False).wish(0) is True


def test_what_failed_is_asked_for_again_after_its_pause() -> None:
    instance = Instance()
    assert instance.wish(IDLE_S) is False
    instance.protection.failed(False, 100.0 + IDLE_S, 8.0)
    assert instance.wish(IDLE_S + 7.9) is None
    assert instance.wish(IDLE_S + 8.0) is False


def test_a_caller_does_not_wait_for_the_pause_of_another_wish() -> None:
    instance = Instance()
    assert instance.wish(IDLE_S) is False
    # It may have been done, and only the answer be lost.
    instance.protection.failed(False, 100.0 + IDLE_S, 60.0)
    instance.sessions = 1
    assert instance.wish(IDLE_S + 1) is True


def test_without_patience_it_is_free_as_soon_as_nobody_is_there() -> None:
    protection = Protection(0.0, protected=True)
    assert protection.wish(0.0, sessions=1, settled=True, spare=True, idle_s=0.0) is None
    assert protection.wish(0.0, sessions=0, settled=True, spare=True, idle_s=0.0) is False
