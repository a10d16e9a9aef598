#!/bin/sh
# What `make test` runs first: the tests of the console are done in a browser, Debian's chromium where there is none.
[ -n "$CHROMIUM" ] || command -v chromium >/dev/null || command -v google-chrome >/dev/null && exit
as_root=
[ "$(id -u)" -eq 0 ] || as_root="sudo -n"
if command -v apt-get >/dev/null; then
  echo "apt-get install chromium"
  $as_root apt-get update -qq &&
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null &&
    exit
fi
echo "chromium is not installed: the tests of the console will fail; install it, or set CHROMIUM=/path/to/it" >&2
