# shellcheck shell=bash
# A Docker engine for tests/compose, where none answers: started by hand in a folder of its own, taken down without a
# trace. Sourced; knows nothing of what runs in the engine.

# The engine's own addresses, so that no other engine's bridge is touched.
ENGINE_BRIDGE=postern0
ENGINE_BRIDGE_ADDRESS=172.29.0.1/24
ENGINE_NETWORKS=base=172.29.128.0/17,size=24

# engine_up FOLDER: makes $DOCKER answer, by the engine that is there or by one started in FOLDER, and exports
# DOCKER_HOST for the latter.
engine_up() {
  local folder=$1
  DOCKER=/usr/bin/docker
  [ -x "$DOCKER" ] || DOCKER=$(command -v docker || true)
  if [ -n "$DOCKER" ] && "$DOCKER" info >/dev/null 2>&1; then
    echo "using the Docker engine that answers at ${DOCKER_HOST:-the default socket}"
    return
  fi
  if ! command -v dockerd >/dev/null; then
    [ "$(id -u)" = 0 ] || { echo "no Docker engine answers, and only root can start one" >&2; return 1; }
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends docker.io >/dev/null
  fi
  DOCKER=/usr/bin/docker
  mkdir -p "$folder"
  export DOCKER_HOST=unix://$folder/engine.sock
  if "$DOCKER" info >/dev/null 2>&1; then
    echo "using the engine left running in $folder"
    return
  fi
  # What the engine is about to change on this machine, to be put back by engine_down.
  if [ ! -f "$folder/filter.rules" ]; then
    iptables-save -t nat >"$folder/nat.rules"
    iptables-save -t filter >"$folder/filter.rules"
    cat /proc/sys/net/ipv4/ip_forward >"$folder/ip_forward"
  fi
  ip link show "$ENGINE_BRIDGE" >/dev/null 2>&1 || ip link add "$ENGINE_BRIDGE" type bridge
  ip addr replace "$ENGINE_BRIDGE_ADDRESS" dev "$ENGINE_BRIDGE"
  ip link set "$ENGINE_BRIDGE" up
  nohup dockerd --data-root "$folder/data" --exec-root "$folder/exec" -H "$DOCKER_HOST" \
    --pidfile "$folder/engine.pid" --bridge "$ENGINE_BRIDGE" --default-address-pool "$ENGINE_NETWORKS" \
    >"$folder/engine.log" 2>&1 </dev/null &
  local tries=0
  until "$DOCKER" info >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 120 ]; then
      echo "the engine does not answer: see $folder/engine.log" >&2
      tail -n 5 "$folder/engine.log" >&2
      return 1
    fi
    sleep 0.25
  done
}

# engine_down FOLDER: stops the engine that engine_up started in FOLDER, if it did, and puts back what it changed.
# The engine's images stay in the folder for the next time.
engine_down() {
  local folder=$1
  [ -f "$folder/filter.rules" ] || return 0
  local pid
  pid=$(cat "$folder/engine.pid" 2>/dev/null || true)
  if [ -n "$pid" ] && kill "$pid" 2>/dev/null; then
    local tries=0
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 120 ]; do
      tries=$((tries + 1))
      sleep 0.25
    done
  fi
  iptables-restore -T nat <"$folder/nat.rules"
  iptables-restore -T filter <"$folder/filter.rules"
  cat "$folder/ip_forward" >/proc/sys/net/ipv4/ip_forward
  ip link del "$ENGINE_BRIDGE" 2>/dev/null || true
  rm -f "$folder/nat.rules" "$folder/filter.rules" "$folder/ip_forward"
}
