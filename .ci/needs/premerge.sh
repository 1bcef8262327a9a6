#!/usr/bin/env bash
# What the tests of premerge's reports need besides Python packages: the schema of SARIF, which an npm package has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if command -v npm >/dev/null; then
  npm install --silent --no-fund --no-audit --prefix build/sarif @microsoft/jest-sarif@1.0.0-beta.0
fi
