# shellcheck shell=bash disable=SC2154,SC2034 # sourced by ../databases, which sets root; `command` is for launch
# A cluster of three: etcd-1, etcd-2 and etcd-3. It responds when two of them run. And etcd-alone, a cluster of one.

etcd_packages() {
    package_unless etcd etcd-server
    package_unless etcdctl etcd-client
}

etcd_make() { # NAME
    local node
    run_as etcd
    server_folders "$root/$1/data" "$root/$1/s"
    for node in etcd-peer-1 etcd-peer-2 etcd-peer-3 etcd-peer-alone; do
        [ -e "$root/$node/port" ] || { mkdir -p "$root/$node" && free_port >"$root/$node/port"; }
    done
}

etcd_command() { # NAME
    local peer client node members=()
    client=http://127.0.0.1:$(port_of "$1")
    peer=http://127.0.0.1:$(port_of "etcd-peer-${1#etcd-}")
    for node in 1 2 3; do members+=("etcd-$node=http://127.0.0.1:$(port_of "etcd-peer-$node")"); done
    [ "$1" != etcd-alone ] || members=("etcd-alone=$peer")
    run_as etcd
    command=("${as[@]}" etcd --name "$1" --data-dir "$root/$1/data" --logger zap
        --listen-client-urls "$client" --advertise-client-urls "$client"
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer"
        --initial-cluster "$(IFS=,; echo "${members[*]}")" --initial-cluster-state new)
}

# The first two cannot respond before the third is there.
etcd_login() { # NAME
    [ "$1" = etcd-3 ] || [ "$1" = etcd-alone ] || alive etcd-3 || return 0
    ETCDCTL_API=3 etcdctl --endpoints "127.0.0.1:$(port_of "$1")" endpoint health
}

etcd_url() { echo "http://127.0.0.1:$(port_of "$1")"; }
