#!/usr/bin/env bash
# Makes the image that a Dockerfile begins with, where none can be pulled: Debian's Python in a minimal
# Debian, under the name that is asked for. As root, with debootstrap: tests/docker/base_image.sh NAME
set -euo pipefail
name=$1
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$folder/root

debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$suite" "$root" >"$folder/log" 2>&1 ||
  { tail -20 "$folder/log" >&2; exit 1; }
# As in the official image: pip and python in /usr/local, where anybody may install.
chroot "$root" python3 -m venv /usr/local
# What a build in it needs to reach what this machine reaches: its certificates, and where pip looks.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$root/etc/pip.conf"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
tar -C "$root" -c . | docker import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change 'CMD ["python3"]' - "$name" >/dev/null
