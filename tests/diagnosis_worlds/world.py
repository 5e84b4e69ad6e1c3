"""What is drawn at random: a machine, a model on it, a server's habits, and people who call."""

import random
from dataclasses import dataclass

GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class World:
    """A sound server and its surroundings."""

    seed: int
    """Everything random in it follows from this."""
    cpus: int
    """Cores of the machine that all of it runs on."""
    memory_bytes: int
    """RAM of the machine."""
    gpu: bool
    """Whether the model runs on a graphics card."""
    fixed_s: float
    """Seconds of an inference, whatever is in it, on its own."""
    per_audio_s: float
    """Seconds for each second of audio in it."""
    marginal: float
    """Part of `fixed_s` that each further job of a batch costs."""
    workers: int
    """Inferences at once."""
    threads: int
    """Cores that one inference takes."""
    max_batch: int
    """Jobs in one inference at most."""
    decode_share: float
    """Part of an inference that is decoding."""
    host_share: float
    """Part of an inference that is not on the graphics card, if there is one."""
    spread: float
    """Of inference times, as the sigma of a log-normal."""
    model_bytes: int
    """Memory of one loaded model."""
    load_s: float
    """Seconds of loading and warming it."""
    silence_s: float
    """Silence that ends a turn."""
    hesitation_s: float
    """More of it while the text is not there, or seems unfinished."""
    turn_model_s: float | None
    """Seconds of a judgement whether a turn is over; None: nobody is asked."""
    partial_s: float
    """Between two partials of a session when there is room."""
    vad_s: float
    """Seconds of hearing for a second of audio."""
    message_s: float
    """Seconds of the event loop for a message."""
    llm_s: tuple[float, float]
    """Seconds to the first word of a reply, and on to the end of its first sentence."""
    tts_s: float
    """Seconds to the first audio of a sentence."""
    network_s: float
    """Seconds of the way, each way."""
    jitter: float
    """By which part of itself the way varies."""
    noise_cores: float
    """Cores that the rest of the machine takes."""
    generator_s: float
    """Seconds of the load generator for a frame or a message."""
    speakers: int
    """In the third phase."""
    duration_s: float
    """Of a phase, warm-up left out."""
    model: str
    """What the server calls its model."""


def draw(seed: int, weight: float = 1.0) -> World:
    """A world; `weight`: how much heavier than usual its inferences are."""
    rng = random.Random(f"world {seed}")
    gpu = rng.random() < 0.2
    cpus = rng.choice((2, 2, 4, 4, 6, 8, 12, 16))
    threads = 1 if gpu else rng.choice([n for n in (1, 2, 4) if n <= max(cpus // 2, 1)])
    workers = rng.choice((1, 2)) if gpu else max(1, min(cpus // threads, 6))
    inference_s = weight * rng.choice((rng.uniform(0.01, 0.05), rng.uniform(0.05, 0.16)))
    fixed_share = rng.uniform(0.3, 0.9)
    return World(
        seed=seed,
        cpus=cpus,
        memory_bytes=rng.choice((4, 8, 16, 32, 64)) * GB,
        gpu=gpu,
        fixed_s=inference_s * fixed_share,
        per_audio_s=inference_s * (1 - fixed_share) / 3,
        marginal=rng.uniform(0.1, 0.35) if gpu else rng.uniform(0.45, 0.95),
        workers=workers,
        threads=threads,
        max_batch=rng.choice((8, 16)) if gpu else rng.choice((1, 2, 4, 4)),
        decode_share=rng.uniform(0.15, 0.6),
        host_share=rng.uniform(0.2, 0.45),
        spread=rng.uniform(0.05, 0.2),
        model_bytes=round(rng.uniform(0.15, 1.2) * GB),
        load_s=rng.uniform(0.4, 3.0),
        silence_s=rng.uniform(0.2, 0.4),
        hesitation_s=rng.choice((0.0, rng.uniform(0.06, 0.13))),
        turn_model_s=rng.uniform(0.01, 0.06) if rng.random() < 0.25 else None,
        partial_s=rng.uniform(0.4, 0.8),
        vad_s=rng.uniform(0.004, 0.03),
        message_s=rng.uniform(0.0001, 0.0003),
        llm_s=(rng.uniform(0.08, 0.35), rng.uniform(0.05, 0.15)),
        tts_s=rng.uniform(0.015, 0.2),
        network_s=rng.choice((0.0001, 0.0001, rng.uniform(0.002, 0.012))),
        jitter=rng.uniform(0.05, 0.25),
        noise_cores=rng.uniform(0.02, 0.25),
        generator_s=rng.uniform(0.00006, 0.00015),
        speakers=rng.randint(3, 8),
        duration_s=rng.uniform(15.0, 25.0),
        model=rng.choice(("selftest", "tiny.en", "base.en", "small.en", "distil-large-v3")),
    )
