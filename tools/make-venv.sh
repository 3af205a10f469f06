#!/usr/bin/env bash
# Create a virtual environment: make-venv.sh FOLDER [PYTHON]. Does nothing when it is there and has pip.
set -euo pipefail

folder=$1
python=${2:-python3}
if [ -x "$folder/bin/python" ] && "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi
if ! command -v "$python" >/dev/null; then
    echo "There is no $python: install Python 3.10 or later, or name it with \`make PYTHON3=...\`." >&2
    exit 1
fi
# Debian's python3 has the module venv, but without the package python3-venv not the pip that goes into it.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    "$(dirname "$0")/apt-install.sh" python3-venv
fi
"$python" -m venv --clear "$folder"
