# shellcheck shell=bash disable=SC2154,SC2034 # sourced by ../databases, which sets root; `command` is for launch
# A cluster of MariaDB with Galera: galera-1 is made with data, the others copy theirs from a node that runs.

galera_packages() {
    mariadb_packages
    [ -n "$(galera_library)" ] || echo galera-4
    package_unless rsync rsync
    package_unless wsrep_sst_rsync mariadb-server
    package_unless lsof lsof
    package_unless cc gcc
}

galera_library() {
    local file
    for file in /usr/lib/galera/libgalera_smm.so /usr/lib64/galera-4/libgalera_smm.so; do
        if [ -e "$file" ]; then echo "$file"; return; fi
    done
}

galera_make() { # NAME
    local dir=$root/$1 kind
    if [ "$1" = galera-1 ]; then
        mariadb_make "$1"
    else
        [ -n "$(galera_others "$1" alive)" ] || die "$1 copies its data from a node that runs: start galera-1 first"
        run_as mysql
        server_folders "$dir/data" "$dir/tmp" "$dir/s"
        certify "$1" DNS:localhost
    fi
    for kind in group ist sst; do free_port >"$dir/port-$kind"; done
    # Some sandboxes refuse to set the priority of a thread with an error that ends Galera; it goes on where the system
    # has no such call (ENOSYS).
    echo 'int pthread_setschedparam(unsigned long thread, int policy, const void *param) { return 38; }' |
        quietly cc "$dir/install-log" cc -shared -fPIC -x c -o "$dir/no-priorities.so" -
}

# The other nodes that are `made` or `alive`.
galera_others() { # NAME TEST
    local name
    for name in "${names[@]}"; do
        [ "$(kind_of "$name")" = galera ] && [ "$name" != "$1" ] || continue
        if "$2" "$name"; then echo "$name"; fi
    done
}

galera_command() { # NAME
    local dir=$root/$1 options name address='' provider position
    run_as mysql
    as+=("LD_PRELOAD=$dir/no-priorities.so")
    # The one before may still be ending, with its files locked.
    let_it_end "$1"
    mapfile -t options < <(mysql_options "$1" "$dir")
    provider="base_host=127.0.0.1;base_port=$(<"$dir/port-group");gmcast.listen_addr=tcp://127.0.0.1:$(<"$dir/port-group")"
    provider+=";ist.recv_addr=127.0.0.1:$(<"$dir/port-ist");gcache.size=32M"
    # A node that is silent is left out after half the time that is Galera's default.
    provider+=";evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT2.5S;evs.inactive_timeout=PT7.5S"
    options+=(--wsrep-on=ON "--wsrep-provider=$(galera_library)" --wsrep-cluster-name=db-mutex "--wsrep-node-name=$1"
        --wsrep-node-address=127.0.0.1 --wsrep-sst-method=rsync
        "--wsrep-sst-receive-address=127.0.0.1:$(<"$dir/port-sst")" --binlog-format=ROW --innodb-autoinc-lock-mode=2
        --innodb-log-file-size=16M)
    # What a killed node has is found in its data, and spares it a copy of everything.
    if [ -e "$dir/data/grastate.dat" ]; then
        position=$("${as[@]}" mariadbd "${options[@]}" --wsrep-cluster-address=gcomm:// --wsrep-recover 2>&1 |
            sed -n 's/.*WSREP: Recovered position: *\([^ ,]*\).*/\1/p') || true
        [ -z "$position" ] || options+=("--wsrep-start-position=$position")
    fi
    if [ -z "$(galera_others "$1" alive)" ]; then
        # No other node runs: this one begins the cluster, with the data that it has.
        "${as[@]}" sed -i 's/^safe_to_bootstrap: 0/safe_to_bootstrap: 1/' "$dir/data/grastate.dat" 2>/dev/null || true
        rm -f "$dir/data/gvwstate.dat"
        options+=(--wsrep-new-cluster)
    fi
    for name in $(galera_others "$1" made); do address+=,127.0.0.1:$(<"$root/$name/port-group"); done
    command=("${as[@]}" mariadbd "${options[@]}" "--wsrep-provider-options=$provider"
        "--wsrep-cluster-address=gcomm://${address#,}")
}

# A node lets clients in before it takes their requests.
galera_login() { # NAME
    mariadb_client "$1" -N -e "show status like 'wsrep_ready'" | grep -q ON
}

galera_url() { mariadb_url "$1"; }
