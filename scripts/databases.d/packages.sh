# shellcheck shell=bash
# Installs what is missing, without letting a package start a server or make a cluster of its own.

install_missing() { # NAME…
    local name list missing=()
    for name; do
        list=$("$(kind_of "$name")_packages" "$name"; faketime_packages "$name")
        if [ -n "$list" ]; then mapfile -t -O "${#missing[@]}" missing <<<"$list"; fi
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "missing; as root: apt-get install --no-install-recommends ${missing[*]}"
    fi
    say "installing ${missing[*]}"
    apt_install "${missing[@]}"
}

# What keeps packages from starting services, and PostgreSQL's from making its main cluster.
readonly policy=/usr/sbin/policy-rc.d
readonly cluster=/etc/postgresql-common/createcluster.d/db-mutex.conf

# Its own shell, so that the trap always undoes both files, and the lock on policy-rc.d's folder ends: a
# second install at the same time would lose its protection at the end of the first.
apt_install() ( # PACKAGE…
    exec 8<"${policy%/*}"
    flock 8
    log=$(mktemp)
    trap 'forbid_no_more' EXIT
    trap 'exit 1' INT TERM
    forbid_starts
    export DEBIAN_FRONTEND=noninteractive
    # A third party's broken source must not stop us; if it mattered, the install fails and shows why.
    apt-get -o DPkg::Lock::Timeout=300 update >>"$log" 2>&1 || true
    apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" </dev/null >>"$log" 2>&1 ||
        fail "apt-get install $*" "$log"
    # Their own services would come up at the next boot.
    local service
    for service in pgbouncer pgpool2 haproxy; do
        if [[ " $* " = *" $service "* ]]; then update-rc.d "$service" disable >>"$log" 2>&1 || true; fi
    done
    rm -f "$log"
)

forbid_starts() {
    mkdir -p "${cluster%/*}"
    echo 'create_main_cluster = false' >"$cluster"
    # A machine may have a policy already (container images do): the same one stays, another is put aside.
    if [ -e "$policy" ]; then
        local answer=0
        "$policy" none start >/dev/null 2>&1 || answer=$?
        [ "$answer" != 101 ] || return 0
        mv "$policy" "$policy.db-mutex"
    fi
    printf '#!/bin/sh\n# db-mutex: while its packages are installed\nexit 101\n' >"$policy"
    chmod +x "$policy"
}

forbid_no_more() {
    rm -f "$cluster"
    if grep -qs '^# db-mutex:' "$policy"; then rm -f "$policy"; fi
    if [ -e "$policy.db-mutex" ]; then mv "$policy.db-mutex" "$policy"; fi
}

package_unless() { # COMMAND PACKAGE
    command -v "$1" >/dev/null || echo "$2"
}
