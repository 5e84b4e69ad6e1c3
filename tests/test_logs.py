"""The server's log: one entry a line, whatever a stranger sends, and no secret in it."""

import logging
import subprocess
import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from rtvc.server.logs import LONGEST_ENTRY, LONGEST_LINE, SafeFormatter, spelled

SECRET = "no usual shape at all"


def formatted(message: str, *args: object, error: BaseException | None = None) -> str:
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("rtvc.x", logging.ERROR, __file__, 1, message, args, info)
    return SafeFormatter([SECRET]).format(record)


def raised(message: str) -> BaseException:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


@given(st.text(max_size=200))
def test_an_entry_is_one_line(text: str) -> None:
    line = formatted("client said %s", text)
    assert len(line.splitlines()) == 1
    assert line.startswith("ERROR rtvc.x: client said ")
    assert not {unicodedata.category(char) for char in line} & {"Cc", "Cs", "Zl", "Zp"}


def test_nobody_forges_an_entry() -> None:
    line = formatted("session %s", "x\r\nERROR rtvc.server: all is lost\x1b[2J\u2028\u202e")
    assert line == (
        "ERROR rtvc.x: session x\\r\\nERROR rtvc.server: all is lost\\x1b[2J\\u2028\\u202e"
    )


def test_secrets_are_hidden_by_name_shape_and_value() -> None:
    line = formatted("to %s with %s and %s", "ws://h/?token=abc", "sk-Abcdefgh12345678", SECRET)
    for secret in ("abc", "Abcdefgh", SECRET):
        assert secret not in line


def test_a_traceback_is_hidden_and_indented() -> None:
    error = raised(f"POST https://u:pw99@h/ failed: {SECRET}\nERROR rtvc.server: forged\x1b[1m")
    lines = formatted("failed", error=error).splitlines()
    assert lines[0] == "ERROR rtvc.x: failed"
    assert all(line.startswith("  ") for line in lines[1:])
    text = "\n".join(lines)
    assert "pw99" not in text
    assert SECRET not in text
    assert "\x1b" not in text
    assert "ValueError" in text


def test_a_secret_in_a_chained_cause_is_hidden() -> None:
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as cause:
            raise RuntimeError("outer") from cause
    except RuntimeError as error:
        text = formatted("failed", error=error)
    assert "outer" in text
    assert SECRET not in text


def test_lines_and_entries_are_bounded() -> None:
    assert len(formatted("%s", "x" * 1_000_000)) < LONGEST_LINE + 100
    long = formatted("failed", error=raised("\n".join(["line"] * 10_000)))
    assert len(long.splitlines()) <= LONGEST_ENTRY + 1
    assert "9" in long.splitlines()[LONGEST_ENTRY // 2]
    assert spelled("ok") == "ok"


def test_a_log_call_that_is_wrong_is_an_entry_all_the_same() -> None:
    assert "rtvc.x" in formatted("%d sessions", "seven")


def test_the_servers_handler_keeps_to_it() -> None:
    code = (
        "import logging, warnings; from rtvc.server.logs import log_safely\n"
        f"log_safely([{SECRET!r}])\n"
        f"logging.getLogger('uvicorn.error').error('a\\nb {SECRET}')\n"
        f"warnings.warn('c {SECRET}')\n"
        "import threading\n"
        f"def broken(): raise ValueError('d {SECRET}')\n"
        "thread = threading.Thread(target=broken); thread.start(); thread.join()\n"
        f"raise ValueError('e {SECRET}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert SECRET not in done.stderr
    assert "ERROR uvicorn.error: a\\nb (hidden)" in done.stderr
    for letter in "cde":
        assert f"{letter} (hidden)" in done.stderr
