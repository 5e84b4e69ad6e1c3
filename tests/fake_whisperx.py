"""Stands in for the package whisperx; copied under that name to where an interpreter finds it."""

from typing import Any

LOADED: dict[str, Any] = {}


class Model:
    """Writes how much it was given."""

    def transcribe(self, audio: Any, batch_size: int, language: str) -> dict[str, Any]:
        if not len(audio):
            raise MemoryError
        said = f" {len(audio)} samples in {language} by {batch_size} "
        return {"language": language, "segments": [{"text": said}, {"text": " over"}]}


def load_model(name: str, device: str, **options: Any) -> Model:
    if name == "broken":
        raise RuntimeError("CUDA failed with error out of memory")
    LOADED.update(options, name=name, device=device)
    return Model()
