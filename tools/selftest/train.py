"""Train the self-test Whisper from the cached features, within a wall-clock budget.

    python -m tools.selftest.train --cache cache --minutes 45 --out run

Three losses: next token; per-frame word class on the encoder (word times are known exactly, so
this stands in for CTC and makes the encoder converge within minutes); and 'guided' cross-attention
heads that should look at the word being written (so word timestamps work as well).
No padding mask anywhere: at run time CTranslate2 has none, so the model learns to read padding.
"""

import argparse
import json
import math
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from rtvc.clock import SystemClock
from rtvc.speech.sentences import RANDOM_WORDS, VOCABULARY
from tools.selftest import bpe
from tools.selftest.model import Config, Whisper
from tools.selftest.phones import VOWEL_START, phone_table

WORD_CLASS = {w: i + 1 for i, w in enumerate(VOCABULARY)}  # 0: no word
IGNORE = -100
CLOCK = SystemClock()


@dataclass
class Item:
    """One example of a shard."""

    feats: np.ndarray  # (frames, 80) float16 view
    segs: list[list[tuple[list[int], int, float, float]]]  # (tokens, class, start, end) per word
    lead: float
    cut: bool
    accent: str


def load_shard(base: Path, tok: Tokenizer, cache: dict[str, list[int]]) -> list[Item]:
    feats = np.fromfile(f"{base}.feat", dtype=np.float16).reshape(-1, 80)
    items, at = [], 0
    for line in Path(f"{base}.jsonl").read_text().splitlines():
        m = json.loads(line)
        segs = []
        for seg in m["segs"]:
            words = []
            for text, start, end in seg:
                if text not in cache:
                    cache[text] = tok.encode(" " + text, add_special_tokens=False).ids
                words.append((cache[text], WORD_CLASS[text.rstrip(".,?")], start, end))
            segs.append(words)
        items.append(
            Item(feats[at : at + m["n"]], segs, m["lead"], bool(m["cut"]), m["voice"].split("+")[0])
        )
        at += m["n"]
    return items


def sequence(
    item: Item, shift: float, with_timestamps: bool, prompt: list[int]
) -> tuple[list[int], list[int], list[tuple[float, float]]]:
    """Decoder inputs, targets, and the time span each target is spoken in (-1: none)."""
    none = (-1.0, -1.0)
    body: list[int] = []
    spans: list[tuple[float, float]] = []
    for k, seg in enumerate(item.segs):
        if not seg:
            continue
        start, end = seg[0][2] - shift, seg[-1][3] - shift
        if with_timestamps:
            body.append(bpe.TIMESTAMP_0 if k == 0 else bpe.timestamp(start - 0.05))
            spans.append(none if k == 0 else (start, start + 0.1))
        for ids, _, a, b in seg:
            body += ids
            for t in ids:
                mark = t in PUNCTUATION
                spoken = (a - shift, b - shift)
                spans.append((b - shift - 0.06, b - shift + 0.2) if mark else spoken)
        if with_timestamps:
            body.append(bpe.timestamp(end))
            spans.append((end - 0.1, end + 0.1))
    silent = not item.segs and not item.cut
    first = bpe.NO_SPEECH if silent else bpe.TIMESTAMP_0
    if with_timestamps:
        body = body or [bpe.TIMESTAMP_0]
        spans = spans or [none]
        x, y = [bpe.SOT] + body, [first] + body[1:] + [bpe.EOT]
        spans = [none] + spans[1:] + [none]
    else:
        x, y = [bpe.SOT, bpe.NO_TIMESTAMPS] + body, [first] + body + [bpe.EOT]
        spans = [none] + spans + [none]
    pre = [bpe.SOT_PREV] + prompt if prompt else []
    return pre + x, [IGNORE] * len(pre) + y, [none] * len(pre) + spans


PUNCTUATION: set[int] = set()
PHONES: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}  # (accent, word class)


def fill_phones() -> int:
    """Phoneme classes of each word and where in the word each one ends (0..1)."""
    table, names = phone_table()
    for (accent, word), ids in table.items():
        weight = [2.0 if names[i - 1][0] in VOWEL_START else 1.0 for i in ids]
        PHONES[accent, WORD_CLASS[word]] = (np.array(ids), np.cumsum(weight) / sum(weight))
    return len(names) + 1


@dataclass
class Batch:
    """Examples side by side, padded."""

    mel: Tensor
    ids: Tensor
    targets: Tensor
    spans: Tensor  # (batch, tokens, 2) encoder frames, -1 where unguided
    frames: Tensor  # (batch, encoder frames) word classes
    phones: Tensor  # (batch, encoder frames) phoneme classes


def collate(
    items: list[Item], pad_to: int, rng: random.Random, pool: list[Item], augment: bool = True
) -> Batch:
    rows, shifts = [], []
    for it in items:
        lead = int(it.lead * 100)
        cut = rng.randint(0, lead) if augment and lead > 2 and rng.random() < 0.3 else 0
        mel = it.feats[cut:].astype(np.float32)
        if augment:
            floor = float(mel.min())
            mel = mel + rng.uniform(-0.15, 0.15)
            if rng.random() < 0.4:
                f = rng.randint(0, 74)
                mel[:, f : f + rng.randint(1, 8)] = floor
        rows.append(mel)
        shifts.append(cut / 100)
    frames = min(3000, max(pad_to, max(map(len, rows))))
    frames += frames % 2
    mel = np.zeros((len(rows), frames, 80), np.float32)
    classes = np.zeros((len(rows), frames // 2), np.int64)
    phones = np.zeros_like(classes)
    seqs = []
    prompted = augment and rng.random() < 0.08  # whole batches: token padding is not wasted
    longest_prompt = 200 if rng.random() < 0.15 else 40
    for i, (it, row, shift) in enumerate(zip(items, rows, shifts, strict=True)):
        mel[i, : len(row)] = row[:frames]
        for seg in it.segs:
            for _, c, a, b in seg:
                lo, hi = max(0, round((a - shift) * 50)), max(0, round((b - shift) * 50))
                classes[i, lo:hi] = c
                spelled, ends = PHONES[it.accent, c]
                row_phones = phones[i, lo:hi]  # phonemes share the word's time, vowels 2:1
                where = np.searchsorted(ends, (np.arange(len(row_phones)) + 0.5) / max(hi - lo, 1))
                row_phones[:] = spelled[np.minimum(where, len(spelled) - 1)]
        prompt: list[int] = []
        if prompted:
            want = rng.randint(3, longest_prompt)
            while len(prompt) < want:
                other = rng.choice(pool)
                prompt += [t for t in sequence(other, 0, rng.random() < 0.5, [])[1][1:-1]]
                prompt += [] if other.segs else [bpe.TIMESTAMP_0]
            prompt = prompt[-want:]
        seqs.append(sequence(it, shift, rng.random() < 0.5, prompt))
    n = max(len(s[0]) for s in seqs)
    n = -(-n // 8) * 8 if n < 64 else -(-n // 32) * 32
    ids = np.full((len(seqs), n), bpe.EOT, np.int64)
    targets = np.full((len(seqs), n), IGNORE, np.int64)
    spans = np.full((len(seqs), n, 2), -1.0, np.float32)
    for i, (x, y, s) in enumerate(seqs):
        ids[i, : len(x)], targets[i, : len(y)], spans[i, : len(s)] = x, y, s
    if augment:  # wrong history now and then: listen, do not guess from the grammar
        text = np.concatenate([ids[ids < bpe.EOT], [5]])
        chance = np.random.default_rng(rng.getrandbits(32)).random(ids.shape)
        swap = (ids < bpe.EOT) & (chance < 0.07)
        ids[swap] = [text[rng.randrange(len(text))] for _ in range(int(swap.sum()))]
    spans = np.where(spans[..., 1:] < 0, -1, np.clip(np.round(spans * 50), 0, frames // 2 - 1))
    return Batch(
        torch.from_numpy(mel).transpose(1, 2),
        torch.from_numpy(ids),
        torch.from_numpy(targets),
        torch.from_numpy(spans).long(),
        torch.from_numpy(classes),
        torch.from_numpy(phones),
    )


def looks_random(item: Item) -> bool:
    """Examples whose words are all from the random-sequence list."""
    return all(VOCABULARY[c - 1] in RANDOM for seg in item.segs for _, c, _, _ in seg)


RANDOM = frozenset(RANDOM_WORDS)


def batches(items: list[Item], budget: int, rng: random.Random):
    """One pass over the items in batches of similar length and about ``budget`` frames.

    Few distinct shapes: oneDNN compiles kernels per shape, so free-form shapes cost a third.
    """
    order = sorted(items, key=lambda it: len(it.feats) * rng.uniform(0.9, 1.1))
    groups, at = [], 0
    while at < len(order):
        extra = rng.choice((0, 0, 0, 0, 0, 40, 80, 160))  # padding beyond the longest example
        frames = 0
        while True:  # batch size is a function of the padded length
            n = max(1, budget // max(frames, 40))
            longest = max(len(it.feats) for it in order[at : at + n])
            need = min(3000, -(-longest // 40) * 40 + extra)
            if need <= frames:
                break
            frames = need
        groups.append((order[at : at + n], frames))
        at += n
    rng.shuffle(groups)
    for group, frames in groups:
        if rng.random() < 0.02:  # long windows, many of them the full 30 s
            frames = rng.choice((1000, 2000, 3000, 3000))
            group = rng.sample(group, min(len(group), 10000 // frames))
            frames = max(frames, max(len(it.feats) for it in group))
        yield collate(group, frames, rng, items)


def guide_loss(attention: Tensor, spans: Tensor) -> Tensor:
    """How little of (batch, heads, tokens, frames) attention falls inside the tokens' spans."""
    position = torch.arange(attention.shape[-1])
    a, z = spans[..., :1], spans[..., 1:]
    inside = (position >= a) & (position <= z)
    mass = (attention * inside[:, None]).sum(-1)
    mass = mass[(a[..., 0] >= 0)[:, None].expand(mass.shape)]
    return -(mass + 1e-3).log().mean() if mass.numel() else attention.sum() * 0


def losses(model: Whisper, b: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Token loss, word-frame loss, phoneme-frame loss, guide loss, token accuracy."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        audio, phone_logits = model.encode(b.mel)
        logits, guide = model.decode(b.ids, audio)
        frame_logits = model.frame_head(audio)
    keep = b.targets != IGNORE
    picked, wanted = logits[keep].float(), b.targets[keep]
    token = F.cross_entropy(picked, wanted, label_smoothing=0.02)
    accuracy = (picked.argmax(-1) == wanted).float().mean()
    frame = F.cross_entropy(frame_logits.flatten(0, 1).float(), b.frames.flatten())
    phone = F.cross_entropy(phone_logits.flatten(0, 1).float(), b.phones.flatten())
    n = len(model.c.guided_last)
    last = torch.cat([torch.full_like(b.spans[:, :1], -1), b.spans[:, :-1]], 1)
    guided = guide_loss(guide[:, n:], b.spans) + 0.5 * guide_loss(guide[:, :n], last)
    return token, frame, phone, guided, accuracy


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--cache", default="cache")
    p.add_argument("--out", default="run")
    p.add_argument("--tokenizer", default="tokenizer.json")
    p.add_argument("--minutes", type=float, default=45)
    p.add_argument("--lr", type=float, default=1.2e-3)
    p.add_argument("--frames", type=int, default=7000, help="mel frames per batch")
    p.add_argument("--d", type=int, default=256)
    p.add_argument("--enc", type=int, default=4)
    p.add_argument("--dec", type=int, default=3)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--init", default="", help="continue from this checkpoint")
    p.add_argument("--linear", action="store_true", help="linear decay instead of cosine")
    p.add_argument(
        "--thin-grammar",
        type=float,
        default=0.0,
        help="share of grammar-only examples left out of each pass",
    )
    p.add_argument("--dropout", type=float, default=0.0)
    p.add_argument("--spent", type=float, default=0, help="minutes of the budget already used")
    a = p.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(2)
    rng = random.Random(a.seed + int(a.spent * 1000))
    out = Path(a.out)
    out.mkdir(exist_ok=True)
    tok = Tokenizer.from_file(a.tokenizer)
    PUNCTUATION.update(tok.encode(s, add_special_tokens=False).ids[0] for s in ".,?")
    word_ids: dict[str, list[int]] = {}
    items: list[Item] = []
    for done in sorted(Path(a.cache).glob("*.done")):
        items += load_shard(done.with_suffix(""), tok, word_ids)
    dev = items[-200:]
    items = items[:-200]
    hours = sum(len(i.feats) for i in items) / 360000
    print(f"{len(items)} examples, {hours:.1f} h", flush=True)
    config = Config(
        d=a.d,
        heads=a.d // 64,
        enc_layers=a.enc,
        dec_layers=a.dec,
        vocab=bpe.VOCAB_SIZE,
        frame_classes=len(WORD_CLASS) + 1,
        phone_classes=fill_phones(),
    )
    model = Whisper(config, dropout=a.dropout)
    saved = torch.load(a.init) if a.init else {}
    if saved:
        model.load_state_dict(saved["model"])
    matrices = [q for q in model.parameters() if q.ndim > 1]
    vectors = [q for q in model.parameters() if q.ndim <= 1]
    optim = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}],
        lr=a.lr,
        betas=(0.9, 0.98),
        eps=1e-6,
        fused=True,
    )
    start, step, last_save, seconds_seen = CLOCK.now() - 60 * a.spent, 0, CLOCK.now(), 0.0
    if saved:
        step = saved["step"]
        if "optim" in saved:
            optim.load_state_dict(saved["optim"])
    first_step = step
    tally = np.zeros(5)
    norms: list[float] = []
    log = (out / "log.jsonl").open("a")

    def save() -> None:
        torch.save(
            {
                "config": asdict(config),
                "model": model.state_dict(),
                "step": step,
                "optim": optim.state_dict(),
            },
            out / "tmp.pt",
        )
        (out / "tmp.pt").replace(out / "last.pt")

    def dev_metrics() -> list[float]:
        model.eval()
        r, rows = random.Random(0), []
        with torch.no_grad():
            for i in range(0, len(dev), 20):
                part = sorted(dev, key=lambda it: len(it.feats))[i : i + 20]
                rows.append(
                    [
                        float(v)
                        for v in losses(
                            model, collate(part, max(len(it.feats) for it in part), r, dev, False)
                        )
                    ]
                )
        model.train()
        return [round(float(v), 4) for v in np.mean(rows, 0)]

    while True:
        chosen = (
            items
            if not a.thin_grammar
            else [it for it in items if rng.random() > a.thin_grammar or looks_random(it)]
        )
        for b in batches(chosen, a.frames, rng):
            done = (CLOCK.now() - start) / (a.minutes * 60)
            if done >= 1:
                save()
                print("end", step, dev_metrics(), flush=True)
                return
            ramp = min(1.0, (step - first_step + 1) / (60 if saved else 200))
            if a.linear:  # from --lr now to zero at the end
                lr = a.lr * ramp * max(0.01, (1 - done) / (1 - a.spent / a.minutes))
            else:
                lr = (
                    a.lr
                    * ramp
                    * (0.5 * (1 + math.cos(math.pi * max(0.0, (done - 0.1) / 0.9))) + 0.01)
                )
            for g in optim.param_groups:
                g["lr"] = lr
            token, frame, phone, guided, accuracy = losses(model, b)
            (token + 0.5 * frame + 0.3 * phone + 0.3 * guided).backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
            optim.step()
            optim.zero_grad(set_to_none=True)
            step += 1
            seconds_seen += b.mel.shape[0] * b.mel.shape[2] / 100
            tally += [float(v.detach()) for v in (token, frame, phone, guided, accuracy)]
            if step % 50 == 0:
                row = {
                    "step": step,
                    "min": round((CLOCK.now() - start) / 60, 2),
                    "lr": round(lr, 6),
                    "audio_h": round(seconds_seen / 3600, 2),
                    "token": tally[0] / 50,
                    "frame": tally[1] / 50,
                    "phone": tally[2] / 50,
                    "guide": tally[3] / 50,
                    "acc": tally[4] / 50,
                    "norm": float(np.median(norms[-50:])),
                }
                if step % 400 == 0:
                    row["dev"] = dev_metrics()
                row = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
                print(json.dumps(row), flush=True)
                log.write(json.dumps(row) + "\n")
                log.flush()
                tally[:] = 0
            if CLOCK.now() - last_save > 240:
                save()
                last_save = CLOCK.now()


if __name__ == "__main__":
    main()
