# shellcheck shell=bash disable=SC2154 # sourced by ../databases, which sets root
# Starting, recognising and stopping one server. Every server runs in the foreground of a session of its own, as a
# child that we started, so that its pid is known without asking it.

readonly start_limit=60 # seconds for a started server to accept a login

# Shows the end of a log, and gives up.
fail() { # WHAT LOG
    say "$1 failed; the end of $2:"
    tail -n 30 "$2" >&2
    exit 1
}

quietly() { # WHAT LOG COMMAND…
    "${@:3}" >>"$2" 2>&1 || fail "$1" "$2"
}

# Sets `account`, the system user that servers of this kind run as (they refuse root), and `as`, the words in front of
# a command to run it so, without the caller's environment.
run_as() { # USER…: the first that exists; otherwise the account called nobody
    as=(env -i "PATH=$PATH" LC_ALL=C.UTF-8)
    account=$(id -un)
    [ "$(id -u)" = 0 ] || return 0
    for account in "$@" nobody; do
        if id -u "$account" >/dev/null 2>&1; then break; fi
    done
    as=(setpriv "--reuid=$account" "--regid=$(id -g "$account")" --clear-groups "${as[@]}")
}

# Makes folders that the server may write. All others in its folder stay ours.
server_folders() { # FOLDER…
    install -d -m 700 -o "$account" -g "$(id -g "$account")" "$@"
    "${as[@]}" test -w "$1" || die "user $account cannot reach $1: set DB_MUTEX_TEST_DIR to a folder that all may enter"
}

# The pid file's process, if it is this server and not a later process that got the same number: the argument that
# names the data folder tells.
alive() { # NAME
    local pid
    pid=$(cat "$root/$1/pid" 2>/dev/null) || return 1
    grep -qsxzF -e "$root/$1/data" -e "--datadir=$root/$1/data" -e "--datadir=/mnt$root/$1/data" -e "$root/$1/redis.conf" \
        -e "$root/$1/pgbouncer.ini" -e "/mnt$root/$1/pgbouncer.ini" -e "$root/$1/pgpool.conf" -e "$root/$1/haproxy.cfg" \
        "/proc/$pid/cmdline"
}

launch() { # NAME
    local command=()
    "$(kind_of "$1")_command" "$1"
    let_it_end "$1"
    # What a killed server left; its successor takes a zombie that was not reaped for the owner of these.
    rm -f "$root/$1/s/"{*,.s.*} "$root/$1/data/postmaster.pid"
    (
        # A process that waits for the end of a pipe that we inherited must not wait for the server.
        for fd in "/proc/$BASHPID/fd/"*; do
            if [ "${fd##*/}" -gt 2 ]; then eval "exec ${fd##*/}>&-"; fi
        done
        exec setsid "${command[@]}" </dev/null >>"$root/$1/log" 2>&1
    ) &
    echo $! >"$root/$1/pid"
}

start_server() { # NAME BEGAN
    local name=$1 pid='' state='already up' login since=$EPOCHREALTIME
    login=$(kind_of "$name")_login
    until alive "$name" && "$login" "$name" >/dev/null 2>&1; do
        if [ -n "$pid" ]; then
            kill -0 "$pid" 2>/dev/null || fail "$name" "$root/$name/log"
        elif ! alive "$name"; then # also when it was just killed, and took until now to end
            launch "$name"
            pid=$(<"$root/$name/pid") state=up
        fi
        [ $((${EPOCHREALTIME%[.,]*} - ${since%[.,]*})) -le "$start_limit" ] ||
            fail "$name: a login within $start_limit s" "$root/$name/log"
        sleep 0.1
    done
    say "$name: $state, $(seconds_since "$2") s"
}

seconds_since() { # BEGAN
    local us=$((${EPOCHREALTIME/[.,]/} - ${1/[.,]/}))
    printf '%d.%d' $((us / 1000000)) $((us / 100000 % 10))
}

stop_server() { # NAME
    local name=$1 pid signal=TERM
    # PostgreSQL takes TERM for "when the last client has gone".
    [ "$(kind_of "$name")" != postgres ] || signal=INT
    if alive "$name"; then
        pid=$(<"$root/$name/pid")
        kill "-$signal" "$pid" || true
        if gone_within 100 "$name"; then
            say "$name: stopped (pid $pid)"
        else
            kill -KILL "$pid" || true
            gone_within 100 "$name" || die "$name: pid $pid is still there after SIGKILL"
            say "$name: killed after 10 s (pid $pid)"
        fi
    fi
    let_it_end "$name"
    rm -f "$root/$name/pid"
}

# Kills a server and the processes that it has started, as when the machine fails.
kill_server() { # NAME
    if alive "$1"; then kill -KILL "$(<"$root/$1/pid")" || true; fi
    let_it_end "$1"
    rm -f "$root/$1/pid"
}

# Only `kill` and `down` are of use after that.
freeze_server() { # NAME
    local pids
    alive "$1" || die "$1 does not run"
    run_as "$(stat -c %U "$root/$1/data")"
    kill -STOP "$(<"$root/$1/pid")"
    mapfile -t pids < <(working_in "$root/$1/data")
    kill -STOP "${pids[@]}"
}

gone_within() { # TENTHS NAME
    local i
    for ((i = 0; i < $1; i++)); do
        alive "$2" || return 0
        sleep 0.1
    done
    return 1
}

# After the last sign of life: until its port and files are free for the next.
let_it_end() { # NAME
    local i pid
    pid=$(cat "$root/$1/pid" 2>/dev/null) || return 0
    # A process that is ending has lost its arguments and not yet its files; a bound, for the number may be a kernel
    # thread's by now.
    for ((i = 0; i < 100; i++)); do
        if ! [ -e "/proc/$pid/cmdline" ] || grep -qs . "/proc/$pid/cmdline" || grep -qs '^State:.Z' "/proc/$pid/status"
        then break; fi
        sleep 0.02
    done
    kill_orphans "$1"
}

# The processes that work in a data folder. Asked as the server's user, since root in a container may not look.
working_in() { # FOLDER
    "${as[@]}" find /proc -maxdepth 2 -name cwd -lname "$1" -printf '%h\n' 2>/dev/null | sed 's,.*/,,' || true
}

# A killed PostgreSQL leaves children, and one that is busy with a query goes on with it; as long as it does, a new
# server refuses to start.
kill_orphans() { # NAME
    local i pid pids=()
    [ "$(kind_of "$1")" = postgres ] || return 0
    run_as postgres
    for ((i = 0; i < 100; i++)); do
        mapfile -t pids < <(working_in "$root/$1/data")
        [ ${#pids[@]} -gt 0 ] || return 0
        for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
        sleep 0.1
    done
    die "$1: processes ${pids[*]} survive SIGKILL"
}
