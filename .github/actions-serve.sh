#!/usr/bin/env bash
# Starts the emulator that action.yml has installed, waits until it is ready, and tells the job where it is.
# It stays up when this step ends; the runner ends it with the job.
#
# Takes HANDLER, ENDPOINT, PORT, API_KEY, ARGS and WAIT_TIMEOUT, the action's inputs, and the runner's
# RUNNER_TEMP, GITHUB_ENV and GITHUB_OUTPUT.
set -euo pipefail

home="$RUNNER_TEMP/runpod-emulator"
# A job may use the action more than once.
log="$home/emulator-$$.log"

error() {
  # In an annotation a percent sign and a line break are written so.
  local message="${1//[%]/%25}"
  echo "::error title=runpod-emulator::${message//$'\n'/%0A}"
  exit 1
}

fail() {
  echo "::group::The emulator's log"
  cat "$log"
  echo "::endgroup::"
  error "$1"
}

case "$WAIT_TIMEOUT" in
  '' | *[!0-9]*) error "wait-timeout is '$WAIT_TIMEOUT': it must be a number of seconds" ;;
esac

# The words of `args` as a shell would take them, with nothing in them run or expanded.
split='import shlex, sys; [sys.stdout.write(word + "\0") for word in shlex.split(sys.argv[1])]'
if ! "$home/venv/bin/python" -c "$split" "$ARGS" > "$log" 2> /dev/null; then
  error "args cannot be split into words, is a quote left open? $ARGS"
fi
words=()
while IFS= read -r -d '' word; do
  words+=("$word")
done < "$log"

command=("$home/venv/bin/runpod-emulator" serve)
if [ -n "$HANDLER" ]; then command+=("$HANDLER"); fi
if [ -n "$ENDPOINT" ]; then command+=(--endpoint "$ENDPOINT"); fi
if [ -n "$PORT" ]; then command+=(--port "$PORT"); fi
# What follows a `--` in `args` is for the handler's script, so they come last. An older bash takes an empty
# array for one that is not set.
command+=(${words[@]+"${words[@]}"})

if [ -n "$API_KEY" ]; then export EMULATOR_API_KEY="$API_KEY"; fi
# The variable may have been set by the job, and name several.
read -r -a keys <<< "${EMULATOR_API_KEY:-}"
for key in ${keys[@]+"${keys[@]}"}; do echo "::add-mask::$key"; done
key="${keys[0]:-local}"

# These are the action's: workers would inherit them.
export -n ACTION_PATH HANDLER ENDPOINT PORT API_KEY ARGS WAIT_TIMEOUT
"${command[@]}" > "$log" 2>&1 < /dev/null &
pid=$!

deadline=$((SECONDS + 10#$WAIT_TIMEOUT))
answer="nothing"
url=""
while :; do
  if [ -z "$url" ]; then
    url="$(sed -n 's/^  url  *//p' "$log" | head -n 1)"
  fi
  if [ -n "$url" ]; then
    answer="$(curl --silent --noproxy '*' --max-time 2 --write-out ' (%{http_code})' "$url/_emulator/ready" || true)"
    case "$answer" in *"(200)") break ;; esac
  fi
  if ! kill -0 "$pid" 2> /dev/null; then
    code=0
    wait "$pid" || code=$?
    reason="$(sed -n 's/^error: //p' "$log" | tail -n 1)"
    fail "the emulator ended with exit code $code before it was ready: ${reason:-see its log, above}"
  fi
  if [ "$SECONDS" -ge "$deadline" ]; then
    kill "$pid" 2> /dev/null || true
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      kill -0 "$pid" 2> /dev/null || break
      sleep 0.2
    done
    kill -9 "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
    fail "the emulator is not ready after $WAIT_TIMEOUT s; GET /_emulator/ready answers: $answer"
  fi
  sleep 0.1
done

{
  echo "RUNPOD_ENDPOINT_BASE_URL=$url/v2"
  echo "RUNPOD_API_KEY=$key"
} >> "$GITHUB_ENV"
{
  echo "url=$url"
  echo "base-url=$url/v2"
  echo "api-key=$key"
  echo "log=$log"
  echo "pid=$pid"
} >> "$GITHUB_OUTPUT"
cat "$log"
