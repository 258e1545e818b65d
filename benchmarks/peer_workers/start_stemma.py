"""From nothing to the first token, then it ends. Arguments: the model's file, perhaps a JSON schema."""

from __future__ import annotations

import json
import sys
import time

started = time.perf_counter()

import stemma  # noqa: E402  # what is measured begins here

imported = time.perf_counter()
engine = stemma.Engine(sys.argv[1])
ready = time.perf_counter()
grammar = {}
if len(sys.argv) > 2:
    from stemma.fsm.json_schema import JSONSchema

    grammar = {"grammar": JSONSchema(json.loads(sys.argv[2]))}
engine.generate("A person:", max_tokens=1, temperature=0, **grammar)
done = time.perf_counter()
print(json.dumps({"import": imported - started, "ready": ready - started, "token": done - started}), flush=True)
engine.close()
