# Sourced by tests/versions.sh and tests/release.sh: which Pythons are here, on the path or in pyenv.

interpreter() {  # of a version such as 3.12
    local found
    found=$(command -v "python$1") && "$found" -c "" 2>/dev/null && echo "$found" && return
    ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python 2>/dev/null | sort -V | tail -1
}

interpreters() {  # versions from 3.11 on
    local minor
    for minor in $(seq 11 30); do [ -z "$(interpreter "3.$minor")" ] || echo "3.$minor"; done
}
