"""`python -m lakehouse.config` prints the JSON Schema of pipeline.yml."""

import json

from lakehouse.config import json_schema

print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
