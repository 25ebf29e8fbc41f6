# Sourced by notebooks/run and tests/run: a virtual environment with this checkout in it, made once.
# A second call finds everything there and takes no time.

rfb_die() { echo "$*" >&2; exit 1; }

# rfb_install EXTRA: .venv with the package and one of its extras, again only when what it is built from has changed.
rfb_install() {
  local python=${PYTHON:-python3} stamp now
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    rfb_die "Python 3.11 or newer is needed; PYTHON=... names one ($("$python" --version 2>&1) was found)."
  # Where Debian's python3-venv is missing, a half-made environment without pip is left behind.
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    rm -rf .venv
    "$python" -m venv .venv ||
      rfb_die "No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv"
  fi
  stamp=.venv/installed-$1
  now=$(find pyproject.toml js -path js/node_modules -prune -o -type f -print | sort | xargs cat | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$now" ]; then
    echo "Installing (once) ..."
    .venv/bin/python -m pip install -qq --disable-pip-version-check -e ".[$1]"
    echo "$now" >"$stamp"
  fi
}

# rfb_chromium: sets RFB_CHROMIUM to a Chromium: one that is there, Debian's as root, else Playwright's own.
rfb_chromium() {
  local name
  for name in "${RFB_CHROMIUM:-}" chromium chromium-browser google-chrome; do
    if [ -n "$name" ] && "$name" --version >/dev/null 2>&1; then
      RFB_CHROMIUM=$(command -v "$name")
      export RFB_CHROMIUM
      return
    fi
  done
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Chromium ..."
    if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core >/dev/null; then
      RFB_CHROMIUM=$(command -v chromium)
      export RFB_CHROMIUM
      return
    fi
  fi
  .venv/bin/python -m playwright install chromium || echo "No Chromium could be installed: what needs it is not run."
}

# rfb_firefox: Debian's Firefox, where it can be had without asking; the tests that need it are skipped elsewhere.
rfb_firefox() {
  if ! command -v firefox-esr firefox >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Firefox ..."
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq firefox-esr >/dev/null; } ||
      echo "No Firefox could be installed: what needs it is not run."
  fi
}
