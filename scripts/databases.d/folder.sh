# shellcheck shell=bash disable=SC2154 # sourced by ../databases, which sets root and user
# The folder with everything in it: whose it is, who works in it now, the password, the ports.

# Makes the folder if need be, and waits until no other call of this script is changing it.
claim_folder() {
    # A Unix socket's address has 107 bytes; the longest of ours adds /postgres-plain/s/.s.PGSQL.12345.
    [ ${#root} -le 75 ] || die "$root is too long for Unix sockets: set DB_MUTEX_TEST_DIR to a shorter folder"
    [[ $root =~ ^/[A-Za-z0-9/._-]+$ ]] || die "$root has characters that need quoting: set DB_MUTEX_TEST_DIR"
    while :; do
        mkdir -p "$root"
        [ -O "$root" ] || die "$root belongs to another user: set DB_MUTEX_TEST_DIR"
        # `down` removes the folder, so it must be one that this script made.
        [ -z "$(ls -A "$root")" ] || [ -e "$root/lock" ] || die "$root is not empty, and not a folder of ours"
        exec 9>"$root/lock"
        flock 9
        # While we waited, `down` may have removed the folder: then the lock that we hold is on a deleted file.
        [ ! "$root/lock" -ef "/proc/$$/fd/9" ] || break
    done
    [ -e "$root/password" ] || make_password
}

# Random, because a superuser of such a server can run programs as its system user, and every user of the machine can
# reach 127.0.0.1. The fixed beginning is what tests look for in errors and logs.
make_password() {
    (umask 077; echo "s3cret-canary-$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')" >"$root/password")
}

password() { cat "$root/password"; }

url_login() { echo "$user:$(password)"; }

port_of() { cat "$root/$1/port"; }

# Below the range that the kernel gives to outgoing connections, so that a port stays free while its server is stopped.
free_port() {
    local port
    while :; do
        port=$((20000 + SRANDOM % 12000))
        if grep -qsxF "$port" "$root"/*/port*; then continue; fi
        (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}
