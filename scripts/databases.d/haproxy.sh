# shellcheck shell=bash disable=SC2154,SC2034 # sourced by ../databases, which sets root; `command` is for launch
# HAProxy in front of postgres, and of postgres-plain while postgres is down; haproxy-pair: the same with postgres-one and -two.

haproxy_packages() {
    package_unless haproxy haproxy
}

haproxy_make() { # NAME
    run_as haproxy
    haproxy_settings "$1" >"$root/$1/haproxy.cfg"
}

haproxy_settings() { # NAME
    local first=postgres second=postgres-plain
    [ "$1" != haproxy-pair ] || { first=postgres-one; second=postgres-two; }
    cat <<END
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
listen postgres
    bind 127.0.0.1:$(port_of "$1")
    option pgsql-check user $user
    default-server check inter 500ms fall 2 rise 2 on-marked-down shutdown-sessions
    server first 127.0.0.1:$(port_of "$first")
    server second 127.0.0.1:$(port_of "$second") backup
END
}

haproxy_command() { # NAME
    run_as haproxy
    command=("${as[@]}" haproxy -db -f "$root/$1/haproxy.cfg")
}

haproxy_login() { postgres_login "$1"; }

haproxy_url() { postgres_url "$1"; }
