"""Byte-level BPE tokenizer with Whisper's special tokens (English-only layout).

    python -m tools.selftest.bpe model/tokenizer.json

Ids: text tokens | <|endoftext|> <|startoftranscript|> ... <|notimestamps|> | <|0.00|> .. <|30.00|>
"""

import random
import sys

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from rtvc.speech import sentences

TEXT_TOKENS = 1000
SPECIALS = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
TIMESTAMPS = [f"<|{i * 0.02:.2f}|>" for i in range(1501)]
EOT, SOT, TRANSLATE, TRANSCRIBE, SOT_LM, SOT_PREV, NO_SPEECH, NO_TIMESTAMPS = range(
    TEXT_TOKENS, TEXT_TOKENS + len(SPECIALS)
)
TIMESTAMP_0 = NO_TIMESTAMPS + 1
VOCAB_SIZE = TIMESTAMP_0 + len(TIMESTAMPS)


def timestamp(seconds: float) -> int:
    """Token of a time; the model speaks in steps of 0.1 s, so targets are rounded to that."""
    return TIMESTAMP_0 + 5 * min(300, max(0, round(seconds * 10)))


def train() -> Tokenizer:
    """A tokenizer of the training sentences; the same on every machine."""
    rng = random.Random(0)
    texts = [" " + sentences.sentence(rng, "train", 0.3) for _ in range(40000)]
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=TEXT_TOKENS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    assert tok.get_vocab_size() == TEXT_TOKENS, tok.get_vocab_size()
    tok.add_special_tokens(
        [AddedToken(s, special=True, normalized=False) for s in SPECIALS + TIMESTAMPS]
    )
    assert tok.token_to_id("<|notimestamps|>") == NO_TIMESTAMPS
    assert tok.token_to_id("<|30.00|>") == VOCAB_SIZE - 1
    return tok


if __name__ == "__main__":
    tokenizer = train()
    tokenizer.save(sys.argv[1] if len(sys.argv) > 1 else "tokenizer.json")
    single = sum(
        len(tokenizer.encode(" " + w, add_special_tokens=False).ids) == 1
        for w in sentences.VOCABULARY
    )
    print(f"{VOCAB_SIZE} tokens; {single}/{len(sentences.VOCABULARY)} words are one token")
    print(tokenizer.encode(" hello, what's the weather in london on thursday? Zürich!").tokens)
