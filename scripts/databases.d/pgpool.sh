# shellcheck shell=bash disable=SC2154,SC2034 # sourced by ../databases, which sets root; `command` is for launch
# Pgpool-II in front of postgres and postgres-standby; what it takes for reading goes to the standby.

pgpool_packages() {
    package_unless pgpool pgpool2
}

pgpool_make() { # NAME
    local dir=$root/$1
    run_as postgres
    server_folders "$dir/s"
    free_port >"$dir/control-port"
    pgpool_settings "$1" >"$dir/pgpool.conf"
    echo "host all all 127.0.0.1/32 scram-sha-256" >"$dir/pool_hba.conf"
    # In clear, because it must log in at the servers with it.
    install -m 600 -o "$account" /dev/null "$dir/passwords"
    echo "$user:TEXT$(password)" >"$dir/passwords"
}

# Neither server is looked at: each stays what it is.
pgpool_settings() { # NAME
    local dir=$root/$1
    cat <<END
backend_clustering_mode = 'streaming_replication'
listen_addresses = '127.0.0.1'
port = $(port_of "$1")
socket_dir = '$dir/s'
pcp_listen_addresses = '127.0.0.1'
pcp_port = $(<"$dir/control-port")
pcp_socket_dir = '$dir/s'
backend_hostname0 = '127.0.0.1'
backend_port0 = $(port_of postgres)
backend_weight0 = 0
backend_flag0 = 'ALWAYS_PRIMARY|DISALLOW_TO_FAILOVER'
backend_hostname1 = '127.0.0.1'
backend_port1 = $(port_of postgres-standby)
backend_weight1 = 1
backend_flag1 = 'DISALLOW_TO_FAILOVER'
load_balance_mode = on
sr_check_period = 0
sr_check_user = '$user'
health_check_period = 0
enable_pool_hba = on
pool_passwd = '$dir/passwords'
num_init_children = 32
max_pool = 2
pid_file_name = '$dir/s/pid'
logdir = '$dir/s'
memqcache_oiddir = '$dir/s'
log_per_node_statement = on
END
}

pgpool_command() { # NAME
    local dir=$root/$1
    run_as postgres
    command=("${as[@]}" pgpool -n -f "$dir/pgpool.conf" -a "$dir/pool_hba.conf" -F "$dir/pcp.conf")
}

pgpool_login() { postgres_login "$1"; }

pgpool_url() { postgres_url "$1"; }
