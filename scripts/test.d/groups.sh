# shellcheck shell=bash
# Groups of tests that run side by side: each prints a line when it ends, with the time that passed and the time that it kept a
# core busy, and all that it has printed if it failed.

declare -A group_names=() group_starts=()
group_logs=$(mktemp -d)

group() { # NAME COMMAND…
    local name=$1
    shift
    # A shell without job control lets its background processes ignore these signals, which the command's tests send.
    (
        env --default-signal=INT,QUIT "$@" >"$group_logs/$name" 2>&1 </dev/null &
        trap 'kill $!' TERM
        status=0
        wait $! || status=$?
        times >"$group_logs/$name.busy"
        exit "$status"
    ) &
    group_names[$!]=$name group_starts[$!]=$SECONDS
}

busy_seconds() { # FILE: what `times` has printed
    awk -F '[ms ]+' 'NR == 2 { printf "%d", $1 * 60 + $2 + $3 * 60 + $4 }' "$1"
}

await_groups() {
    local pid name failed=()
    while [ ${#group_names[@]} -gt 0 ]; do
        local status=0
        wait -n -p pid "${!group_names[@]}" || status=$?
        name=${group_names[$pid]}
        printf '%-18s %-6s %4d s, busy %4d s\n' "$name" "$([ $status = 0 ] && echo passed || echo FAILED)" \
            $((SECONDS - group_starts[$pid])) "$(busy_seconds "$group_logs/$name.busy")"
        [ $status = 0 ] || failed+=("$name")
        unset "group_names[$pid]"
    done
    for name in "${failed[@]}"; do
        printf '\n-- what %s printed, without the tests that passed:\n' "$name"
        grep -v '\.\.\. ok$' "$group_logs/$name" || true
    done
    rm -rf "$group_logs"
    [ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
}

stop_groups() {
    [ ${#group_names[@]} = 0 ] || kill "${!group_names[@]}" 2>/dev/null || true
    rm -rf "$group_logs"
}

compiled_tests() { # ARGUMENTS of cargo test: compiles the tests, and prints the name of each program
    # Not `tee /dev/stderr`, which would empty a file that the output goes to.
    cargo test "$@" --no-run 2>&1 | tee >(cat >&2) | sed -n 's|^ *Executable tests/.*/\([a-z_]*\)-[0-9a-f]*)$|\1|p' | sort -u
}

except() { # NAME…: arguments of cargo test that select all of `tests` but these
    local test
    for test in "${tests[@]}"; do
        [[ " $* " == *" $test "* ]] || printf -- '--test %s ' "$test"
    done
}
