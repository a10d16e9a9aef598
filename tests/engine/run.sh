#!/usr/bin/env bash
# What `make test-docker` runs: the images are built and run by a Docker engine, for real.
# An engine that answers is used (DOCKER_HOST); else one is installed (Debian's docker.io) and started, as root,
# until the end. A base image that cannot be pulled is made: tests/docker/base_image.sh.
# Exits with 75 where no engine can be had, or no base image: that says nothing of the images.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

heading() {
  printf -- '--- %s (after %d s)\n' "$1" "$SECONDS"
}

install_missing() {
  local missing=()
  while [ $# -gt 0 ]; do
    command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || missing+=("$2")
    shift 2
  done
  [ ${#missing[@]} -eq 0 ] && return
  local as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

no_engine() {
  echo "no engine here: $1" >&2
  exit 75
}

engine=
stop_engine() {
  if [ -n "$engine" ]; then
    kill "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    # It leaves the place of the host's own network mounted.
    umount "$folder"/exec/netns/* 2>/dev/null || true
    rm -rf "$folder" || true
  fi
}
trap stop_engine EXIT

heading "engine"
install_missing docker docker.io docker-compose docker-compose || no_engine "its client cannot be installed"
if ! docker info >/dev/null 2>&1; then
  install_missing dockerd docker.io iptables iptables debootstrap debootstrap || no_engine "it cannot be installed"
  folder=$(mktemp -d)
  export DOCKER_HOST=unix://$folder/docker.sock
  /usr/sbin/dockerd --data-root "$folder/data" --exec-root "$folder/exec" -H "$DOCKER_HOST" \
    --pidfile "$folder/pid" >"$folder/log" 2>&1 &
  engine=$!
  until docker info >/dev/null 2>&1; do
    kill -0 "$engine" 2>/dev/null || { tail -20 "$folder/log" >&2; no_engine "it does not start; it needs root"; }
    sleep 0.2
  done
fi
docker version --format 'engine {{.Server.Version}}'

heading "base image"
base=$(awk '$1 == "FROM" { print $2; exit }' Dockerfile)
docker image inspect "$base" >/dev/null 2>&1 || timeout 120 docker pull -q "$base" 2>/dev/null || {
  install_missing debootstrap debootstrap && tests/docker/base_image.sh "$base" || no_engine "no base image can be made"
}

# By the network of this machine: it is what reaches a package index here.
heading "images"
docker build -q --network host -t runpod-emulator .
docker build -q --network host -t runpod-emulator:slim --target slim .
docker build -q --network host -t runpod-emulator-example-worker examples/worker

heading "tests"
# What commands leave when they are killed any emulator removes, so they run alone.
commands=(tests/engine/test_commands.py tests/engine/test_pulling.py)
.venv/bin/python -m pytest -n 2 --dist loadgroup tests/engine "${commands[@]/#/--ignore=}" "$@"
install_missing docker-registry docker-registry || {
  echo "no registry can be installed: pulling is not tested"
  unset 'commands[1]'
}
.venv/bin/python -m pytest "${commands[@]}" "$@"
heading "passed"
