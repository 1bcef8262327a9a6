#!/usr/bin/env bash
# What the tests of premerge's reports need besides Python packages: the schema of SARIF.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p build
test -s build/sarif-schema-2.1.0.json || curl --fail --silent --show-error --location \
  https://raw.githubusercontent.com/oasis-tcs/sarif-spec/main/sarif-2.1/schema/sarif-schema-2.1.0.json \
  --output build/sarif-schema-2.1.0.json
