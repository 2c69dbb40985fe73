# One of Postern's programs: SERVICE is gateway, smtp-service, outlook-service or postern-sandbox. All four are built
# together, so the images of one commit share every layer but the last.
#
#   docker build --build-arg SERVICE=gateway -t postern/gateway .

FROM rust:1-bookworm AS build
WORKDIR /src

# What comes from outside, compiled in a layer of its own: it is built again only when a manifest changes. The members'
# own sources are stand-ins here.
COPY Cargo.toml Cargo.lock ./
COPY .cargo/ .cargo/
COPY proto/Cargo.toml proto/
COPY client/Cargo.toml client/
COPY chassis/Cargo.toml chassis/
COPY smtp-service/Cargo.toml smtp-service/
COPY outlook-service/Cargo.toml outlook-service/
COPY gateway/Cargo.toml gateway/
COPY tests/Cargo.toml tests/
COPY tests/chance/Cargo.toml tests/chance/
COPY tests/sandbox/Cargo.toml tests/sandbox/
RUN set -eu; \
  for member in proto client chassis smtp-service outlook-service gateway tests tests/chance tests/sandbox; do \
    mkdir -p "$member/src"; \
    : > "$member/src/lib.rs"; \
  done; \
  echo 'fn main() {}' > proto/build.rs; \
  for program in smtp-service outlook-service gateway tests/sandbox; do \
    echo 'fn main() {}' > "$program/src/main.rs"; \
  done; \
  for program in tests/end_to_end tests/bench tests/day tests/simulation; do \
    mkdir -p "$program"; \
    echo 'fn main() {}' > "$program/main.rs"; \
  done; \
  cargo build --release --locked --workspace --exclude postern-tests --bins; \
  find . -path ./target -prune -o -name '*.rs' -exec rm {} +

COPY . .
# The stand-ins are newer than the sources that take their place, and cargo goes by age.
RUN set -eu; \
  find . -path ./target -prune -o \( -name '*.rs' -o -name '*.proto' \) -exec touch {} +; \
  cargo build --release --locked --workspace --exclude postern-tests --bins; \
  mkdir /programs; \
  for program in gateway smtp-service outlook-service postern-sandbox; do \
    cp "target/release/$program" /programs/; \
  done

FROM debian:bookworm-slim
ARG SERVICE=gateway
# The authorities that the machine trusts: those of the build image.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /programs/${SERVICE} /usr/local/bin/${SERVICE}
# A name that is the same in every image, for ENTRYPOINT and HEALTHCHECK; and the folder for what lasts.
RUN ln -s "${SERVICE}" /usr/local/bin/postern \
  && install -d -o 10001 -g 10001 -m 0700 /var/lib/postern
USER 10001:10001
WORKDIR /var/lib/postern
ENV POSTERN_DATA_DIR=/var/lib/postern
ENTRYPOINT ["/usr/local/bin/postern"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/usr/local/bin/postern", "healthcheck"]
