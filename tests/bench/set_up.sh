#!/usr/bin/env bash
# Sets up what `postern-bench smtp` runs beside Postern: nodemailer (npm), aiosmtplib (PyPI) and lettre's own pool (a small
# program, built here), all pinned. Postfix's smtp-sink and smtp-source come with Debian's postfix.
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
for program in smtp-sink smtp-source node; do
  command -v "$program" >/dev/null || {
    echo "$program is missing: install postfix and nodejs (Debian's names)" >&2
    exit 1
  }
done
cargo build "${flags[@]}" --locked --manifest-path tests/bench/lettre/Cargo.toml --target-dir target
