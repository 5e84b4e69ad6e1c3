"""PocketSphinx: no weights to fetch, US English, far less exact than Whisper."""

from collections.abc import Sequence

from rtvc.bench.engines.as_transcriber import jobs_of
from rtvc.bench.engines.contract import Setup, Text, imported, versions
from rtvc.stt.files import PieceByPiece
from rtvc.stt.pocketsphinx import PocketSphinxTranscriber
from rtvc.stt.transcriber import AudioArray


class PocketSphinx:
    """As `rtvc serve` runs it; a long recording piece by piece, as voice activity finds them."""

    def __init__(self, setup: Setup) -> None:
        self.model_kind = "pocketsphinx"
        self.packages: dict[str, str] = {}
        self.most_at_once = 1
        self.workers = self.most_abreast = 1
        self.transcriber = PocketSphinxTranscriber(clock=setup.clock)
        self._long = PieceByPiece(self.transcriber, clock=setup.clock, niceness=0)

    def prepare(self) -> None:
        imported("pocketsphinx", package="pocketsphinx", install="pip install pocketsphinx")
        self.packages = versions("pocketsphinx")

    def load(self, abreast: int = 1) -> None:
        self.transcriber.load()

    def transcribe(self, audio: AudioArray, language: str | None) -> Text:
        return self.transcribe_batch([audio], language)[0]

    def transcribe_batch(self, audios: Sequence[AudioArray], language: str | None) -> list[Text]:
        answers = self.transcriber.transcribe(jobs_of(audios, language))
        return [Text(answer.text, answer.guards) for answer in answers]

    def transcribe_long(self, audio: AudioArray, language: str | None) -> Text:
        answer = self._long.transcribe(jobs_of([audio], language))[0]
        return Text(answer.text, answer.guards)
