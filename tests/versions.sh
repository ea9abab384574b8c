#!/usr/bin/env bash
# Runs tests on several versions of Python, each in an environment of its own with the pinned packages:
#
#     tests/versions.sh [VERSION...] [-- PYTEST ARGUMENTS...]
#
# Versions default to those from 3.11 on that are on the path or that pyenv has, tests to the default ones. A version for which a
# pinned package has no build is said to be skipped. Environments are kept in build/versions/.
set -uo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
cd "$checkout" || exit 1
versions=()
while [ $# -gt 0 ] && [ "$1" != "--" ]; do versions+=("$1"); shift; done
[ $# -gt 0 ] && shift
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=(-m "not slow")

. scripts/interpreters.sh
[ ${#versions[@]} -gt 0 ] || mapfile -t versions < <(interpreters)
failed=0
for version in "${versions[@]}"; do
    python=$(interpreter "$version")
    [ -n "$python" ] || { echo "$version: skipped, there is no such Python here"; continue; }
    environment="build/versions/$version"
    mkdir -p build/versions
    [ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
    log="build/versions/$version.log"
    scripts/cpu_torch.sh "$environment/bin/python" >"$log" 2>&1
    if ! "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
        --editable ".[all,dev]" >>"$log" 2>&1; then
        echo "$version: skipped, $(grep -m1 "^ERROR" "$log")"
        continue
    fi
    if "$environment/bin/python" -m pytest "${tests[@]}" >"$log" 2>&1; then
        echo "$version: $(tail -1 "$log")"
    else
        echo "$version: FAILED, $(tail -1 "$log"); see $log"
        failed=1
    fi
done
exit $failed
