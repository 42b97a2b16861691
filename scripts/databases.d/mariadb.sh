# shellcheck shell=bash disable=SC2154,SC2034 # sourced by ../databases, which sets root; `command` is for launch
# Debian's MariaDB.

mariadb_packages() {
    package_unless openssl openssl
    package_unless mariadbd mariadb-server-core
    package_unless mariadb mariadb-client-core
}

mariadb_make() { # NAME
    local dir=$root/$1
    run_as mysql
    server_folders "$dir/data" "$dir/tmp" "$dir/s"
    certify "$1" DNS:localhost
    install -m 600 -o "$account" /dev/null "$dir/accounts.sql"
    mysql_accounts >"$dir/accounts.sql"
    # Logins of the administrator go through the socket and are tied to the system user: no account without a password.
    quietly mariadb-install-db "$dir/install-log" "${as[@]}" mariadb-install-db --no-defaults \
        --datadir="$dir/data" --tmpdir="$dir/tmp" \
        --auth-root-authentication-method=socket --auth-root-socket-user="$account" --skip-test-db \
        --extra-file="$dir/accounts.sql"
    rm "$dir/accounts.sql"
}

# For MariaDB and MySQL, before the server is started for the first time. All rights, because tests set hostile global
# defaults and make users.
mysql_accounts() {
    local at
    echo "FLUSH PRIVILEGES;"
    for at in localhost %; do
        echo "CREATE USER '$user'@'$at' IDENTIFIED BY '$(password)';"
        echo "GRANT ALL ON *.* TO '$user'@'$at' WITH GRANT OPTION;"
    done
    echo "CREATE DATABASE $database;"
}

# What MariaDB and MySQL are both told; DIR as the server sees it.
mysql_options() { # NAME DIR
    printf '%s\n' --no-defaults "--datadir=$2/data" "--tmpdir=$2/tmp" "--socket=$2/s/socket" \
        --bind-address=127.0.0.1 "--port=$(port_of "$1")" --skip-name-resolve --max-connections=200 \
        "--pid-file=$2/s/pid" \
        "--ssl-ca=$2/ca.pem" "--ssl-cert=$2/server.crt" "--ssl-key=$2/server.key"
}

mariadb_command() { # NAME
    local options environment
    run_as mysql
    mapfile -t options < <(mysql_options "$1" "$root/$1")
    mapfile -t environment < <(faketime_environment "$1")
    command=("${as[@]}" "${environment[@]}" mariadbd "${options[@]}")
}

mariadb_client() { # NAME ARGUMENT…
    MYSQL_PWD=$(password) mariadb --no-defaults --host=127.0.0.1 --port="$(port_of "$1")" --user="$user" \
        --connect-timeout=3 "${@:2}" "$database"
}

mariadb_login() { mariadb_client "$1" -e 'select 1'; } # NAME

mariadb_url() { echo "mysql://$(url_login)@127.0.0.1:$(port_of "$1")/$database"; }
