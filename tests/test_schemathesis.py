"""Whatever the OpenAPI document allows, and some of what it does not, gets a documented answer."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok

pytestmark = [pytest.mark.slow, pytest.mark.model]

EXAMPLES = 15


NAMES = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")


def test_every_answer_is_documented(server_url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{server_url}/openapi.json")
    checks: list[Any] = [CHECKS.get_one(name) for name in NAMES]
    asked = set()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def answered(case: schemathesis.Case[Any]) -> None:
            response = case.call()
            case.validate_response(response, checks=checks)
            assert response.status_code < 500 or response.status_code == 503

        answered()
        asked.add(operation.path)
    assert {"/healthz", "/readyz", "/v1/audio/transcriptions", "/v1/realtime"} <= asked
