#!/usr/bin/env bash
# Installs the lowest version of every requirement that pyproject.toml allows, except PyTorch's, into build/floors, and runs tests there:
#
#     tests/floors.sh [PYTEST ARGUMENTS...]
#
# PyTorch is the pinned version of constraints.txt: for its floor see docs/portability.md. PYTHON chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=build/floors
mkdir -p build
[ -x "$environment/bin/python" ] || "${PYTHON:-python3}" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check "packaging>=23"
{ "$environment/bin/python" tests/floors.py; grep "^torch==" constraints.txt; } >build/floors.txt
scripts/cpu_torch.sh "$environment/bin/python"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check --constraint build/floors.txt --editable ".[all,dev]"
[ $# -gt 0 ] || set -- -m "not slow"
"$environment/bin/python" -m pytest "$@"
