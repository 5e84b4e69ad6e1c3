"""What the figures of a bench mean."""

from rtvc.report.definitions import Definition

BENCH_DEFINITIONS = (
    Definition(
        "cell",
        "One engine with one model and one set of settings, measured once a round in a process of "
        "its own. Rounds go through all cells in turn, so that what slows the machine for a while "
        "slows all of them.",
    ),
    Definition(
        "delay",
        "From handing in the whole audio of a short turn to its text, one turn at a time: no "
        "network, no queue, no wait for the end of speech.",
    ),
    Definition(
        "× yardstick",
        "The yardstick's typical delay ÷ the cell's, over the clips that both heard; the typical "
        "delay is the mean over clips of each clip's median over the rounds. Beside it, where the "
        "ratios of single rounds lie: the middle half.",
    ),
    Definition(
        "RTFx",
        "Seconds of audio ÷ seconds of work on long recordings, both summed up.",
    ),
    Definition(
        "word error rate",
        "(substitutions + deletions + insertions) ÷ what was said, from pooled counts, after a "
        "named normalisation; characters instead of words (CER) in scripts without spaces. Its "
        "95 % interval draws clips with replacement.",
    ),
    Definition(
        "holds",
        "Sessions whose utterances the engine alone transcribes in time at p95, as the server "
        "schedules them, without a network and voice activity detection.",
    ),
    Definition(
        "memory",
        "Of the process, resident, at most; on a GPU what the device held more than before.",
    ),
    Definition(
        "load, cold | warm",
        "From the packages imported to the weights loaded: the first time in this bench, and the "
        "median of the later rounds. Whether the first was from the disk, only the system knows.",
    ),
    Definition(
        "word latency",
        "End of a word → first seen, for words recognised rightly, in time that passes as the "
        "clip is spoken and each inference costs what it costs.",
    ),
    Definition(
        "no other beats it",
        "No other cell has both a shorter delay and a lower word error rate.",
    ),
)
