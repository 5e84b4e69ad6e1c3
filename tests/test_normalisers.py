"""Clean-ups by language: what is a mark goes, what is a word stays, and nothing changes twice."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc import transcript
from rtvc.normalisers import WITHOUT_SPACES, normaliser_for, primary_tag
from rtvc.normalisers.basic import NAME, normalise

LETTERS = "aZéÉñßöΩΣжЯéعבप한今ก"
MARKS = " .,!?-–—\"'’()[]…。、¿«»\n"
texts = st.text(alphabet=LETTERS + MARKS + "0279٣५", max_size=40)


@given(texts, st.sampled_from(["", "de", "tr", "ru", "ja", "ar"]))
@settings(deadline=None)
def test_once_is_enough(text: str, language: str) -> None:
    once = normalise(text, language)
    assert normalise(once, language) == once


@given(texts)
@settings(deadline=None)
def test_words_are_single_spaced_and_hold_no_mark(text: str) -> None:
    words = normalise(text).split(" ")
    for word in words:
        assert word == word.strip("'")
        assert all(c == "'" or unicodedata.category(c)[0] in "LMN" for c in word)
    assert words == [""] or all(words)


@given(st.lists(st.text(alphabet="abcxyzäöéжш", min_size=1, max_size=8), max_size=8))
@settings(deadline=None)
def test_plain_words_are_kept_as_they_are(words: list[str]) -> None:
    composed = [unicodedata.normalize("NFKC", word) for word in words]
    assert normalise(", ".join(composed).upper()).split() == normalise(" ".join(composed)).split()
    assert len(normalise(" ".join(composed)).split()) == len(words)


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("de", "Straße", "strasse"),
        ("fr", "Qu’est-ce que c’est ?", "qu'est ce que c'est"),
        ("tr", "ISPARTA'DA İYİ", "ısparta'da iyi"),
        ("ru", "Всё ещё", "все еще"),
        ("de", "Всё", "всё"),
        ("ar", "مُحَمَّد", "محمد"),
        ("he", "שָׁלוֹם", "שלום"),
        ("hi", "नमस्ते दुनिया!", "नमस्ते दुनिया"),
        ("fa", "می\u200cخواهم", "میخواهم"),
        ("ar", "٣٤", "34"),
        ("ja", "全角ＡＢＣ１２", "全角abc12"),
        ("de", "Donau\u00addampfer", "donaudampfer"),
    ],
)
def test_each_script_keeps_what_belongs_to_its_words(
    language: str, text: str, expected: str
) -> None:
    assert normalise(text, language) == expected


@given(st.text(max_size=60))
@settings(deadline=None)
def test_english_is_cleaned_up_as_ever(text: str) -> None:
    for tag in ("en", "en-US", "EN_gb"):
        found = normaliser_for(tag)
        assert found.name == transcript.NORMALISER == "rtvc-en-1"
        assert found.text(text) == transcript.normalise(text)
        assert found.unit == "wer"


@pytest.mark.parametrize("language", sorted(WITHOUT_SPACES))
def test_scripts_without_spaces_are_counted_in_characters(language: str) -> None:
    found = normaliser_for(f"{language}-Xxxx")
    assert (found.unit, found.name) == ("cer", NAME)
    assert found.tokens("今日 は。", found.unit) == ("今", "日", "は")


@pytest.mark.parametrize("language", ["de", "fr", "ru", "ko", "hi", "ar", ""])
def test_other_languages_are_counted_in_words(language: str) -> None:
    found = normaliser_for(language)
    assert (found.unit, found.name) == ("wer", NAME)
    assert found.tokens("eins, zwei!", found.unit) == ("eins", "zwei")


def test_a_tag_is_known_by_its_first_part() -> None:
    assert [primary_tag(tag) for tag in ("pt-BR", "zh_Hant_TW", "EN", " fi ")] == [
        "pt",
        "zh",
        "en",
        "fi",
    ]
