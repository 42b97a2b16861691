# shellcheck shell=bash disable=SC2154,SC2034 # sourced by ../databases, which sets root; `command` is for launch
# PgBouncer in front of postgres. A login goes through to postgres, so `start` needs that one to be up.

pgbouncer_packages() {
    package_unless pgbouncer pgbouncer
}

pgbouncer_make() { # NAME
    local dir=$root/$1
    run_as postgres
    server_folders "$dir/s"
    pgbouncer_settings "$dir" >"$dir/pgbouncer.ini"
    # In clear, because it must log in at postgres with it.
    install -m 600 -o "$account" /dev/null "$dir/userlist.txt"
    echo "\"$user\" \"$(password)\"" >"$dir/userlist.txt"
}

# server_login_retry: after postgres was down, the default of 15 s would make every crash test wait.
pgbouncer_settings() { # DIR
    cat <<END
[databases]
* = host=127.0.0.1 port=$(port_of postgres)

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $(port_of pgbouncer)
unix_socket_dir = $1/s
auth_type = scram-sha-256
auth_file = $1/userlist.txt
admin_users = $user
pool_mode = transaction
ignore_startup_parameters = extra_float_digits
max_client_conn = 1000
default_pool_size = 20
server_login_retry = 1
END
}

pgbouncer_command() { # NAME
    run_as postgres
    command=("${as[@]}" pgbouncer "$root/$1/pgbouncer.ini")
}

pgbouncer_login() { postgres_login "$1"; }

pgbouncer_url() { postgres_url "$1"; }
