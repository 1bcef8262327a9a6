#!/bin/sh
# A PostgreSQL server for the tests of the shared store; they start a private one and skip without it.
set -e
test -d /usr/lib/postgresql || { apt-get update -q && apt-get install -qy postgresql; }
