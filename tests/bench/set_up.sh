#!/usr/bin/env bash
# Sets up what `postern-bench` runs beside Postern: nodemailer (npm), aiosmtplib and NATS's server (PyPI) and lettre's own
# pool (a small program, built here), all pinned. The rest is Debian's: postfix, nodejs, redis-server, and for forwarding
# nginx-light and nghttp2-client.
#
#   tests/bench/set_up.sh [release|debug]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
profile=${1:-release}
case "$profile" in
  release) flags=(--release) ;;
  debug) flags=() ;;
  *) echo "usage: tests/bench/set_up.sh [release|debug]" >&2; exit 2 ;;
esac
TOOLS=$PWD/target/tools
mkdir -p "$TOOLS"
. tests/tools/set_up.sh
set_up_python
set_up_nodemailer
set_up_nats_server
for program in smtp-sink smtp-source node redis-server; do
  command -v "$program" >/dev/null || {
    echo "$program is missing: install postfix, nodejs and redis-server (Debian's names)" >&2
    exit 1
  }
done
cargo build "${flags[@]}" --locked --manifest-path tests/bench/lettre/Cargo.toml --target-dir target
