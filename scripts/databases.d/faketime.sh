# shellcheck shell=bash disable=SC2154 # sourced by ../databases, which sets root
# Servers called KIND-faketime: their wall clock is wrong by an offset that can be changed while they run. The
# monotonic clock is left alone, and so are timeouts.

has_faketime() { [[ $1 = *-faketime ]]; } # NAME

faketime_library() {
    # The folder has the architecture in its name; the library for programs with threads serves the others too.
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' | head -n 1 || true
}

# For KIND_packages.
faketime_packages() { # NAME
    if has_faketime "$1" && [ -z "$(faketime_library)" ]; then echo libfaketime; fi
}

# The environment variables with which the server has to be started, one a line; none for other servers.
faketime_environment() { # NAME [LIBRARY [DIR as the server sees it]]
    has_faketime "$1" || return 0
    [ -e "$root/$1/clock/offset" ] || set_clock "$1" +0
    printf '%s\n' "LD_PRELOAD=${2:-$(faketime_library)}" "FAKETIME_TIMESTAMP_FILE=${3:-$root/$1}/clock/offset" \
        FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1
}

# Puts the clock of a running server ahead or back; +0 is the real time. Takes effect at once.
set_clock() { # NAME OFFSET
    local dir=$root/$1/clock
    has_faketime "$1" || die "the clock of $1 cannot be changed; servers called KIND-faketime have one that can"
    [[ ${2-} =~ ^[+-][0-9]+(\.[0-9]+)?[smhdy]?$ ]] || die "not an offset: '${2-}'; write +10y, -90s or +0"
    mkdir -p "$dir"
    # Renamed into place: a server reads the file at any moment, and must not find half of it.
    echo "$2" >"$dir/offset.new"
    mv "$dir/offset.new" "$dir/offset"
}
