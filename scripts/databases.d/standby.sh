# shellcheck shell=bash disable=SC2154 # sourced by ../databases, which sets root, user and database
# postgres-one and postgres-two: the one that is made later follows the other, as its hot standby. Either may be promoted,
# and what was killed can follow again.

peer_of() { # NAME
    case $1 in
        postgres-one) echo postgres-two ;;
        postgres-two) echo postgres-one ;;
    esac
}

must_have_a_peer() { # NAME
    [ -n "$(peer_of "$1")" ] || die "$1 stands alone; postgres-one and postgres-two follow each other"
}

# Prints what a server returns to its superuser.
ask() { # NAME SQL
    PGPASSWORD=$(password) PGCONNECT_TIMEOUT=3 "$(postgres_programs)/psql" -XAtq -v ON_ERROR_STOP=1 -c "$2" \
        "host=127.0.0.1 port=$(port_of "$1") user=$user dbname=$database sslmode=disable"
}

until_it_says() { # NAME SQL ANSWER
    local i answer
    for ((i = 0; i < start_limit * 10; i++)); do
        answer=$(ask "$1" "$2" 2>>"$root/$1/log") || true
        [ "$answer" != "$3" ] || return 0
        sleep 0.1
    done
    fail "$1: '$2' is '$answer' and not '$3'" "$root/$1/log"
}

# A copy of the peer's data, which follows it from then on. It does not wait for standbys of its own: it has none.
clone_peer() { # NAME
    local dir=$root/$1 peer
    peer=$(peer_of "$1")
    run_as postgres
    rm -rf "$dir/data"
    server_folders "$dir/data"
    install -m 600 -o "$account" /dev/null "$dir/pgpass"
    echo "*:*:*:$user:$(password)" >"$dir/pgpass"
    quietly "pg_basebackup of $peer" "$dir/log" "${as[@]}" "$(postgres_programs)/pg_basebackup" -D "$dir/data" \
        --checkpoint=fast --wal-method=stream --no-sync --write-recovery-conf \
        -d "host=127.0.0.1 port=$(port_of "$peer") user=$user passfile=$dir/pgpass sslmode=disable"
    sed -i '/synchronous_standby_names/d' "$dir/data/postgresql.auto.conf"
}

# Discards the data of a server, whether it was a primary or a standby, and lets it follow its peer.
follow() { # NAME BEGAN
    must_have_a_peer "$1"
    alive "$(peer_of "$1")" || die "$(peer_of "$1") does not run, so $1 cannot follow it"
    kill_server "$1"
    clone_peer "$1"
    start_server "$1" "$2"
    until_it_says "$(peer_of "$1")" "select count(*) from pg_stat_replication where state = 'streaming'" 1
}

promote() { # NAME
    must_have_a_peer "$1"
    [ "$(ask "$1" 'select pg_promote(true, 60)')" = t ] || die "$1 was not promoted; see $root/$1/log"
}

# Whether the commits of a primary wait until its peer has them on its disk.
set_synchronous() { # NAME on|off
    local standbys=''
    must_have_a_peer "$1"
    case ${2-} in
        on) standbys="\"$(peer_of "$1")\"" ;;
        off) ;;
        *) die "'${2-}' is neither on nor off" ;;
    esac
    [ "$(ask "$1" 'select pg_is_in_recovery()')" = f ] || die "$1 is not a primary"
    ask "$1" "alter system set synchronous_standby_names = '$standbys'"
    ask "$1" "select pg_reload_conf()" >/dev/null
    until_it_says "$1" "show synchronous_standby_names" "$standbys"
    # The checkpointer tells the other processes, and has read the setting when it does what it is asked to.
    ask "$1" checkpoint
    [ -z "$standbys" ] || until_it_says "$1" "select sync_state from pg_stat_replication" sync
}
