import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROMISES = re.findall(
    r"^\| (.+) \| `(tests/\S+\.py)::(test_\w+)` \|$",
    (ROOT / "docs" / "promises.md").read_text(),
    re.MULTILINE,
)


def test_every_promise_has_a_test_that_exists():
    assert len(PROMISES) > 50
    for promise, path, name in PROMISES:
        tree = ast.parse((ROOT / path).read_text())
        names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert name in names, f"{promise}: {path} has no {name}"


def test_every_row_of_the_tables_is_such_a_promise():
    lines = (ROOT / "docs" / "promises.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and "| ---" not in line]
    assert len(rows) == len(PROMISES) + rows.count("| promise | test |")
