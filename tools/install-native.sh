#!/usr/bin/env bash
# Install what compiles the small C programs of tests/native: locks that lie, a folder shared by two hosts.
set -euo pipefail

exec "$(dirname "$0")/apt-install.sh" gcc libc6-dev pkg-config libfuse3-dev
