# shellcheck shell=bash
# The base images that the Dockerfile names, and that of NATS. Where they cannot be pulled, stand-ins are made from Debian's packages and
# from the Rust toolchain, the certificates and the nats-server of the machine that this runs on. Sourced after engine.sh.

DEBIAN_IMAGE=debian:bookworm-slim
RUST_IMAGE=rust:1-bookworm
NATS_IMAGE=nats:2.12-alpine

# base_images FOLDER NATS_SERVER: makes the images known to the engine; NATS_SERVER is the program for a stand-in.
base_images() {
  local folder=$1 nats_server=$2
  have_image "$DEBIAN_IMAGE" || stand_in_debian "$folder"
  have_image "$RUST_IMAGE" || stand_in_rust "$folder"
  have_image "$NATS_IMAGE" || stand_in_nats "$folder" "$nats_server"
}

# have_image NAME: whether the engine has it, or can pull it within a minute's silence.
have_image() {
  "$DOCKER" image inspect "$1" >/dev/null 2>&1 || timeout 600 "$DOCKER" pull -q "$1" >/dev/null 2>&1
}

stand_in_debian() {
  echo "$DEBIAN_IMAGE cannot be pulled: making a stand-in from Debian's packages"
  if ! command -v mmdebstrap >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
  fi
  mmdebstrap --quiet --variant=minbase bookworm "$1/debian.tar"
  "$DOCKER" import "$1/debian.tar" "$DEBIAN_IMAGE" >/dev/null
  rm -f "$1/debian.tar"
}

stand_in_rust() {
  echo "$RUST_IMAGE cannot be pulled: making a stand-in with this machine's Rust toolchain"
  local context=$1/rust-image toolchain
  toolchain=$(rustc --print sysroot)
  rm -rf "$context"
  mkdir -p "$context"
  tar -C "$(dirname "$toolchain")" --transform "s#^$(basename "$toolchain")#rust#" \
    --exclude share/doc --exclude share/man -cf "$context/toolchain.tar" "$(basename "$toolchain")"
  cp /etc/ssl/certs/ca-certificates.crt "$context/authorities.crt"
  cp "$(dirname "${BASH_SOURCE[0]}")/rust-stand-in.Dockerfile" "$context/Dockerfile"
  DOCKER_BUILDKIT=1 "$DOCKER" build -q -t "$RUST_IMAGE" "$context" >/dev/null
  rm -rf "$context"
}

stand_in_nats() {
  echo "$NATS_IMAGE cannot be pulled: making a stand-in with this machine's nats-server"
  local context=$1/nats-image
  rm -rf "$context"
  mkdir -p "$context"
  cp --dereference "$2" "$context/nats-server"
  cp "$(dirname "${BASH_SOURCE[0]}")/nats-stand-in.Dockerfile" "$context/Dockerfile"
  DOCKER_BUILDKIT=1 "$DOCKER" build -q -t "$NATS_IMAGE" "$context" >/dev/null
  rm -rf "$context"
}
