# shellcheck shell=bash disable=SC2154,SC2034 # sourced by ../databases, which sets root; `command` is for launch
# postgres, postgres-tls, postgres-plain, postgres-faketime, postgres-one and postgres-two: servers from one template, which
# differ in TLS, in their clock, and in whether they follow another. postgres-standby is a copy of postgres that follows it, so
# `start` needs that one to be up.

postgres_packages() {
    package_unless openssl openssl
    [ -n "$(postgres_programs)" ] || echo postgresql
}

# The folder of the newest PostgreSQL server; Debian keeps it out of PATH. (A client alone has a folder too.)
postgres_programs() {
    local initdb
    initdb=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1) || true
    echo "${initdb%/initdb}"
}

postgres_template() {
    local template=$root/postgres-template programs
    [ ! -e "$template/made" ] || return 0
    programs=$(postgres_programs)
    rm -rf "$template"
    mkdir "$template"
    server_folders "$template/data"
    install -m 600 -o "$account" "$root/password" "$template/password"
    # No waiting for the disk here: these files outlive a killed server, and need not outlive the machine.
    quietly initdb "$template/log" "${as[@]}" "$programs/initdb" -D "$template/data" --username="$user" \
        --pwfile="$template/password" --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync
    rm "$template/password"
    quietly "postgres --single" "$template/log" "${as[@]}" "$programs/postgres" --single -D "$template/data" postgres \
        <<<"create database $database"
    if has_statistics; then
        quietly "postgres --single" "$template/log" "${as[@]}" \
            "$programs/postgres" --single -D "$template/data" "$database" <<<"create extension pg_stat_statements"
    fi
    touch "$template/made"
}

has_statistics() {
    [ -e "$("$(postgres_programs)/pg_config" --sharedir)/extension/pg_stat_statements.control" ]
}

postgres_make() { # NAME
    local dir=$root/$1
    run_as postgres
    server_folders "$dir/s"
    if [ -n "$(peer_of "$1")" ] && made "$(peer_of "$1")"; then
        clone_peer "$1"
        return
    fi
    if [ "$1" = postgres-standby ]; then
        postgres_copy "$dir/data"
    else
        postgres_template
        cp -a "$root/postgres-template/data" "$dir/data"
    fi
    postgres_settings "$1" >>"$dir/data/postgresql.conf"
    case $1 in
        postgres) certify "$1" DNS:localhost,IP:127.0.0.1 ;;
        postgres-tls) certify "$1" DNS:localhost ;;
    esac
}

# A replica of postgres, as it is now.
postgres_copy() { # FOLDER
    server_folders "$1"
    quietly pg_basebackup "$root/postgres/log" "${as[@]}" "PGPASSWORD=$(password)" "$(postgres_programs)/pg_basebackup" \
        --checkpoint=fast --write-recovery-conf --pgdata="$1" \
        --dbname="host=127.0.0.1 port=$(port_of postgres) user=$user sslmode=disable"
}

postgres_settings() { # NAME
    cat <<END
listen_addresses = '127.0.0.1'
max_connections = 200
wal_level = replica
log_line_prefix = '%m [%p] %q%u@%d '
log_timezone = 'UTC'
END
    if has_statistics; then echo "shared_preload_libraries = 'pg_stat_statements'"; fi
    # These are killed and copied often. Nothing is lost while the machine stays up; without waiting for the disk a copy is
    # there in a second.
    if [ -n "$(peer_of "$1")" ]; then printf '%s\n' 'fsync = off' 'wal_retrieve_retry_interval = 100ms'; fi
    # With a standby the last setting of a name counts: those of postgres were copied.
    if [ "$1" = postgres-standby ]; then echo "ssl = off"; fi
    case $1 in postgres-plain | postgres-faketime | postgres-one | postgres-two | postgres-standby) return 0 ;; esac
    cat <<END
ssl = on
ssl_ca_file = '$root/$1/ca.pem'
ssl_cert_file = '$root/$1/server.crt'
ssl_key_file = '$root/$1/server.key'
END
}

postgres_command() { # NAME
    local environment
    run_as postgres
    mapfile -t environment < <(faketime_environment "$1")
    # What the settings of a copy must not be. A standby reports to its primary under the cluster's name.
    command=("${as[@]}" "${environment[@]}" "$(postgres_programs)/postgres" -D "$root/$1/data" -c "port=$(port_of "$1")"
        -c "unix_socket_directories=$root/$1/s" -c "cluster_name=$1")
}

postgres_login() { # NAME
    PGPASSWORD=$(password) PGCONNECT_TIMEOUT=3 "$(postgres_programs)/psql" -XAtc 'select 1' \
        "host=127.0.0.1 port=$(port_of "$1") user=$user dbname=$database sslmode=disable"
}

postgres_url() { # NAME
    local host=127.0.0.1 parameters=sslmode=disable
    if [ "$1" = postgres-tls ]; then
        host=localhost
        parameters="sslmode=verify-full&sslrootcert=$root/$1/ca.pem"
    fi
    echo "postgres://$(url_login)@$host:$(port_of "$1")/$database?$parameters"
}
