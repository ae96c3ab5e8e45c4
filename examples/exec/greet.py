#!/usr/bin/env python3
"""Greets somebody: a task handler in Python.

    orchestrator worker --exec greet='python3 examples/exec/greet.py'
    orchestrator task submit greet --payload '{"name": "world"}'
"""

import json
import os
import sys

payload = json.load(sys.stdin)
if not isinstance(payload, dict) or "name" not in payload:
    print("the payload has no name", file=sys.stderr)
    sys.exit(65)  # EX_DATAERR: no further attempt can mend that

print("@progress 0.5 thinking of a greeting", file=sys.stderr, flush=True)
print("@chunk " + json.dumps(f"for {payload['name']}: "), file=sys.stderr, flush=True)  # read live: orchestrator task output
json.dump({"text": f"Hello, {payload['name']}!", "attempt": int(os.environ["ORCHESTRATOR_ATTEMPT"])}, sys.stdout)
