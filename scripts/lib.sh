# Shared by the scripts: one virtual environment, made on first use and never touched again until its inputs change.
# shellcheck shell=bash
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$root/.venv"
export PYTHONDONTWRITEBYTECODE=${PYTHONDONTWRITEBYTECODE:-}

find_python() {
  local candidate
  # 3.11 first: the pinned wheels were chosen for it; any newer Python does as well.
  for candidate in python3.11 python3.12 python3.13 python3.14 python3; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  echo "aimass: Python 3.11 or newer with venv is needed (Debian: apt install python3 python3-venv)" >&2
  exit 9
}

stamp_of_inputs() { cat "$root/pyproject.toml" "$root/constraints.txt" | sha256sum | cut -d' ' -f1; }

setup() {
  local wanted
  wanted=$(stamp_of_inputs)
  if [ "$(cat "$venv/.stamp" 2>/dev/null || true)" = "$wanted" ]; then return; fi
  exec 9>"$root/.setup.lock"
  flock 9
  if [ "$(cat "$venv/.stamp" 2>/dev/null || true)" = "$wanted" ]; then return; fi
  local python
  python=$(find_python)
  echo "aimass: making a virtual environment in .venv with $("$python" --version) (once; a few minutes)" >&2
  rm -f "$venv/.stamp"
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  echo "aimass: installing pinned packages" >&2
  (cd "$root" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]') >&2
  echo "$wanted" >"$venv/.stamp"
  echo "aimass: installed" >&2
  exec 9>&-
}
