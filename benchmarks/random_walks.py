"""A soak: random walks through the grammars of random schemas; every text that comes out must be a valid instance.

    python benchmarks/random_walks.py [--schemas 3400]

Three walks a schema, by the strategies and the walker of tests/fsm/test_schema_properties.py, judged by jsonschema-rs.
Fails with the schema and the text of the first walk that is stuck or not valid.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PROPERTIES = Path(__file__).resolve().parent.parent / "tests" / "fsm" / "test_schema_properties.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemas", type=int, default=3_400)
    arguments = parser.parse_args()
    spec = importlib.util.spec_from_file_location("schema_properties", PROPERTIES)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    walk = module.test_random_walks_end_in_valid_instances.hypothesis.inner_test
    soak = settings(
        max_examples=arguments.schemas, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    before = time.perf_counter()
    soak(given(module.SCHEMAS, st.integers(0, 2**32))(walk))()
    print(f"{3 * arguments.schemas} walks in {time.perf_counter() - before:.0f} s: none stuck, none invalid")


if __name__ == "__main__":
    main()
