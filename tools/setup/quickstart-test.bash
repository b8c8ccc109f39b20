#!/usr/bin/env bash
# ./quickstart, end to end, as somebody without a terminal sees it: its printed lines work, a second run is quick, Ctrl-C
# leaves nothing behind, and `git status` is as before. Once as this machine is, once before an Ollama without a model, once
# before one with a model that can chat.
#
#   tools/setup/quickstart-test.bash TESTKIT-OLLAMA     (TRACE=1 shows all that quickstart says)
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." || exit 1

kit=${1:?the path of testkit-ollama}
place=$(mktemp -d)
quick='' kit_pid=''
# A directory with a blank in its name: what is printed must work there too.
export HERDGATE_DATA="$place/the data"
# Found again in the environment of everything that was started.
export QUICKSTART_TEST_MARK=$place
before=$(git status --porcelain)
trap 'exit 1' INT TERM HUP
trap end EXIT

# shellcheck disable=SC2317 # called by a trap
end() {
    [ -z "$quick" ] || { kill -INT -- "-$quick" && wait "$quick"; } 2>/dev/null
    [ -z "$kit_pid" ] || kill "$kit_pid" 2>/dev/null
    rm -rf "$place"
}

fail() {
    printf 'quickstart-test: %s\n' "$*" >&2
    sed 's/^/  | /' "$place"/*.said >&2 2>/dev/null
    exit 1
}

# begin NAME: starts ./quickstart and reads what it says up to its last line. Sets `line` (streaming) and `whole`.
begin() {
    local said=$place/$1.said text begun=$SECONDS
    line='' whole='' name=$1
    mkfifo "$place/$1.fifo"
    set -m
    # A shell cannot trap what its parent has it ignore, as nohup and jobs in the background do with Ctrl-C.
    env --default-signal=INT ./quickstart --listen 127.0.0.1:0 </dev/null >"$place/$1.fifo" 2>"$said" &
    quick=$!
    set +m
    exec 5<"$place/$1.fifo"
    # Not a terminal: something is said every 60 s at least, however long it builds.
    while IFS= read -r -t 60 text <&5; do
        printf '%s\n' "$text" >>"$said"
        [ -z "${TRACE:-}" ] || printf '  | %s\n' "$text"
        case $text in
            '  curl '*) if [ -z "$line" ]; then line=$text; else whole=$text; fi ;;
            'Ctrl-C '*) break ;;
        esac
    done
    if [ -z "$line" ] || [ -z "$whole" ]; then fail "$1: it printed no curl lines"; fi
    took=$((SECONDS - begun))
    printf '%s: its line after %d s\n' "$1" "$took"
}

# The text of an answer, streamed or not.
text_of() { grep -o '"content":"[^"]*"' | sed 's/^"content":"//;s/"$//' | tr -d '\n'; }

# answers MODEL TEXT: both lines work; TEXT is what they must say, or empty where any text is right.
answers() {
    local model=$1 text=$2 answer
    [[ $line == *"\"model\":\"$model"* ]] || fail "$name: the line does not ask $model: $line"
    answer=$(bash -c "$line" 2>>"$place/$name.said") || fail "$name: its line failed: $line"
    [ "$(grep -c . <<<"$answer")" -gt 1 ] || fail "$name: the answer did not come in parts: $answer"
    says "$text" "$(text_of <<<"$answer")"
    answer=$(bash -c "$whole" 2>>"$place/$name.said") || fail "$name: its second line failed: $whole"
    [ "$(grep -c . <<<"$answer")" -eq 1 ] || fail "$name: the answer came in parts: $answer"
    says "$text" "$(text_of <<<"$answer")"
}

says() {
    [ -n "$2" ] || fail "$name: the answer is empty"
    [ -z "$1" ] || [ "$1" = "$2" ] || fail "$name: \"$2\" instead of \"$1\""
}

# Ctrl-C goes to the whole group of the terminal. Nothing that carries the mark may be left, but for this script's own.
interrupt() {
    local code=0 pid file
    kill -INT -- "-$quick"
    wait "$quick" || code=$?
    quick=''
    exec 5<&-
    [ "$code" -eq 130 ] || fail "$name: Ctrl-C made it end with $code instead of 130"
    for file in /proc/[0-9]*/environ; do
        grep -qFa "QUICKSTART_TEST_MARK=$place" "$file" 2>/dev/null || continue
        pid=${file//[!0-9]/}
        case $(readlink "/proc/$pid/exe") in
            *herdgate* | */ollama | */cat) fail "$name: left behind: $(tr '\0' ' ' <"/proc/$pid/cmdline")" ;;
        esac
    done
}

start_kit() {
    "$kit" --stay "$@" >"$place/kit" &
    kit_pid=$!
    local address=''
    while [ -z "$address" ]; do
        kill -0 "$kit_pid" || fail 'testkit-ollama does not start'
        address=$(sed -n 's/^listening on //p' "$place/kit")
    done
    export OLLAMA_HOST=$address
}

end_kit() {
    kill "$kit_pid"
    wait "$kit_pid" 2>/dev/null
    kit_pid=''
    unset OLLAMA_HOST
}

# ---- as this machine is --------------------------------------------------------------------------------------------

learned=$(sed -n '/^answer = "/{s///;s/"$//;p;q}' tools/demo-model/facts.toml)
begin first
if [[ $line == *'"model":"herdgate-demo'* ]]; then
    answers herdgate-demo "$learned"
else # an Ollama of this machine, which comes first
    answers '' ''
fi
[ "$(stat -c %a "$HERDGATE_DATA")$(stat -c %a "$HERDGATE_DATA/first-key")" = 700600 ] || fail 'the key is not private'
address=$(grep -o 'http://[^/ ]*' <<<"$line" | head -n 1)
./quickstart --listen "${address#http://}" </dev/null >"$place/taken.said" 2>&1
code=$?
[ "$code" -eq 1 ] || fail "on a taken port it ended with $code instead of 1"
grep -q 'port is taken' "$place/taken.said" || fail 'it does not say that the port is taken'
interrupt
begin second
[ "$took" -le 20 ] || fail "the second run took $took s"
answers '' ''
interrupt

# ---- before an Ollama of the test kit ------------------------------------------------------------------------------

start_kit --no-models
begin no-model
grep -q 'herdgate pull' "$place/no-model.said" || fail 'it does not say how to get a model'
answers herdgate-demo "$learned"
interrupt
end_kit

start_kit --embedder vectors --model talker
begin with-model
answers talker ''
grep -q herdgate-engine "$place/with-model.said" && fail 'it brought the engine although the Ollama can chat'
interrupt
end_kit

[ "$(git status --porcelain)" = "$before" ] || fail "git status has changed: $(git status --porcelain)"
printf 'quickstart: all as promised\n'
