# shellcheck shell=bash disable=SC2154,SC2034 # sourced by ../databases, which sets root; `command` is for launch
# Oracle's MySQL. Debian has it in unstable only, so it lives in a small Debian unstable of its own, which is kept
# between runs (remove the folder to get a newer one) and shared by all test folders.

mysql_tree() { echo "${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/db-mutex/mysql"; }

mysql_packages() {
    [ "$(id -u)" = 0 ] || die "mysql needs root, for debootstrap and chroot"
    package_unless openssl openssl
    [ -e "$(mysql_tree)" ] || package_unless debootstrap debootstrap
}

# Runs a command with mounts of its own: they end with the process, even with kill -9, and are seen by nobody else.
with_own_mounts() { unshare --mount --propagation private -- "$@"; }

# Built under another name, so that the tree is there completely or not at all. Its own shell, for the lock's sake: two
# test folders may want the tree at the same time.
make_tree() (
    tree=$(mysql_tree)
    [ ! -e "$tree" ] || return 0
    mkdir -p "${tree%/*}"
    exec 8<"${tree%/*}"
    flock 8
    [ ! -e "$tree" ] || return 0
    mirror=${DEBIAN_MIRROR:-$(apt_mirror)}
    [ -n "$mirror" ] || die "apt's configuration has no Debian mirror: set DEBIAN_MIRROR"
    new=$tree.new
    rm -rf --one-file-system "$new" # what an interrupted run left
    mkdir "$new"
    say "mysql: fetching a Debian unstable with MySQL in it, about a minute, once"
    quietly debootstrap "$new.log" with_own_mounts debootstrap --variant=minbase \
        --include=mysql-server-core,mysql-client-core sid "$new" "$mirror"
    rm -f "$new"/var/cache/apt/archives/*.deb "$new.log"
    mv -T "$new" "$tree"
)

apt_mirror() {
    # shellcheck disable=SC2016 # apt-get's own variables
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' | awk '$1 == "Debian" && !uri { uri = $2 } END { print uri }'
}

mysql_make() { # NAME
    local dir=$root/$1
    run_as mysql
    make_tree
    server_folders "$dir/data" "$dir/tmp" "$dir/s"
    certify "$1" DNS:localhost
    install -m 600 -o "$account" /dev/null "$dir/accounts.sql"
    mysql_accounts >"$dir/accounts.sql"
    # The administrator made by --initialize-insecure has no password.
    echo "ALTER USER root@localhost ACCOUNT LOCK;" >>"$dir/accounts.sql"
    mysql_command "$1" right-clock # many times faster
    quietly "mysqld --initialize" "$dir/install-log" "${command[@]}" \
        --initialize-insecure --init-file="/mnt$dir/accounts.sql"
    rm "$dir/accounts.sql"
}

# In the tree the server's folder is at /mnt$dir, on a file system in memory, so that the tree itself stays as it is.
mysql_command() { # NAME [right-clock]
    local dir=$root/$1 options environment=() tree
    run_as mysql
    tree=$(mysql_tree)
    mapfile -t options < <(mysql_options "$1" "/mnt$dir")
    if has_faketime "$1" && [ "${2-}" != right-clock ]; then
        mapfile -t environment < <(faketime_environment "$1" "/mnt$dir/clock/library" "/mnt$dir")
        # The tree has no library of ours, but the server's folder is there.
        cp "$(faketime_library)" "$dir/clock/library"
    fi
    # shellcheck disable=SC2016 # expanded by the inner shell
    command=(unshare --mount --propagation private -- bash -euc '
        tree=$1 dir=$2
        mount --bind /proc "$tree/proc"
        mount --rbind /dev "$tree/dev"
        mount -t tmpfs -o mode=755 db-mutex "$tree/mnt"
        mkdir -p "$tree/mnt$dir"
        mount --bind "$dir" "$tree/mnt$dir"
        exec chroot --userspec="$3" "$tree" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 "${@:4}"
        ' mysql "$tree" "$dir" "$(id -u "$account"):$(id -g "$account")" "${environment[@]}" mysqld "${options[@]}" \
        --mysqlx=OFF --secure-file-priv=NULL)
}

mysql_login() { # NAME
    MYSQL_PWD=$(password) chroot "$(mysql_tree)" mysql --no-defaults --host=127.0.0.1 --port="$(port_of "$1")" \
        --user="$user" --connect-timeout=3 -e 'select 1' "$database"
}

mysql_url() { mariadb_url "$1"; }
