"""faster-whisper as `rtvc serve` runs it: its loader and features, CTranslate2 called directly."""

from collections.abc import Sequence

from rtvc.bench.engines.as_transcriber import jobs_of
from rtvc.bench.engines.contract import Setup, Text, versions
from rtvc.bench.engines.weights import LIBRARY, Weights, library, usual_workers, weights_of
from rtvc.errors import ModelError
from rtvc.stt.transcriber import AudioArray
from rtvc.stt.whisper import WhisperTranscriber, pieces


class ServedWhisper:
    """Turns of many sessions in one inference; short contexts where the weights allow them."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._weights: Weights | None = None
        self._transcriber: WhisperTranscriber | None = None
        self.model_kind = "whisper"
        self.packages: dict[str, str] = {}
        self.most_at_once = max(setup.most_at_once, setup.cell.batch)
        self.workers = usual_workers(setup.cell)
        # Engines of a pool, or of sessions, meet on the same cores.
        self.most_abreast = max(self.workers, 2)

    @property
    def transcriber(self) -> WhisperTranscriber:
        if self._transcriber is None:
            raise ModelError("expected load() before anything else")
        return self._transcriber

    def prepare(self) -> None:
        library()
        self._weights = weights_of(self._setup.cell)
        self.model_kind = self._weights.found.kind
        self.packages = versions(*LIBRARY)

    def load(self, abreast: int = 1) -> None:
        if self._weights is None:
            raise ModelError("expected prepare() before anything else")
        cell, weights = self._setup.cell, self._weights
        self._transcriber = None
        self._transcriber = WhisperTranscriber(
            weights.path,
            clock=self._setup.clock,
            device=cell.device,
            compute_type=cell.compute_type,
            encoder_context=weights.found.encoder_context,
            headroom_s=weights.found.headroom_s,
            least_context_s=weights.found.least_context_s,
            beam_size=cell.beam,
            workers=abreast,
            threads_per_worker=cell.threads,
            max_batch=self.most_at_once,
            suppress_blank=weights.found.suppress_blank,
        )
        self._transcriber.load()

    def transcribe(self, audio: AudioArray, language: str | None) -> Text:
        return self.transcribe_batch([audio], language)[0]

    def transcribe_batch(self, audios: Sequence[AudioArray], language: str | None) -> list[Text]:
        answers = self.transcriber.transcribe(jobs_of(audios, language))
        return [Text(answer.text, answer.guards) for answer in answers]

    def transcribe_long(self, audio: AudioArray, language: str | None) -> Text:
        """Pieces of at most 30 s, cut where it is quiet, as many at once as the cell's batch."""
        cut, size = list(pieces(audio)), self._setup.cell.batch
        groups = [cut[at : at + size] for at in range(0, len(cut), size)]
        return joined([text for group in groups for text in self.transcribe_batch(group, language)])


def joined(texts: Sequence[Text]) -> Text:
    """One text of the texts of pieces, in order.

    >>> joined([Text("a b", ("pace",)), Text(""), Text("c", ("pace",))])
    Text(text='a b c', guards=('pace',))
    """
    guards = dict.fromkeys(guard for text in texts for guard in text.guards)
    return Text(" ".join(text.text for text in texts if text.text), tuple(guards))
