"""The Hugging Face Hub: what of it is on this machine, and fetching the rest.

A repository is fetched into a folder of rtvc's own, file by file; its name ends in ".part" until
all are there and their checksums are right. What an interrupted attempt fetched is kept, and the
next one goes on from there: the hub's own client would begin again.
"""

import hashlib
import queue
import shutil
import threading
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from rtvc.config import cache_folder
from rtvc.errors import ModelError, why
from rtvc.stt.transcriber import ReportProgress

CONNECT_TIMEOUT_S = 3.0
"""Seconds a connection to the hub, or an answer about a repository, may take."""
DEADLINE_S = 6.0
"""Seconds after which the hub is not there, names looked up and all."""
STALL_S = 30.0
"""A download of which nothing comes for so long is given up."""
ATTEMPTS = 3
"""Times a broken download is taken up again before it is left to the next call."""
WANTED = (
    "config.json",
    "preprocessor_config.json",
    "model.bin",
    "tokenizer.json",
    "vocabulary.*",
)
"""What of a repository is needed."""
_TELL_BYTES = 1_000_000
_COMMIT_FILE = "commit"


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository's latest version."""

    commit: str
    """Names the version."""
    files: tuple[str, ...]
    """Those of its files that are needed."""


@dataclass(frozen=True, slots=True)
class _Remote:
    """One file at the hub."""

    url: str
    """Where to get it."""
    size_bytes: int
    """When whole."""
    sha256: str | None
    """Of the whole file; None: the hub does not say."""


class _Progress:
    """Counts bytes over all files of a repository and tells now and then."""

    def __init__(self, got_bytes: int, total_bytes: int, report: ReportProgress) -> None:
        self._got_bytes = got_bytes
        self._total_bytes = total_bytes
        self._report = report
        self._told_bytes = -_TELL_BYTES

    def add(self, count: int) -> None:
        self._got_bytes += count
        if self._got_bytes - self._told_bytes < _TELL_BYTES:
            return
        self._told_bytes = self._got_bytes
        got, total = self._got_bytes / 1e6, self._total_bytes / 1e6
        self._report(min(got / total, 1.0), f"{got:.0f} of {total:.0f} MB")


# On this machine


def own_folder(repository: str) -> Path:
    """Where rtvc keeps a repository, there or not."""
    return cache_folder() / "models" / repository.replace("/", "--")


def bytes_here(repository: str) -> int:
    """What of a repository is on this machine, parts of it included."""
    return sum(_folder_bytes(folder) for folder in _folders(repository))


def snapshot(repository: str) -> Path | None:
    """The folder of a repository, fetched by rtvc or by the hub's client; None: it is not here."""
    from faster_whisper import download_model

    own = own_folder(repository)
    if own.is_dir():
        return own
    try:
        return Path(download_model(repository, local_files_only=True))
    except (OSError, ValueError):
        return None


def forget(repository: str) -> int:
    """Remove a repository, and parts of it, from this machine. Returns the bytes freed."""
    freed = bytes_here(repository)
    for folder in _folders(repository):
        try:
            if folder.exists():
                shutil.rmtree(folder)
        except OSError as error:
            raise ModelError(f"cannot remove {folder}: {why(error)}") from error
    return freed


def _folders(repository: str) -> tuple[Path, ...]:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    theirs = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    return own_folder(repository), _part_folder(repository), theirs


def _part_folder(repository: str) -> Path:
    own = own_folder(repository)
    return own.with_name(f"{own.name}.part")


def _folder_bytes(folder: Path) -> int:
    """Links count for nothing: what they lead to is in the folder too."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(file.stat().st_size for file in files)


# At the hub


def listing(repository: str) -> Listing:
    """A quick question, answered or given up within seconds.

    Raises:
        TimeoutError: no answer in time.
        Exception: whatever the hub's client raises; its errors have no common base.
    """
    outcome: queue.SimpleQueue[Listing | Exception] = queue.SimpleQueue()
    ask = threading.Thread(target=_ask, args=[repository, outcome], name="model hub", daemon=True)
    ask.start()
    try:
        # Looking a name up has no timeout of its own, so the whole question gets one.
        answer = outcome.get(timeout=DEADLINE_S)
    except queue.Empty:
        raise TimeoutError(f"no answer within {DEADLINE_S:.0f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _ask(repository: str, outcome: "queue.SimpleQueue[Listing | Exception]") -> None:
    from huggingface_hub import HfApi

    try:
        about = HfApi().model_info(repository, timeout=CONNECT_TIMEOUT_S)
        names = [sibling.rfilename for sibling in about.siblings or ()]
        needed = tuple(n for n in names if any(fnmatch(n, wanted) for wanted in WANTED))
        outcome.put(Listing(about.sha or "main", needed))
    except Exception as error:  # noqa: BLE001  raised again by whoever asked
        outcome.put(error)


def download(repository: str, found: Listing, report: ReportProgress) -> Path:
    """Fetch a repository's files, going on where an earlier attempt ended.

    Raises:
        OSError: the disk is full, or a file is not what the hub says it is.
        Exception: whatever the hub's client and the transport raise.
    """
    part, own = _part_folder(repository), own_folder(repository)
    part.mkdir(parents=True, exist_ok=True)
    _begin_again_if_old(part, found.commit)
    remotes = {name: _remote(repository, name, found.commit) for name in found.files}
    total = sum(remote.size_bytes for remote in remotes.values())
    have = _folder_bytes(part)
    _require_room(part, total - have)
    progress = _Progress(have, total, report)
    for name, remote in remotes.items():
        _fetch_whole(part / name, remote, progress)
    (part / _COMMIT_FILE).unlink()
    shutil.rmtree(own, ignore_errors=True)
    return part.rename(own)


def _begin_again_if_old(part: Path, commit: str) -> None:
    """Parts of another version are of no use."""
    mark = part / _COMMIT_FILE
    if mark.exists() and mark.read_text("utf-8") != commit:
        shutil.rmtree(part)
        part.mkdir()
    mark.write_text(commit, "utf-8")


def _require_room(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise OSError(f"it needs {needed_bytes / 1e6:.0f} MB more, {free_bytes / 1e6:.0f} are free")


def _remote(repository: str, name: str, commit: str) -> _Remote:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository, name, revision=commit)
    about = get_hf_file_metadata(url)
    tag = about.etag or ""
    return _Remote(url, about.size or 0, tag if len(tag) == 64 else None)


def _fetch_whole(target: Path, remote: _Remote, progress: _Progress) -> None:
    import httpx

    for attempt in range(ATTEMPTS):
        try:
            _fetch_more(target, remote, progress)
            break
        except httpx.TransportError:
            if attempt + 1 == ATTEMPTS:
                raise
    _check(target, remote)


def _fetch_more(target: Path, remote: _Remote, progress: _Progress) -> None:
    """Append what is missing of a file."""
    import httpx
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    have = target.stat().st_size if target.exists() else 0
    if have == remote.size_bytes and have:
        return
    headers = {**build_hf_headers(), "Accept-Encoding": "identity", "Range": f"bytes={have}-"}
    with (
        httpx.Client(timeout=STALL_S, follow_redirects=True) as client,
        client.stream("GET", remote.url, headers=headers) as answer,
    ):
        answer.raise_for_status()
        with target.open(
            "ab" if answer.status_code == httpx.codes.PARTIAL_CONTENT else "wb"
        ) as out:
            # Raw, so that all that came before a break is written.
            for chunk in answer.iter_raw():
                out.write(chunk)
                progress.add(len(chunk))


def _check(target: Path, remote: _Remote) -> None:
    """A file that is not what the hub says is removed, so that the next attempt may be luckier."""
    size = target.stat().st_size
    wrong = size != remote.size_bytes
    if not wrong and remote.sha256 is not None:
        wrong = _sha256(target) != remote.sha256
    if wrong:
        target.unlink()
        raise OSError(f"{target.name} came wrong ({size} of {remote.size_bytes} bytes)")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
