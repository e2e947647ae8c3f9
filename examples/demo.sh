#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains DeepFM with two parameter servers and two workers on a generated log, kills one worker with
# SIGKILL half way, and checks what is left: every record counted exactly once, and an AUC near the best
# possible one. Exit code 1 if not. Run by `./dev demo`.
#
#   examples/demo.sh [RECORDS]     default 5000000; FRESHET_BIN is where the programs are
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

readonly records="${1:-5000000}"
readonly bin="${FRESHET_BIN:-build/release/bin}"
readonly work=build/demo
readonly cluster=$work/cluster
readonly max_auc_gap=0.02

say() { printf '\n== %s\n' "$*" >&2; }
fail() {
  printf 'demo: %s\n' "$*" >&2
  exit 1
}

# value KEY FILE: the first value of that key in JSON that has one key a line.
value() { sed -n "s/^ *\"$1\": \(.*[^,]\),\{0,1\}\$/\1/p" "$2" | head -n 1; }

# pid_of NODE FILE: its pid in the answer of `freshet status -o json`.
pid_of() {
  awk -v name="\"name\": \"$1\"" \
    'index($0, name) { found = 1 } found && /"pid":/ { gsub(/[^0-9]/, ""); print; exit }' "$2"
}

train_pid=
clean_up() {
  if [[ -n "$train_pid" ]] && kill -TERM "$train_pid" 2>/dev/null; then
    wait "$train_pid" || true
  fi
  rm -f "$work/clicks.tsv"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Kills worker-1 once half of the records are done; says so in $work/killed.
kill_half_way() {
  local done_records victim
  while kill -0 "$train_pid" 2>/dev/null; do
    if "$bin/freshet" status --dir "$cluster" -o json >"$work/status.json" 2>/dev/null; then
      done_records="$(value records_done "$work/status.json")"
      if [[ "$done_records" -ge $((records / 2)) ]]; then
        victim="$(pid_of worker-1 "$work/status.json")"
        if [[ "$victim" -gt 1 ]] && kill -KILL "$victim" 2>/dev/null; then
          printf '%s\n' "$victim" >"$work/killed"
          say "killed worker-1 (pid $victim) with SIGKILL after $done_records records"
          return
        fi
      fi
    fi
    sleep 0.05
  done
}

[[ "$records" =~ ^[0-9]+$ && "$records" -ge 1000 ]] || fail "RECORDS is a number of at least 1000"
[[ -x "$bin/freshet" ]] || fail "no programs in $bin; build them with ./dev build"
mkdir -p "$work"
rm -f "$work/killed" "$work/summary.json"

say "generating $records clicks of a known model"
"$bin/freshet" generate --records "$records" --out "$work/clicks.tsv" --force -o json \
  >"$work/generated.json"
best="$(value best_auc "$work/generated.json")"
printf 'best possible AUC on this log: %.4f\n' "$best" >&2

say "training DeepFM: 2 parameter servers, 2 workers; worker-1 will be killed half way"
"$bin/freshet" train --data "$work/clicks.tsv" --schema freshet --model deepfm --ps 2 --workers 2 \
  --dir "$cluster" -o json >"$work/summary.json" &
train_pid=$!
kill_half_way
code=0
wait "$train_pid" || code=$?
train_pid=
[[ -s "$work/summary.json" ]] || fail "training ended with exit code $code; see $cluster/logs"

say "result"
auc="$(value auc "$work/summary.json")"
restarts="$(value restarts "$work/summary.json")"
audit="$(value ok "$work/summary.json")"
{
  printf 'records         %s, %.0f per second\n' "$(value records "$work/summary.json")" \
    "$(value records_per_sec "$work/summary.json")"
  printf 'audit           %s counted, %s expected: %s\n' "$(value actual "$work/summary.json")" \
    "$(value expected "$work/summary.json")" "$([[ "$audit" == true ]] && echo ok || echo FAILED)"
  printf 'restarts        %s\n' "$restarts"
  printf 'AUC             %.4f while learning (predict first, then learn), best possible %.4f\n' \
    "$auc" "$best"
} >&2

[[ "$code" -eq 0 && "$audit" == true ]] || fail "the audit failed; see $cluster/logs"
[[ -s "$work/killed" ]] || fail "the job ended before a worker could be killed; give more RECORDS"
[[ "$restarts" -ge 1 ]] || fail "the killed worker was not started again; see $cluster/logs"
awk -v auc="$auc" -v best="$best" -v gap="$max_auc_gap" 'BEGIN { exit !(auc >= best - gap) }' ||
  fail "the AUC is more than $max_auc_gap below the best possible"

say "every record counted exactly once, although a worker was killed. Where to look next:"
cat >&2 <<TEXT
  what the killed worker said:            $bin/freshet logs worker-1 --dir $cluster
  what happened, with times:              cat $cluster/events.jsonl
  the other commands:                     $bin/freshet help
  why nothing is lost or counted twice:   docs/exactly-once.md
TEXT
