# shellcheck shell=bash disable=SC2154,SC2034 # sourced by ../databases, which sets root; `command` is for launch
# Redis, which keeps what it has acknowledged when it is killed; redis-memory keeps nothing.

redis_packages() {
    package_unless redis-server redis-server
    package_unless redis-cli redis-tools
}

redis_make() { # NAME
    local dir=$root/$1
    run_as redis
    server_folders "$dir/data" "$dir/s"
    install -m 600 -o "$account" /dev/null "$dir/redis.conf"
    redis_settings "$1" >"$dir/redis.conf"
}

# Its title would hide its arguments, by which `alive` recognises it.
redis_settings() { # NAME
    cat <<END
bind 127.0.0.1
port $(port_of "$1")
requirepass $(password)
dir $root/$1/data
appendonly $([ "$1" = redis-memory ] && echo no || echo yes)
appendfsync always
save ""
maxclients 1000
set-proc-title no
END
}

redis_command() { # NAME
    run_as redis
    command=("${as[@]}" redis-server "$root/$1/redis.conf")
}

redis_login() { # NAME
    REDISCLI_AUTH=$(password) redis-cli -h 127.0.0.1 -p "$(port_of "$1")" ping | grep -qx PONG
}

redis_url() { echo "redis://:$(password)@127.0.0.1:$(port_of "$1")"; }
