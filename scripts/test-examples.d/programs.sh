# shellcheck shell=bash
# The programs: what they are called, what they should print, and running them.

# An example that hangs should fail, on a slow machine not before it is done.
readonly limit=120

name_of() { # SOURCE: the name of its program
    case $1 in
    */src/main.rs) sed -n '0,/^name = "\(.*\)"/s//\1/p' "${1%/src/main.rs}/Cargo.toml" ;;
    *) basename "$1" .rs ;;
    esac
}

expected() { # SOURCE: the block ```text of its first comment
    awk '!/^\/\/!/ { exit } /^\/\/! ```$/ { inside = 0 } inside { sub(/^\/\/! ?/, ""); print } /^\/\/! ```text$/ { inside = 1 }' "$1"
}

test_program() { # NAME SOURCE
    local name=$1 source=$2 place=$folder/$1
    mkdir "$place"
    expected "$source" >"$place/expected"
    if [ ! -s "$place/expected" ]; then
        say "$source does not say what it prints"
        return 1
    fi
    if grep -q DATABASE_URL "$source" && [ -z "${DATABASE_URL-}" ]; then
        say "$name needs a server: set DATABASE_URL"
        return 1
    fi
    if [ "$name" = with_apalis ]; then
        two_processes "$name" "$place" || return
    else
        if ! (cd "$place" && timeout "$limit" "$examples/debug/$name" >printed); then
            say "$name has failed; it printed:"
            cat "$place/printed" >&2
            return 1
        fi
        diff -u "$place/expected" "$place/printed" || { say "$name prints something else than $source says"; return 1; }
    fi
    echo "example $name: as expected"
}

# Two workers run until both have met the same tick three times. Then they are stopped. No tick may have run twice.
two_processes() { # NAME PLACE
    local name=$1 place=$2 first second deadline=$((SECONDS + limit)) status=0
    # The first creates the file; it prints its first line at its first tick.
    (cd "$place" && exec "$examples/debug/$name" >printed-1) & first=$!
    (cd "$place" && exec "$examples/debug/$name" >printed-2) & second=$!
    until [ "$(met "$place" | wc -l)" -ge 3 ]; do
        if [ $SECONDS -ge $deadline ] || ! kill -0 $first || ! kill -0 $second; then
            say "$name: the two processes do not meet at three ticks; they printed:"
            status=1
            break
        fi
        sleep 0.2
    done
    kill $first $second || status=1
    wait $first || { say "$name: the first process ended with $?"; status=1; }
    wait $second || { say "$name: the second process ended with $?"; status=1; }
    if sort "$place"/printed-? | grep ': written$' | uniq -d | grep .; then
        say "$name: these ticks ran twice"
        status=1
    fi
    # What the first comment shows is made of the same two lines.
    if [ "$(shapes "$place"/printed-?)" != "$(shapes "$place/expected")" ]; then
        say "$name prints other lines than its first comment shows"
        status=1
    fi
    [ $status = 0 ] || cat "$place"/printed-? >&2
    return $status
}

met() { # PLACE: the ticks that one of the processes has run, and the other has skipped
    comm -12 <(grep -sh ': written$' "$1"/printed-? | sed 's/:.*//' | sort -u) \
        <(grep -sh ': skipped$' "$1"/printed-? | sed 's/:.*//' | sort -u)
}

shapes() { # FILE…: the different lines, without numbers
    sed 's/[0-9][0-9]*/N/g' "$@" | sort -u
}
