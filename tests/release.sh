#!/usr/bin/env bash
# Builds the sdist, and the wheel from it, checks both, and runs the wheel in a clean environment of every Python:
#
#     tests/release.sh [VERSION...]
#
# Versions default to those from 3.11 on that are on the path or that pyenv has. Packages are the latest ones, not the pinned ones,
# except PyTorch. The files are in build/release/dist.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/interpreters.sh
versions=("$@")
[ ${#versions[@]} -gt 0 ] || mapfile -t versions < <(interpreters)
work=$PWD/build/release
rm -rf "$work"
mkdir -p "$work"
pip=(-m pip install --quiet --disable-pip-version-check)

"$(interpreter "${versions[0]}")" -m venv "$work/tools"
"$work/tools/bin/python" "${pip[@]}" build twine
"$work/tools/bin/python" -m build --outdir "$work/dist" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$work/tools/bin/python" -m twine check --strict "$work"/dist/*
for version in "${versions[@]}"; do
    python=$(interpreter "$version") || true
    [ -n "$python" ] || { echo "there is no Python $version here" >&2; exit 1; }
    "$python" -m venv "$work/$version"
    scripts/cpu_torch.sh "$work/$version/bin/python"
    "$work/$version/bin/python" "${pip[@]}" "$work"/dist/*.whl
    (
        cd "$work/$version"  # outside the clone: only what the wheel installed is imported
        bin/st4rtrack demo
        bin/st4rtrack export demo_st4rtrack html
        test -s demo_st4rtrack/overview.png -a -s demo_st4rtrack/scene.ply -a -s demo_st4rtrack.html
    )
    echo "Python $version: the wheel runs in a clean environment"
    rm -rf "${work:?}/$version"
done
