# shellcheck shell=bash disable=SC2154,SC2034 # sourced by ../databases, which sets root; `command` is for launch
# Oracle's MySQL, which Debian has in unstable only.

mysql_packages() {
    package_unless openssl openssl
    unstable_packages mysql
}

mysql_make() { # NAME
    local dir=$root/$1
    run_as mysql
    make_tree mysql mysql-server-core,mysql-client-core
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

mysql_command() { # NAME [right-clock]
    local dir=$root/$1 options environment=()
    run_as mysql
    mapfile -t options < <(mysql_options "$1" "/mnt$dir")
    if has_faketime "$1" && [ "${2-}" != right-clock ]; then
        mapfile -t environment < <(faketime_environment "$1" "/mnt$dir/clock/library" "/mnt$dir")
        # The tree has no library of ours, but the server's folder is there.
        cp "$(faketime_library)" "$dir/clock/library"
    fi
    in_tree mysql "$dir" "${environment[@]}" mysqld "${options[@]}" --mysqlx=OFF --secure-file-priv=NULL
}

mysql_login() { # NAME
    MYSQL_PWD=$(password) chroot "$(tree_of mysql)" mysql --no-defaults --host=127.0.0.1 --port="$(port_of "$1")" \
        --user="$user" --connect-timeout=3 -e 'select 1' "$database"
}

mysql_url() { mariadb_url "$1"; }
