"""The server beside its OpenAPI description, asked by Schemathesis."""

import base64
import io

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from keras_tl.serving import server

TOKEN = "a-token-that-is-long"
FILE = io.BytesIO()
Image.new("RGB", (9, 9), "red").save(FILE, "PNG")
PNG = FILE.getvalue()


def usable(case):
    """Put in what the description cannot say: names that exist, a real image."""
    if case.path_parameters:
        case.path_parameters = {"name": "words"}
    if isinstance(case.body, dict):
        is_form = case.media_type == "multipart/form-data"
        image = PNG if is_form else base64.b64encode(PNG).decode()
        body = {"images": [image], "model": ["tiny"], "label": ["red"]}
        if case.body.get("texts"):
            body = {"texts": ["good film"], "model": ["words"], "label": ["good"]}
        if "label" not in case.body:
            del body["label"]
        options = {"top", "nearest", "heat_map"} & set(case.body)
        case.body = body | {name: case.body[name] for name in options}
    return case


def statuses(operation):
    """Ask in many ways, check each answer, and return the statuses that came."""
    right = operation.as_strategy(GenerationMode.POSITIVE)
    # Which names exist, and what is an image, the description cannot say.
    cases = [(right, positive_data_acceptance)]
    cases.append((right.map(usable), negative_data_rejection))
    if operation.body:
        wrong = operation.as_strategy(GenerationMode.NEGATIVE)
        cases.append((wrong, positive_data_acceptance))
    seen = set()

    @settings(max_examples=500, derandomize=True, deadline=None)
    @given(st.one_of(st.tuples(case, st.just(check)) for case, check in cases))
    def ask(chosen):
        case, excluded = chosen
        headers = {"authorization": f"Bearer {TOKEN}"}
        response = case.call_and_validate(headers=headers, excluded_checks=[excluded])
        seen.add(response.status_code)

    ask()
    return seen


@pytest.mark.slow
def test_answers_are_as_the_description_says(served, text_run, tmp_path):
    app = server.make_app(
        {"tiny": served, "words": text_run},
        token=TOKEN,
        hosts=None,
        corrections=tmp_path / "kept",
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    # A request that is too large is refused as well.
    schema.config.checks.negative_data_rejection.expected_statuses.append("413")
    seen = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        seen[operation.label] = statuses(operation)
    assert {200 in statuses for statuses in seen.values()} == {True}, seen
