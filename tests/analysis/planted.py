"""Faults that are planted into clean data, and what the checks may say of them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import pytest

from keras_tl.analysis.findings import Finding


def cases(planted: Mapping[str, Sequence[Callable]]) -> list:
    """Return one case for each code of a finding and each function that causes it."""
    return [
        pytest.param(code, plant, id=f"{code}-{plant.__name__}")
        for code, plants in planted.items()
        for plant in plants
    ]


def assert_alone(noticed: Iterable[Finding], code: str, also: set[str]) -> None:
    """Assert that a fault is found by its code, in good English, and no other is.

    Args:
        noticed: All findings.
        code: The code of the fault.
        also: Codes by which a fault may show itself, too.
    """
    assert code in {one.code for one in noticed}
    severe = {one.code for one in noticed if one.severity in ("error", "warning")}
    assert severe <= {code} | also
    for one in noticed:
        assert not re.search(r"\b1 [a-z]+[^s]s\b|\b1 [a-z]+ (are|have)\b", one.message)
