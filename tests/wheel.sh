#!/usr/bin/env bash
# Builds a wheel, installs it without the checkout, and reconstructs a clip with the weights that it carries.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$checkout/.venv/bin/python" -m build --wheel --outdir "$work/dist" "$checkout" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
# The environment's dependencies are borrowed: only the package itself comes from the wheel.
"$checkout/.venv/bin/python" -m venv --without-pip "$work/venv"
site=$("$work/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
"$checkout/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$site" "$work"/dist/*.whl
"$checkout/.venv/bin/python" -c 'import site; print(site.getsitepackages()[0])' >"$site/dependencies.pth"
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import numpy, pathlib, st4rtrack
package = pathlib.Path(st4rtrack.__file__)
assert "dist-packages" in str(package) or "site-packages" in str(package), package
assert (package.parent / "py.typed").exists()
pathlib.Path("clip.mp4").write_bytes((package.parent / "data" / "demo.mp4").read_bytes())
PYTHON
"$work/venv/bin/python" -m st4rtrack run clip.mp4 -o scene --stop 4
test -s scene/overview.png
echo "the wheel runs outside the checkout: $(du -h "$work"/dist/*.whl | cut -f1)"
