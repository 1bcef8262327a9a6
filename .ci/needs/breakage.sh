#!/usr/bin/env bash
# What the slow tests of the GitHub forge need: GitHub's own description of its API.
set -euo pipefail
if command -v npm >/dev/null; then
  npm install --silent --no-fund --no-audit --prefix build/openapi @octokit/openapi@23.0.2
fi
