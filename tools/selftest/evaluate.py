"""Measure the exported model: word error rates, hallucinations, word times, latency.

    python -m tools.selftest.evaluate rtvc/stt/selftest --out eval.json        # a few minutes
    python -m tools.selftest.evaluate rtvc/stt/selftest --n 60 --quick         # a look
    python -m tools.selftest.evaluate rtvc/stt/selftest --n 200 --quick --fresh 47000

Test texts come from the held-out split, which training never sees. The default seeds are those
that were watched while the shipped model was trained; `--fresh SEED` takes others, so that a
figure is not one that was chosen by. "Short context" decodes features of the utterance's own
length (plus 0.5 s of zero padding) with CTranslate2 directly, greedy; the others use
`WhisperModel.transcribe`.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_ctranslate2_storage

from rtvc.audio import FloatArray
from rtvc.clock import SystemClock
from rtvc.speech.sentences import is_eval
from rtvc.transcript import NORMALISER, normalise, word_errors
from tools.selftest.card import write_card
from tools.selftest.data import HELD_OUT_VOICES, RATE_HZ, Example, Maker, Recipe

CLOCK = SystemClock()
CLEAN = Recipe(
    split="eval",
    random_share=0,
    truncated_share=0,
    silence_share=0,
    several_share=0,
    noise_share=0,
    reverb_share=0,
    band_limit_share=0,
)
SETS: dict[str, Recipe] = {
    "a_unseen_sentences_seen_voices": CLEAN,
    "a2_same_with_training_augmentation": replace(
        CLEAN, noise_share=0.6, reverb_share=0.25, band_limit_share=0.15
    ),
    "b_unseen_sentences_held_out_voices": replace(CLEAN, voices=HELD_OUT_VOICES),
    "c_noise_10_15_db": replace(CLEAN, noise_share=1, snr_db=(10, 15)),
    "e_truncated_partials": replace(CLEAN, truncated_share=1),
    "f_random_word_sequences": replace(CLEAN, random_share=1),
}
Result = dict[str, Any]


def make(recipe: Recipe, n: int, seed: int) -> list[Example]:
    """The examples of one set; none of them was trained on."""
    maker = Maker(recipe, seed)
    examples = [maker.make() for _ in range(n)]
    for example in examples:
        texts = [" ".join(word.text for word in words) for words in example.segments]
        assert example.truncated or all(map(is_eval, texts))
    return examples


def percent(share: float, digits: int = 1) -> float:
    """A share as rounded percent."""
    return round(100 * float(share), digits)


def marks_apart(text: str) -> str:
    """Punctuation as words of its own."""
    return re.sub(r"\s*([.,?])", r" \1", text).strip()


def score(examples: Sequence[Example], heard: Sequence[str]) -> Result:
    """Word error rate without punctuation, with it, and whole sentences right."""
    said = [example.text for example in examples]
    errors = [word_errors(s, h) for s, h in zip(said, heard, strict=True)]
    words = sum(each.reference_words for each in errors)
    exact = [normalise(s) == normalise(h) for s, h in zip(said, heard, strict=True)]
    both = [(marks_apart(s), marks_apart(h)) for s, h in zip(said, heard, strict=True) if s]
    with_marks = jiwer.wer([s for s, _ in both], [h for _, h in both]) if both else 0.0
    wrong = [[s, h] for s, h, right in zip(said, heard, exact, strict=True) if not right]
    return {
        "wer_percent": percent(sum(each.errors for each in errors) / max(words, 1), 2),
        "wer_with_punctuation_percent": percent(with_marks, 2),
        "sentences_exact_percent": percent(np.mean(exact)),
        "utterances": len(said),
        "words": words,
        "errors": wrong[:5],
    }


class ShortContext:
    """Decoding of an utterance's own length: what a real-time stack does with this model."""

    def __init__(self, whisper: WhisperModel) -> None:
        self._whisper = whisper
        self._tokenizer = Tokenizer(whisper.hf_tokenizer, False)
        self._prompt = [self._tokenizer.sot, self._tokenizer.no_timestamps]

    def __call__(self, audio: FloatArray, total_frames: int = 0) -> tuple[str, float]:
        """Text and no-speech probability; `total_frames` of 0: as many as needed."""
        mel = self._whisper.feature_extractor(audio)
        frames = total_frames or (mel.shape[1] + 50) // 2 * 2
        mel = np.pad(mel, ((0, 0), (0, max(0, frames - mel.shape[1]))))[None, :, :frames]
        result = self._whisper.model.generate(
            self._whisper.model.encode(get_ctranslate2_storage(mel)),
            [self._prompt],
            beam_size=1,
            max_length=160,
            return_no_speech_prob=True,
            suppress_blank=False,
        )[0]
        return self._tokenizer.decode(result.sequences_ids[0]).strip(), result.no_speech_prob


def transcribe(whisper: WhisperModel, audio: FloatArray, **options: Any) -> str:
    """As faster-whisper does by default."""
    return "".join(segment.text for segment in whisper.transcribe(audio, **options)[0]).strip()


class Evaluation:
    """One model, measured step by step; every result is printed as it comes."""

    def __init__(self, whisper: WhisperModel, n: int, seed: int) -> None:
        self.whisper = whisper
        self.short = ShortContext(whisper)
        self.n = n
        self.result: Result = {}
        self.sets = {
            name: make(recipe, n, seed + k) for k, (name, recipe) in enumerate(SETS.items())
        }

    @property
    def seen(self) -> list[Example]:
        return self.sets["a_unseen_sentences_seen_voices"]

    def keep(self, name: str, value: Result) -> None:
        self.result[name] = value
        print(name, json.dumps(value), flush=True)

    def score_default(self, name: str, examples: Sequence[Example], **options: Any) -> None:
        heard = [transcribe(self.whisper, example.audio, **options) for example in examples]
        self.keep(name, score(examples, heard))

    def quick(self, default_n: int) -> None:
        """The sets in short context, some of them as faster-whisper does, and silence."""
        for name, examples in self.sets.items():
            self.keep(name, score(examples, [self.short(each.audio)[0] for each in examples]))
        self.score_default("d_30s_window_transcribe_default", self.seen[:default_n])
        self.silence()

    def silence(self) -> None:
        maker = Maker(replace(CLEAN, silence_share=1), 777)
        clips = [maker.make().audio for _ in range(min(200, self.n))]
        short = [self.short(clip) for clip in clips]
        some = clips[: len(clips) // 2]
        default = [transcribe(self.whisper, clip) for clip in some]
        untimed = [
            transcribe(self.whisper, clip, without_timestamps=True, chunk_length=8) for clip in some
        ]
        belief = np.array([probability for _, probability in short])
        speech = [self.short(each.audio)[1] for each in self.seen[:50]]
        self.keep(
            "g_silence_and_noise",
            {
                "clips": len(clips),
                "nonempty_percent_short_context": percent(np.mean([bool(t) for t, _ in short])),
                "nonempty_percent_transcribe_default": percent(np.mean([bool(t) for t in default])),
                "no_speech_prob_mean_on_silence": round(float(belief.mean()), 4),
                "no_speech_prob_above_0.6_percent_on_silence": percent(np.mean(belief > 0.6)),
                "no_speech_prob_mean_on_speech": round(float(np.mean(speech)), 4),
                "nonempty_percent_transcribe_beam5_without_timestamps": percent(
                    np.mean([bool(t) for t in untimed])
                ),
                "examples": [t for t, _ in short if t][:8],
            },
        )

    def full(self, model: str) -> None:
        """The rest: other windows, long audio, word times, latency."""
        held_out = self.sets["b_unseen_sentences_held_out_voices"]
        self.score_default("d2_30s_window_held_out_voices", held_out[:100])
        self.score_default("d3_transcribe_chunk_length_8", self.seen[:100], chunk_length=8)
        several = make(replace(CLEAN, several_share=1), min(60, self.n), 555)
        self.score_default("h_several_utterances_in_30s_transcribe_default", several)
        self.long_audio()
        self.keep("j_word_timestamps", self.word_times(self.seen[:60]))
        self.keep("latency", latency(model, self.seen[:40]))

    def long_audio(self) -> None:
        """A minute or so of speech: windows are cut anywhere."""
        joined = []
        for k in range(min(6, self.n)):
            part = make(CLEAN, 25, 600 + k)
            audio = np.concatenate([np.pad(each.audio, (0, 8000)) for each in part])
            words = [segment for each in part for segment in each.segments]
            joined.append(Example(audio, words, 0.0))
        self.score_default("i_long_audio_transcribe_default", joined)

    def word_times(self, examples: Sequence[Example]) -> Result:
        """Error of word starts against espeak-ng's own word events."""
        errors_s: list[float] = []
        for example in examples:
            segments, _ = self.whisper.transcribe(example.audio, word_timestamps=True)
            got = [word for segment in segments for word in segment.words or ()]
            want = [word for words in example.segments for word in words]
            if [normalise(w.word) for w in got] == [normalise(w.text) for w in want]:
                errors_s += [abs(g.start - w.start_s) for g, w in zip(got, want, strict=True)]
        if not errors_s:
            return {}
        return {
            "words": len(errors_s),
            "median_abs_start_error_s": round(float(np.median(errors_s)), 3),
            "p90_abs_start_error_s": round(float(np.percentile(errors_s, 90)), 3),
        }


def latency(model: str, examples: Sequence[Example]) -> Result:
    """Milliseconds per utterance (features + encode + decode), int8."""
    mean_s = float(np.mean([len(each.audio) / RATE_HZ for each in examples]))
    result: Result = {"mean_audio_s": round(mean_s, 2)}
    for threads in (1, 2):
        whisper = WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=threads)
        short = ShortContext(whisper)
        ways = {
            "short_context": lambda audio, short=short: short(audio),
            "30s_context": lambda audio, short=short: short(audio, total_frames=3000),
            "transcribe_default_beam5_30s": lambda audio, w=whisper: transcribe(w, audio),
        }
        for name, run in ways.items():
            run(examples[0].audio)  # warm-up
            taken_ms = []
            for example in examples:
                start_s = CLOCK.now()
                run(example.audio)
                taken_ms.append(1e3 * (CLOCK.now() - start_s))
            result[f"{name}_{threads}_threads_ms"] = {
                "mean": round(float(np.mean(taken_ms)), 1),
                "p95": round(float(np.percentile(taken_ms, 95)), 1),
            }
    return result


def parsed_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder")
    parser.add_argument("--n", type=int, default=300, help="utterances per set")
    parser.add_argument("--out", type=Path, help="JSON file of all results")
    parser.add_argument("--quick", action="store_true", help="no latency, no long audio")
    parser.add_argument("--fresh", type=int, metavar="SEED", help="first seed; default 9000")
    parser.add_argument("--card", action="store_true", help="write MODEL_CARD.md (not if --quick)")
    parser.add_argument("--compute-type", default="int8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--training-note", default="64,000 examples (53 h) of synthetic speech")
    parser.add_argument("--parameters", default="7.4 million")
    return parser.parse_args()


def main() -> None:
    """Evaluate as asked."""
    args = parsed_arguments()
    whisper = WhisperModel(
        args.model, device="cpu", compute_type=args.compute_type, cpu_threads=args.threads
    )
    evaluation = Evaluation(whisper, args.n, 9000 if args.fresh is None else args.fresh)
    evaluation.result = {
        "model": args.model,
        "compute_type": args.compute_type,
        "parameters": args.parameters,
        "normaliser": NORMALISER,
    }
    evaluation.quick(default_n=40 if args.quick else min(200, args.n))
    if not args.quick:
        evaluation.full(args.model)
        if args.card:
            write_card(evaluation.result, Path(args.model), args.training_note)
    if args.out:
        args.out.write_text(json.dumps(evaluation.result, indent=1))


if __name__ == "__main__":
    main()
