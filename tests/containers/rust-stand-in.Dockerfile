# Stands in for rust:1-bookworm where that cannot be pulled: the toolchain and the certificates come from the machine
# that builds it (base_images.sh).
FROM debian:bookworm-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends ca-certificates gcc g++ libc6-dev make pkg-config \
  && rm -rf /var/lib/apt/lists/*
COPY authorities.crt /etc/ssl/certs/ca-certificates.crt
ADD toolchain.tar /usr/local/
ENV PATH=/usr/local/rust/bin:$PATH CARGO_HOME=/usr/local/cargo \
  CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
