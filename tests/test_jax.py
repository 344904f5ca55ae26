import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="JAX is not installed"
)
def test_the_core_runs_on_jax_where_tensorflow_cannot_be_imported():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    ended = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "jax_alone.py")],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
