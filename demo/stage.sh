# The stage machinery of `play`: containers, narration, and the stopwatch for alerts. Sourced, not run.
# shellcheck shell=bash

# How long the web server lives an ordinary life before the stories begin, and how late an alert may be.
DEMO_CALM_SECONDS=${DEMO_CALM_SECONDS:-5}
DEMO_LATEST_MS=${DEMO_LATEST_MS:-1000}

prefix=tidewatch-demo-$$
bridge=$prefix-inside
outside=$prefix-outside
scratch=
sensor_pid=
stamper_pid=
act_started=0
failures=0
report=()

die() { echo "play: $*" >&2; exit 1; }

bold=''
red=''
green=''
plain=''
if [[ -t 1 ]]; then bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'; fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# Builds the stage, and sees to it that it is cleared whatever happens.
raise_curtain() {
  docker info >/dev/null 2>&1 || die "Docker Engine does not answer"
  scratch=$(mktemp -d)
  # The manager passes through it as another user.
  chmod 711 "$scratch"
  # A service of its own, beside any that runs here.
  export TIDEWATCH_RUN_DIR=$scratch/service/run TIDEWATCH_STATE_DIR=$scratch/service/state TIDEWATCH_METRICS__LISTEN=null
  trap clear_stage EXIT
  trap 'exit 130' INT TERM HUP PIPE
  docker network create --internal "$bridge" >/dev/null
  # The address that the poisoned package calls belongs to a network kept for documentation: here it is a bridge.
  docker network create --internal --subnet 203.0.113.64/29 "$outside" >/dev/null
}

clear_stage() {
  local containers images
  set +e
  trap '' INT TERM HUP PIPE
  [[ -n $stamper_pid ]] && kill "$stamper_pid" 2>/dev/null
  stop_sensor
  mapfile -t containers < <(docker ps -aq --filter "label=tidewatch.play=$$")
  [[ ${#containers[@]} -gt 0 ]] && docker rm -f "${containers[@]}" >/dev/null
  docker network rm "$bridge" "$outside" >/dev/null 2>&1
  mapfile -t images < <(docker images -q --filter label=tidewatch.demo=1 | sort -u)
  [[ ${#images[@]} -gt 0 ]] && docker rmi -f "${images[@]}" >/dev/null
  rm -rf "$scratch"
}

# The agent is asked to leave, and thrown out after ten seconds.
stop_sensor() {
  [[ -n $sensor_pid ]] || return 0
  kill -TERM "$sensor_pid" 2>/dev/null
  for _ in $(seq 100); do
    kill -0 "$sensor_pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$sensor_pid"
}

# watch_with BINARY ARGUMENT...: starts the agent and waits until its sensor is attached.
watch_with() {
  local tidewatch=$1 line
  shift
  : >"$scratch/alerts"
  mkfifo "$scratch/log"
  # The agent's own words go to the terminal too; only the line that says "watching" matters here.
  "$tidewatch" run --alerts-file "$scratch/alerts" "$@" 2>"$scratch/log" &
  sensor_pid=$!
  stamp_alerts &
  stamper_pid=$!
  exec {log}<"$scratch/log"
  while IFS= read -r -t 60 -u "$log" line; do
    printf '%s\n' "$line" >&2
    if [[ $line == *watching* ]]; then
      cat <&"$log" >&2 &
      return
    fi
  done
  die "the agent did not begin to watch"
}

# Notes the moment at which each alert arrived in the file, as microseconds in front of the line.
stamp_alerts() {
  local line
  tail -n +1 -s 0.02 -f --pid="$sensor_pid" "$scratch/alerts" | while IFS= read -r line; do
    printf '%s %s\n' "${EPOCHREALTIME/[.,]/}" "$line" >>"$scratch/stamped"
  done
}

# start_container NAME ARGUMENT...
start_container() {
  local name=$1
  shift
  docker run -d --pull=never --name "$prefix-$name" --label "tidewatch.play=$$" "$@" >/dev/null
}

in_container() {
  local name=$1
  shift
  docker exec "$prefix-$name" "$@"
}

address_of() {
  docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$prefix-$1"
}

# http_get ADDRESS PATH: the visitor's container asks for a page.
http_get() {
  in_container visitor timeout 10 wget -q -O - "http://$1$2"
}

# serve_normally ADDRESS SECONDS: pages are asked for and delivered.
serve_normally() {
  # shellcheck disable=SC2016 # the container's shell expands it
  in_container visitor sh -c '
    tries=0
    until wget -q -O /dev/null "http://$0/"; do
      tries=$((tries + 1)); [ "$tries" -lt 100 ] || exit 1
      sleep 0.1
    done
    served=0; end=$(($(date +%s) + $1))
    while [ "$(date +%s)" -lt "$end" ]; do
      for page in / /waves.txt /missing; do wget -q -O /dev/null "http://$0$page"; done 2>/dev/null
      served=$((served + 3))
      sleep 0.05
    done
    echo "   $served pages served"' "$1" "$2" || die "the web server does not answer"
}

# act COMMAND...: does it, and remembers when it began.
act() {
  act_started=${EPOCHREALTIME/[.,]/}
  "$@" 2>&1 | sed 's/^/   > /' || true
}

# alert_of CONTAINER RULE: prints "arrived-at event-time" of the first such alert since the act began, if there is one.
alert_of() {
  local arrived line
  [[ -f $scratch/stamped ]] || return 1
  while read -r arrived line; do
    ((arrived >= act_started)) || continue
    [[ $line == *"\"rule\":\"$2\""* && $line == *"\"$prefix-$1\""* ]] || continue
    [[ $line =~ \"time\":\"([^\"]+)\" ]] || continue
    echo "$arrived ${BASH_REMATCH[1]}"
    return 0
  done <"$scratch/stamped"
  return 1
}

# expect CONTAINER RULE: the alert must be there, and must have come soon after the act it is about.
expect() {
  local found='' late arrived happened _
  for _ in $(seq 60); do
    found=$(alert_of "$1" "$2") && break
    kill -0 "$sensor_pid" 2>/dev/null || die "the agent ended"
    sleep 0.05
  done
  if [[ -z $found ]]; then
    failures=$((failures + 1))
    report+=("${red}missing${plain}            $1: $2")
    return
  fi
  read -r arrived happened <<<"$found"
  late=$((arrived / 1000 - $(date -d "$happened" +%s%3N)))
  if ((late > DEMO_LATEST_MS)); then
    failures=$((failures + 1))
    report+=("${red}late${plain}    $(printf '%7d ms' "$late") $1: $2")
  else
    report+=("${green}seen${plain}    $(printf '%7d ms' "$late") $1: $2")
  fi
}

# expect_silence CONTAINER: nothing may have been said about it so far.
expect_silence() {
  local said
  sleep 1
  said=$(grep -c "\"$prefix-$1\"" "$scratch/alerts" || true)
  if ((said > 0)); then
    failures=$((failures + 1))
    report+=("${red}noise${plain}              $1: $said alerts about its normal life")
  else
    report+=("${green}quiet${plain}              $1: no alert about its normal life")
  fi
}

# The summary, and the play's exit code.
curtain_call() {
  say "What Tidewatch said, and how long after the act it was on file:"
  printf '   %s\n' "${report[@]}"
  if ((failures > 0)); then
    printf '\n%s%d of %d expectations not met%s\n' "$red" "$failures" "${#report[@]}" "$plain"
    exit 1
  fi
  printf '\n%sall %d expectations met%s\n' "$green" "${#report[@]}" "$plain"
}
