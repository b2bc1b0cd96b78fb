"""Where the real language model of 135 million weights is, and the marks of tests that need it.

It is made by ``../shared/models/fetch.py OUT``; ``COSIM_MODELS=OUT`` says where, if not beside the project.
"""

import os
from pathlib import Path

import pytest

MODELS = Path(os.environ.get("COSIM_MODELS", Path(__file__).resolve().parents[2] / "shared" / "models"))
MODEL = MODELS / "smollm2-135m"

MARKS = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(not MODEL.is_dir(), reason=f"no language model of 135 million weights at {MODEL}"),
]
