#!/usr/bin/env bash
# Installs the CPU build of the pinned PyTorch into an environment, on Linux without an NVIDIA GPU:
#
#     scripts/cpu_torch.sh PYTHON [PIP OPTIONS...]
#
# Otherwise pip would take the CUDA build, several gigabytes. pip finds a CPU build only where it is configured to look; uv knows
# the indexes of PyTorch. GPU=yes or GPU=no overrides the detection. An installed PyTorch of the pinned version is left alone.
set -eu
cd "$(dirname "$0")/.."
python=$1
shift
torch=$(grep '^torch==' constraints.txt)
[ "$(uname -s)" = Linux ] || exit 0
case ${GPU:-} in
    yes) exit 0 ;;
    no) ;;
    *) ! nvidia-smi >/dev/null 2>&1 || exit 0 ;;
esac
! "$python" -m pip show torch 2>/dev/null | grep -q "^Version: ${torch#torch==}" || exit 0

install() { "$python" -m pip install --disable-pip-version-check "$@"; }
echo "No NVIDIA GPU: installing the CPU build of PyTorch (190 MB; GPU=yes installs the CUDA build)"
# the others of constraints.txt: with two lines for PyTorch pip explains a conflict instead of an absent build
! install --constraint <(grep -v '^torch==' constraints.txt) "$@" "$torch+cpu" 2>/dev/null || exit 0
uv=$(command -v uv) || { install --quiet 'uv>=0.6.9' && uv=$(dirname "$python")/uv && added=yes; } || uv=uv
"$uv" pip install --python "$python" --torch-backend cpu --constraint constraints.txt "$torch" \
    || echo "No CPU build can be reached: pip takes the CUDA build (several GB); docs/install.md has an alternative" >&2
[ -z "${added:-}" ] || "$python" -m pip uninstall --quiet --yes uv
