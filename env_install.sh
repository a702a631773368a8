#!/usr/bin/env bash
# Make .venv beside this file and install the project into it, editable.   bash env_install.sh [--dev]
#   --dev   also install what the tests and checks need
# PYTHON=/path/to/python chooses the interpreter. A second run with nothing changed does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

extras=""
case "${1:-}" in
    "") ;;
    --dev) extras="[dev]" ;;
    *) echo "usage: bash env_install.sh [--dev]" >&2; exit 2 ;;
esac

python=${PYTHON:-}
for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
    [ -n "$python" ] && break
    "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null && python=$candidate
done
[ -n "$python" ] || { echo "env_install.sh: Python 3.10 to 3.13 is needed; set PYTHON=/path/to/python" >&2; exit 1; }

[ -x .venv/bin/python ] || "$python" -m venv .venv

# The stamp holds what was installed last, so that an unchanged project costs no pip run; --dev serves both.
wanted=$(cat requirements.txt pyproject.toml env_install.sh | sha256sum | cut -d' ' -f1)
if ! grep -qsx -e "$wanted \[dev\]" -e "$wanted $extras" .venv/installed; then
    .venv/bin/python -m pip install --disable-pip-version-check -e ".$extras"
    .venv/bin/python -m pip install --disable-pip-version-check --no-deps "facenet-pytorch>=2.5.3" "pyfacer>=0.0.4"
    .venv/bin/python -m models.stylegan2.ops ||
        echo "Note: the custom ops could not be built (is there a C++ compiler?). Plain PyTorch does the same, slower."
    echo "$wanted $extras" > .venv/installed
fi

command -v nvidia-smi > /dev/null || echo "Note: no NVIDIA GPU found. Everything runs on the CPU."
echo "Ready: .venv/bin/python"
