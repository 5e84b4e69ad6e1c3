"""What a process runs, in a word or two, without its arguments: they may hold secrets."""

import re
from collections.abc import Iterator, Sequence

import psutil


def program(process: psutil.Process) -> str:
    """Such as "rtvc serve"; empty if the process has ended or may not be looked at."""
    try:
        return program_of(process.cmdline()) or process.name()
    except psutil.Error:
        return ""


def program_of(command: Sequence[str]) -> str:
    """
    >>> program_of(["/usr/bin/python3", "-X", "dev", "-m", "uvicorn", "--key", "secret"])
    'uvicorn'
    >>> program_of(["python", "/srv/server.py"]), program_of(["python3", "-c", "import x; x.run()"])
    ('server.py', 'python3 -c')
    >>> program_of(["/venv/bin/python", "/venv/bin/rtvc", "serve", "--port", "1"]), program_of([])
    ('rtvc serve', '')
    >>> program_of(["python", "-c", "from multiprocessing.spawn import …", "--fork"])
    'python (child process)'
    """
    words = [word for word in command if word]
    if not words:
        return ""
    first = _file_name(words[0])
    rest = iter(words[1:])
    for word in rest:
        if word == "-c":
            return f"{first} {_of_code(next(rest, ''))}"
        if word == "-m":
            return _with_verb(next(rest, "-m"), rest)
        if word in ("-X", "-W"):
            next(rest, None)
        elif not word.startswith("-"):
            return _with_verb(_file_name(word), rest) if "python" in first else first
    return first


def _of_code(code: str) -> str:
    return "(child process)" if code.startswith("from multiprocessing") else "-c"


def _with_verb(name: str, rest: Iterator[str]) -> str:
    verb = next(rest, "") if name in ("rtvc", "rtvc.__main__") else ""
    return f"{name} {verb}".strip() if verb.isalpha() else name


def _file_name(path: str) -> str:
    name = re.split(r"[/\\]", path)[-1]
    return "".join(character for character in name if character.isprintable()).partition(" ")[0]
