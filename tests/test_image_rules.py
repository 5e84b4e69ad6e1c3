"""Rules for Dockerfiles: each finds what breaks it, and nothing else."""

import pytest

from tools.image_rules import RULES, STAGE_RULES, findings

WELL = """FROM python:3.12.11-slim AS one
WORKDIR /src
COPY a b
RUN pip install --no-cache-dir --constraint c.txt flask
USER 10001
HEALTHCHECK CMD true
CMD ["serve"]
"""


@pytest.mark.parametrize(
    ("code", "good", "bad"),
    [
        ("DL3000", "WORKDIR /src", "WORKDIR src"),
        ("DL3002", "USER 10001", "USER root"),
        ("DL3002", "USER 10001\n", ""),
        ("DL3002", "USER 10001", "USER 0:0"),
        ("DL3003", "USER", "RUN cd /src && make\nUSER"),
        ("DL3004", "RUN pip", "RUN sudo pip"),
        ("DL3006", ":3.12.11-slim", ""),
        ("DL3007", ":3.12.11-slim", ":latest"),
        ("DL3008", "USER", "RUN apt-get install -y --no-install-recommends curl\nUSER"),
        ("DL3009", "USER", "RUN apt-get install -y --no-install-recommends curl=1\nUSER"),
        ("DL3012", "CMD [", "HEALTHCHECK CMD false\nCMD ["),
        ("DL3013", "--constraint c.txt flask", "flask"),
        ("DL3013", "pip install --no-cache-dir --constraint c.txt", "python3 -m pip install"),
        ("DL3014", "USER", "RUN apt-get install --no-install-recommends curl=1\nUSER"),
        ("DL3015", "USER", "RUN apt-get install --yes curl=1\nUSER"),
        ("DL3020", "COPY a b", "ADD a b"),
        ("DL3025", '["serve"]', "serve"),
        ("DL3042", "--no-cache-dir ", ""),
        ("DL3045", "WORKDIR /src\n", ""),
        ("DL3057", "HEALTHCHECK CMD true\n", ""),
        ("DL4006", "RUN pip", "RUN true | pip"),
    ],
)
def test_each_rule_finds_what_breaks_it(code: str, good: str, bad: str) -> None:
    assert findings(WELL) == []
    assert good in WELL
    found = findings(WELL.replace(good, bad))
    assert code in {line.split(": ")[1] for line in found}


def test_each_rule_has_a_case_above() -> None:
    mark = test_each_rule_finds_what_breaks_it.pytestmark[0]  # type: ignore[attr-defined]
    assert {case[0] for case in mark.args[1]} == RULES.keys() | STAGE_RULES.keys()


def test_an_excuse_holds_for_one_rule_of_one_step() -> None:
    install = "RUN apt-get install --yes curl\n"
    excused = f"FROM a:1\n# hadolint ignore=DL3008\n{install}{install}"
    lines = findings(excused)
    assert [line for line in lines if "DL3008" in line] == [f"line 4: DL3008: {RULES['DL3008'][0]}"]
    assert len([line for line in lines if "DL3015" in line]) == 2


def test_an_image_by_its_digest_is_pinned() -> None:
    assert findings(f"FROM python@sha256:{'0' * 64}\n") == []
    assert findings("FROM registry:5000/python\n") != []
    assert findings("FROM registry:5000/python:3.12\n") == []
