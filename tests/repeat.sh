#!/usr/bin/env bash
# Runs `make test` so many times in a row, and says each time whether it passed and how long it took:
#   tests/repeat.sh TIMES [BUSY]
# With BUSY, beside so many processes that do nothing but take up a core. They end with this one, however it ends.
# The output of a run that fails is kept.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
times=${1:?how many times? tests/repeat.sh TIMES [BUSY]} busy=${2:-0}

load=() run=
end() {
  trap - EXIT
  for process in "${load[@]}"; do
    kill "$process"
  done
  # A run is a process group of its own: make, pytest and its workers.
  [ -z "$run" ] || kill -- "-$run"
  wait
} 2>/dev/null
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for ((number = 0; number < busy; number++)); do
  while :; do :; done &
  load+=("$!")
done

logs=$(mktemp -d) passed=0
for ((number = 1; number <= times; number++)); do
  log=$logs/$number.log started=$SECONDS verdict=passed
  set -m
  make --no-print-directory test >"$log" 2>&1 </dev/null &
  run=$!
  set +m
  wait "$run" || verdict="FAILED: $log"
  run=
  printf 'run %d of %d, beside %d busy processes: %s, %d s; %s\n' \
    "$number" "$times" "$busy" "${verdict%%:*}" "$((SECONDS - started))" "$(tail -n 1 "$log")"
  if [ "$verdict" = passed ]; then
    passed=$((passed + 1))
    rm "$log"
  else
    grep -E '^(FAILED|ERROR) ' "$log"
    echo "its output is in $log"
  fi
done
rmdir "$logs" 2>/dev/null
echo "$passed of $times runs passed"
[ "$passed" -eq "$times" ]
