# shellcheck shell=bash disable=SC2154,SC2034 # sourced by ../databases, which sets root; `command` is for launch
# PgBouncers in front of postgres. A login goes through to postgres, so `start` needs that one to be up.

pgbouncer_packages() { # NAME
    case $1 in
        pgbouncer-prepared) unstable_packages pgbouncer ;;
        *) package_unless pgbouncer pgbouncer ;;
    esac
}

pgbouncer_make() { # NAME
    local dir=$root/$1
    run_as postgres
    [ "$1" != pgbouncer-prepared ] || make_tree pgbouncer pgbouncer
    server_folders "$dir/s"
    pgbouncer_settings "$1" "$(pgbouncer_folder "$1")" >"$dir/pgbouncer.ini"
    # In clear, because it must log in at postgres with it.
    install -m 600 -o "$account" /dev/null "$dir/userlist.txt"
    echo "\"$user\" \"$(password)\"" >"$dir/userlist.txt"
}

# The server's folder as it sees it.
pgbouncer_folder() { # NAME
    case $1 in
        pgbouncer-prepared) echo "/mnt$root/$1" ;;
        *) echo "$root/$1" ;;
    esac
}

# server_login_retry: after postgres was down, the default of 15 s would make every crash test wait.
pgbouncer_settings() { # NAME DIR
    local mode=transaction ignored=extra_float_digits
    [ "$1" != pgbouncer-session ] || mode=session
    [ "$1" != pgbouncer-ignoring ] || ignored+=,options
    cat <<END
[databases]
* = host=127.0.0.1 port=$(port_of postgres)

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $(port_of "$1")
unix_socket_dir = $2/s
auth_type = scram-sha-256
auth_file = $2/userlist.txt
admin_users = $user
pool_mode = $mode
ignore_startup_parameters = $ignored
max_client_conn = 1000
default_pool_size = 20
server_login_retry = 1
END
    if [ "$1" = pgbouncer-prepared ]; then echo "max_prepared_statements = 200"; fi
}

pgbouncer_command() { # NAME
    run_as postgres
    case $1 in
        pgbouncer-prepared) in_tree pgbouncer "$root/$1" pgbouncer "/mnt$root/$1/pgbouncer.ini" ;;
        *) command=("${as[@]}" pgbouncer "$root/$1/pgbouncer.ini") ;;
    esac
}

pgbouncer_login() { postgres_login "$1"; }

pgbouncer_url() { postgres_url "$1"; }
