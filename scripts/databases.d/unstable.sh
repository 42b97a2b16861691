# shellcheck shell=bash disable=SC2154,SC2034 # sourced by ../databases; `command` is for launch
# Programs that Debian has in unstable only. Each lives in a small Debian unstable of its own, which is kept between runs
# (remove the folder to get a newer one) and shared by all test folders.

tree_of() { echo "${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/db-mutex/$1"; } # NAME

unstable_packages() { # NAME
    [ "$(id -u)" = 0 ] || die "$1 needs root, for debootstrap and chroot"
    [ -e "$(tree_of "$1")" ] || package_unless debootstrap debootstrap
}

# Runs a command with mounts of its own: they end with the process, even with kill -9, and no other process sees them.
with_own_mounts() { unshare --mount --propagation private -- "$@"; }

# Built under another name, so that the tree is there completely or not at all. Its own shell, for the lock's sake: two
# test folders may want the tree at the same time.
make_tree() ( # NAME PACKAGE,…
    tree=$(tree_of "$1")
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
    say "$1: fetching a Debian unstable with $2 in it, about a minute, once"
    quietly debootstrap "$new.log" with_own_mounts debootstrap --variant=minbase --include="$2" sid "$new" "$mirror"
    rm -f "$new"/var/cache/apt/archives/*.deb "$new.log"
    mv -T "$new" "$tree"
)

apt_mirror() {
    # shellcheck disable=SC2016 # apt-get's own variables
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' | awk '$1 == "Debian" && !uri { uri = $2 } END { print uri }'
}

# Sets `command` to a program of the tree, for `launch`. There the server's folder is at /mnt$DIR, on a file system in
# memory, so that the tree itself stays as it is.
in_tree() { # NAME DIR [VARIABLE=VALUE…] PROGRAM [ARGUMENT…]
    # shellcheck disable=SC2016 # expanded by the inner shell
    command=(unshare --mount --propagation private -- bash -euc '
        tree=$1 dir=$2
        mount --bind /proc "$tree/proc"
        mount --rbind /dev "$tree/dev"
        mount -t tmpfs -o mode=755 db-mutex "$tree/mnt"
        mkdir -p "$tree/mnt$dir"
        mount --bind "$dir" "$tree/mnt$dir"
        exec chroot --userspec="$3" "$tree" env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 "${@:4}"
        ' "$1" "$(tree_of "$1")" "$2" "$(id -u "$account"):$(id -g "$account")" "${@:3}")
}
