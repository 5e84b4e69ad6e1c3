"""Which words may be shown as settled."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.voice.local_agreement import LocalAgreement, plain

texts = st.lists(st.lists(st.sampled_from(["turn", "on", "On,", "the", "light", "."])), max_size=8)


def test_a_word_is_stable_when_two_hypotheses_agree_on_all_before_it() -> None:
    agreement = LocalAgreement()
    assert agreement.update("what time is") == ()
    assert agreement.update("what times is it") == ("what",)
    assert agreement.update("what time is it in") == ()
    assert agreement.update("what time is it in oslo") == ("time", "is", "it", "in")


def test_marks_and_case_do_not_disagree() -> None:
    agreement = LocalAgreement()
    agreement.update("Hello please")
    assert agreement.update("hello, please open") == ("hello,", "please")


@settings(deadline=None)
@given(texts)
def test_the_stable_prefix_never_shrinks_and_never_changes(hypotheses: list[list[str]]) -> None:
    agreement = LocalAgreement()
    previous: list[str] = []
    for words in hypotheses:
        before = agreement.stable
        fresh = agreement.update(" ".join(words))
        assert agreement.stable == before + fresh
        if fresh:
            length = len(agreement.stable)
            assert [plain(w) for w in words[:length]] == [plain(w) for w in agreement.stable]
            assert [plain(w) for w in previous[:length]] == [plain(w) for w in agreement.stable]
        previous = words
