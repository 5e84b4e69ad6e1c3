"""Whatever the OpenAPI document allows, and some of what it does not, gets a documented answer."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS

pytestmark = [pytest.mark.slow, pytest.mark.model]

EXAMPLES = 15


@pytest.fixture
def described(server_url: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{server_url}/openapi.json")


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_documented(case: schemathesis.Case) -> None:
    response = case.call()
    names = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
    case.validate_response(response, checks=[CHECKS.get_one(name) for name in names])
    assert response.status_code < 500 or response.status_code == 503
