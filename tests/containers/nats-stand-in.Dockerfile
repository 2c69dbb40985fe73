# Stands in for nats:2.12-alpine where that cannot be pulled: the program comes from the machine that builds it
# (base_images.sh).
FROM debian:bookworm-slim
RUN apt-get update \
  && apt-get install -y --no-install-recommends wget \
  && rm -rf /var/lib/apt/lists/*
COPY nats-server /usr/local/bin/nats-server
