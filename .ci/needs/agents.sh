#!/usr/bin/env bash
# What the slow tests of agents and of the sandbox need: bubblewrap, podman, and the two agents at the versions they were tried with.
set -euo pipefail
if ! command -v bwrap >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -qq && apt-get install -qq -y bubblewrap
fi
if ! command -v podman >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -qq && apt-get install -qq -y --no-install-recommends podman runc catatonit
fi
if [ -r /proc/sys/kernel/apparmor_restrict_unprivileged_userns ] && [ "$(id -u)" = 0 ]; then
  sysctl -q -w kernel.apparmor_restrict_unprivileged_userns=0 || true # Ubuntu 24.04
fi
if command -v npm >/dev/null; then
  npm install --silent --no-fund --no-audit --prefix build/agents @openai/codex@0.169.0 @anthropic-ai/claude-code@2.1.197
fi
