"""The sentence grammar of the built-in synthetic speakers and of the self-test model.

Everything is lower case with Whisper's punctuation (".", "?", ","), numbers are words. Two kinds:

- `grammar_sentence`: requests, questions, small talk, dates, interruptions of a voice chat
- `random_sentence`: uniformly random words, so that a recogniser cannot lean on the grammar

The split is by a hash of the text, so it is the same on every machine: the self-test model was
never trained on a sentence for which `is_eval` is true. Changing a rule changes neither the hash
of the sentences that remain nor the split, but what a seed yields.
"""

import random
import re
import zlib
from typing import Literal

from rtvc.transcript import cardinal

Split = Literal["train", "eval"]


def _listed(words: str) -> list[str]:
    return words.split()


WEEKDAYS = _listed("monday tuesday wednesday thursday friday saturday sunday")
MONTHS = _listed(
    "january february march april may june july august september october november december"
)
CITIES = _listed(
    "london paris berlin madrid rome tokyo boston chicago dublin oslo vienna lisbon toronto sydney "
    "moscow"
)
COLOURS = _listed("red blue green yellow orange purple black white brown pink grey")
ORDINALS = _listed("first second third fourth fifth sixth seventh eighth ninth tenth last next")
UNITS = [cardinal(n) for n in range(10)]
TEENS = [cardinal(n) for n in range(10, 20)]
TENS = [cardinal(n) for n in range(20, 100, 10)]

# A small context-free grammar: "<x>" expands to a rule, "|" separates alternatives.
_RULES: dict[str, str] = {
    "city": "|".join(CITIES),
    "day": "|".join(WEEKDAYS),
    "month": "|".join(MONTHS),
    "colour": "|".join(COLOURS),
    "ordinal": "|".join(ORDINALS),
    "digit": "|".join(UNITS),
    "person": "anna|david|peter|maria|robert|emma|my brother|my sister|my mother|my father|"
    "my friend|the doctor|the manager|the office|my teacher",
    "thing": "book|phone|computer|camera|window|door|table|chair|lamp|kitchen|garden|picture|"
    "letter|message|ticket|password|key|bag|jacket|umbrella|bottle|guitar|battery|"
    "keyboard|bicycle|car|house|room|file|folder|screen|button|box|map",
    "food": "coffee|tea|water|bread|butter|cheese|chicken|rice|soup|salad|pizza|apple juice|"
    "milk|chocolate|sugar|orange juice|an apple|a sandwich|a banana",
    "media": "music|radio|news|jazz|movie|song|video|podcast|game",
    "place": "airport|station|hotel|hospital|library|museum|market|bank|school|beach|park|"
    "restaurant|river|bridge|supermarket|theatre",
    "adj": "big|small|old|new|good|bad|cold|warm|hot|fast|slow|happy|quiet|loud|long|short|"
    "beautiful|simple|difficult|important|strange|heavy|empty|broken|clean|dirty",
    "adv": "today|tomorrow|now|later|again|tonight|this morning|this evening|this afternoon|"
    "next week|on <day>|in <month>|at <clock>|before lunch|after dinner|every day",
    "weather": "rain|snow|wind|sunshine|storm|fog",
    "wadj": "sunny|cloudy|windy|rainy|cold|warm|hot",
    "clock": "<hour> o'clock|<hour> thirty|<hour> fifteen|half past <hour>|<hour> in the morning|"
    "<hour> in the evening|midnight|noon",
    "hour": "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve",
    "date": "<month> <num>|the <ordinal> of <month>|<day>|<day> the <ordinal> of <month>",
    "unit": "minutes|hours|days|weeks|months|seconds",
    "polite": "please|thank you|thanks|if you can|if possible",
    "obj": "the <thing>|my <thing>|the <adj> <thing>|a <colour> <thing>|the <colour> <thing>|"
    "a <adj> <thing>|this <thing>|that <thing>|your <thing>",
    "do": "open|close|find|move|clean|check|fix|bring|show me|give me|buy|sell|send|take",
    "verb": "like|want|need|remember|understand|love|hate|see",
    "task": "<do> <obj>|call <person>|send a message to <person>|turn on the lights|"
    "turn off the lights|turn up the volume|turn down the volume|play some <media>|"
    "stop the <media>|set a timer for <num> <unit>|set an alarm for <clock>|"
    "read my messages|book a table for <num>|book a hotel in <city>|"
    "order <food>|buy some <food>|tell me a story|tell me a joke|"
    "find a <place> near the <place>|repeat the last <word>|write a letter to <person>|"
    "remind me to <remind>|add <food> to the list|show me the map of <city>|"
    "check the weather in <city>|start the <media>|change the password|"
    "cancel the meeting on <day>|move the meeting to <clock>",
    "word": "word|question|answer|number|sentence|name",
    "remind": "call <person>|buy <food>|clean the <thing>|visit <person>|water the garden|"
    "close the <thing>|go to the <place>",
    "wh": "what|where|when|why|how",
    "request": "<task>|please <task>|can you <task>|could you <task>|would you <task>|"
    "could you please <task>|i want you to <task>|i need you to <task>|"
    "let's <task>|<task> <adv>|hello, please <task>|hey, can you <task>",
    "statement": "i <verb> <obj>|i don't <verb> <obj>|i think <clause>|i know that <clause>|"
    "<clause>|<clause> and <clause>|<clause> but <clause>|<clause> because <clause>|"
    "yesterday i was in <city>|i will be in <city> <adv>|"
    "i'm going to the <place> with <person>|i live near the <place>|"
    "we are going to <city> in <month>|my number is <digits>|"
    "the code is <digits>|it is <wadj> in <city>|it will be <wadj> <adv>|"
    "there will be <weather> in <city>|my birthday is on <date>|"
    "the meeting is on <date>|the train to <city> leaves at <clock>|"
    "i have <num> <things>|she has <num> <colour> <things>|it costs <num> dollars|"
    "i would like <food>|i would like <food> and <food>|"
    "my favourite colour is <colour>|he is <num> years old|"
    "i'm looking for <obj>|i forgot <obj> at the <place>|"
    "we waited for <num> <unit>|she lives in <city>|they speak english",
    "things": "books|phones|keys|tickets|apples|bottles|letters|pictures|chairs|windows|cars",
    "clause": "<obj> is <adj>|<obj> is very <adj>|<obj> is too <adj>|<person> is in <city>|"
    "<person> is at the <place>|we need <obj>|they want <obj>|she likes <food>|"
    "he likes <media>|i like <food>|the <place> is closed|the <place> is open|"
    "the <place> is far away|it is <wadj>|i'm tired|i'm hungry|i'm ready|"
    "nobody is at home|everything is fine|the answer is <num>",
    "question": "what time is it|what time is it in <city>|what is the weather in <city>|"
    "what day is it|where is <obj>|where is the <place>|who is <person>|"
    "when does the <place> open|when does the train leave|how far is <city>|"
    "how old is <person>|how many <things> do you have|how much does it cost|"
    "why is <obj> so <adj>|do you <verb> <obj>|do you like <food>|"
    "did you see <obj>|have you seen <obj>|is the <place> open on <day>|"
    "are you there|can you hear me|what is your name|"
    "what is <num> plus <num>|what is <num> minus <num>|"
    "how do i get to the <place>|will it <weatherverb> <adv>|"
    "which <thing> is <adj>|which colour do you like|"
    "what do you think about <city>|do you want <food> or <food>|"
    "would you like some <food>|is it <wadj> in <city>|"
    "did <person> call <adv>|how are you today|what happened on <date>",
    "weatherverb": "rain|snow",
    "smalltalk": "hello|good morning|good evening|good night|how are you|i'm fine, thank you|"
    "thank you very much|nice to meet you|see you later|have a good day|"
    "that is very interesting|that sounds good|i don't understand|"
    "i'm sorry|excuse me|you are welcome|hello, my name is <firstname>|"
    "good morning, how are you today|goodbye, see you <adv>|"
    "no problem|of course|that is a good question|tell me more|go ahead",
    "firstname": "anna|david|peter|maria|robert|emma",
    "answer": "yes|no|maybe|yes, please|no, thank you|yes, <clause>|no, <clause>|"
    "yes, i think so|no, i don't think so|maybe <adv>|yes, of course|"
    "sure, <clause>|okay, <clause>|okay|sure|i'm not sure|that is right|that is wrong|"
    "exactly|never|always|the <ordinal> one|the <colour> one|<num>",
    "interrupt": "stop|wait|wait, that is not what i meant|no, stop|hold on|stop talking|"
    "wait a minute|one moment, please|sorry, can you repeat that|"
    "no, i said <num>|no, i said <day>|not <city>, <city>|"
    "actually, <task>|stop, that is wrong|please be quiet|never mind|"
    "cancel that|forget it|let me finish|that is enough|"
    "wait, i want <obj>|no, not <obj>, <obj>|hold on, <clause>|"
    "sorry, i meant <num>|can you speak slowly|louder, please",
    "compound": "<task> and then <task>|<request>, and <task>|if <clause>, <task>|"
    "when <clause>, please <task>|<statement>, so please <task>|"
    "first <task>, then <task>, and after that <task>|"
    "<clause>, but <clause>|i think <clause>, but <clause>|"
    "before we go to <city>, <task>",
}
_ALTERNATIVES: dict[str, list[str]] = {name: rule.split("|") for name, rule in _RULES.items()}
_TAG = re.compile(r"<(\w+)>")

_TOP: dict[str, tuple[float, str]] = {  # rule: (weight, final mark)
    "request": (0.24, "."),
    "statement": (0.24, "."),
    "question": (0.24, "?"),
    "compound": (0.11, "."),
    "interrupt": (0.07, "."),
    "answer": (0.06, "."),
    "smalltalk": (0.04, "."),
}
_WEIGHTS = [weight for weight, _ in _TOP.values()]
_QUESTION_START = (
    "can you",
    "could you",
    "would you",
    "hey, can you",
    "how are you",
    "good morning, how",
    "sorry, can you",
)
MAX_WORDS = 25


def words_of(text: str) -> list[str]:
    """The bare words of a sentence; apostrophes stay.

    >>> words_of("no, i said o'clock.")
    ['no', 'i', 'said', "o'clock"]
    """
    return re.findall(r"[a-z']+", text)


def _expand(symbol: str, rng: random.Random) -> str:
    if symbol == "num":
        return cardinal(rng.randrange(100))
    if symbol == "digits":
        return " ".join(rng.choice(UNITS) for _ in range(rng.randint(3, 6)))
    return _TAG.sub(lambda tag: _expand(tag.group(1), rng), rng.choice(_ALTERNATIVES[symbol]))


def grammar_sentence(rng: random.Random) -> str:
    """One template sentence with its final mark."""
    while True:
        rule = rng.choices(list(_TOP), weights=_WEIGHTS)[0]
        body = _expand(rule, rng)
        mark = "?" if body.startswith(_QUESTION_START) else _TOP[rule][1]
        if len(words_of(body)) <= MAX_WORDS:
            return body + mark


def _vocabulary() -> list[str]:
    seen = {*UNITS, *TEENS, *TENS}
    for alternatives in _ALTERNATIVES.values():
        for alternative in alternatives:
            seen.update(words_of(_TAG.sub(" ", alternative)))
    return sorted(seen)


VOCABULARY: list[str] = _vocabulary()

# Words that sound (nearly) like another word of the vocabulary, or melt into one. Only context can
# tell them apart, so random sequences leave them out; grammar sentences do use them.
AMBIGUOUS: frozenset[str] = frozenset(
    _listed(
        "to two too for four no know a an of i i'm the or are be o'clock hour hours let's let "
        "do does apple apples book books phone phones key keys ticket tickets bottle bottles "
        "letter letters picture pictures chair chairs window windows car cars message "
        "messages light lights like likes live lives leave leaves think thing day days week "
        "weeks month months minute minutes second seconds year years four fourth six sixth "
        "seven seventh eight eighth nine ninth ten tenth fourteen forty wait waited look "
        "looking talk talking thank thanks so this that then there they need want costs cost "
        "speak said rain rainy wind windy sunny sunday mean meant close closed right write "
        "red read"
    )
)
RANDOM_WORDS: list[str] = [word for word in VOCABULARY if word not in AMBIGUOUS]


def random_sentence(rng: random.Random) -> str:
    """Uniformly random words of the vocabulary; sometimes a comma inside."""
    count = rng.randint(2, 12)
    words = [rng.choice(RANDOM_WORDS) for _ in range(count)]
    if count >= 5 and rng.random() < 0.3:
        words[rng.randint(1, count - 3)] += ","
    return " ".join(words) + "."


def is_eval(text: str) -> bool:
    """Whether a text is held out of training: a stable tenth of those with three words or more."""
    return len(words_of(text)) >= 3 and zlib.crc32(text.encode()) % 10 == 0


def sentence(rng: random.Random, split: Split = "eval", random_share: float = 0.0) -> str:
    """A sentence of the wanted split; `random_share` of them are random words.

    >>> sentence(random.Random(7))
    'hey, can you add salad to the list?'
    """
    while True:
        text = random_sentence(rng) if rng.random() < random_share else grammar_sentence(rng)
        if (split == "eval") == is_eval(text):
            return text
