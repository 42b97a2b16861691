# shellcheck shell=bash
# The files in examples/command: their command lines are run with the command of this checkout, and stand-ins for the jobs.

test_command() {
    local place=$folder/command part status=0
    install_missing || return
    mkdir -p "$place/bin"
    cp "$DB_MUTEX" "$place/bin/"
    echo "sqlite:$place/locks.db" >"$place/url"
    # Each job does nothing but say who it is.
    for part in import make-report mail; do
        printf '#!/bin/sh\necho "%s $*"\n' "$part" >"$place/bin/$part"
        chmod +x "$place/bin/$part"
    done
    for part in crontab systemd kubernetes docker; do
        if "test_$part" "$place"; then
            echo "example command, $part: as expected"
        else
            say "examples/command: $part has failed"
            status=1
        fi
    done
    return $status
}

install_missing() {
    local missing=()
    command -v systemd-analyze >/dev/null || missing+=(systemd)
    python_with_yaml >/dev/null || missing+=(python3-yaml)
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "missing; as root: apt-get install --no-install-recommends ${missing[*]}"
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=300 update || true
    apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# The first Python may be another than Debian's, and not have it.
python_with_yaml() {
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import yaml' 2>/dev/null; then echo "$python"; return; fi
    done
    return 1
}

here_instead() { # PLACE: its folders in place of the machine's, in what is read
    sed -e "s|/usr/local/bin|$1/bin|g; s|/etc/db-mutex.url|$1/url|g; s|/run/secrets/db-mutex/url|$1/url|g; s|%d/db-mutex.url|$1/url|g"
}

prints() { # EXPECTED COMMAND…
    local printed
    printed=$("${@:2}") || { say "${*:2} ended with $?"; return 1; }
    [ "$printed" = "$1" ] || { say "${*:2} printed '$printed', not '$1'"; return 1; }
}

# Variables are those that cron sets, and the file's. A line is five fields and a command for sh, in which % would be a newline.
test_crontab() { # PLACE
    local line minute hour day month weekday command field printed=() settings=() number='^[0-9*,/-]+$'
    while IFS= read -r line; do
        case $line in
        '' | '#'*) continue ;;
        [A-Z]*=*) settings+=("$line"); continue ;;
        esac
        read -r minute hour day month weekday command <<<"$line"
        for field in "$minute" "$hour" "$day" "$month" "$weekday"; do
            [[ $field =~ $number ]] || { say "'$field' in '$line' is no time"; return 1; }
        done
        [[ $command != *%* ]] || { say "cron makes a newline of % in '$line'"; return 1; }
        printed+=("$(env -i HOME="$1" LOGNAME=cron SHELL=/bin/sh "${settings[@]}" /bin/sh -c "$command")") || return
        # A second machine, some seconds later.
        printed+=("$(env -i HOME="$1" LOGNAME=cron SHELL=/bin/sh "${settings[@]}" /bin/sh -c "$command")") || return
    done < <(here_instead "$1" <examples/command/crontab)
    # The import runs each time, the report once.
    prints 'import |import |mail boss|' printf '%s|%s|%s|%s' "${printed[@]}"
}

test_systemd() { # PLACE
    local start unit
    for unit in examples/command/nightly-report.{service,timer}; do
        here_instead "$1" <"$unit" >"$1/${unit##*/}"
    done
    # It prints what it does not know, and does not always fail then. What is said about the machine's own units is not meant.
    systemd-analyze verify --man=no "$1"/nightly-report.{service,timer} >"$1/verified" 2>&1 || { cat "$1/verified" >&2; return 1; }
    if grep nightly-report "$1/verified" >&2; then return 1; fi
    systemd-analyze calendar "$(sed -n 's/^OnCalendar=//p' "$1/nightly-report.timer")" >/dev/null || return
    read -ra start < <(sed -n 's/^ExecStart=//p' "$1/nightly-report.service")
    rm -f "$1"/locks.db*
    prints 'make-report ' "${start[@]}" && prints '' "${start[@]}"
}

test_kubernetes() { # PLACE
    local argv
    here_instead "$1" <examples/command/cronjob.yaml >"$1/cronjob.yaml"
    "$(python_with_yaml)" - "$1/cronjob.yaml" >"$1/argv" <<'PYTHON' || return
import sys, yaml

job = yaml.safe_load(open(sys.argv[1]))
assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob"), job
pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
assert pod["restartPolicy"] in ("Never", "OnFailure"), "a job's pod has no other policy"
(container,) = pod["containers"]
mounted = {mount["name"] for mount in container["volumeMounts"]}
assert mounted == {volume["name"] for volume in pod["volumes"]}, "each mount needs a volume"
argv = container["command"] + container["args"]
assert all(isinstance(word, str) for word in argv), argv
assert len(job["spec"]["schedule"].split()) == 5
print("\n".join(argv))
PYTHON
    mapfile -t argv <"$1/argv"
    rm -f "$1"/locks.db*
    prints 'make-report ' env PATH="$1/bin:$PATH" "${argv[@]}"
}

# No image is built: that needs a registry. scripts/test-installing builds what it contains. The scripts that the file names have to
# be there, and its entry point is the program that they build.
test_docker() { # PLACE
    local file=examples/command/Dockerfile script words
    for script in $(grep -o 'scripts/[a-z-]*' $file); do
        [ -x "$script" ] || { say "$file names $script, which is not there"; return 1; }
    done
    grep -q '^RUN scripts/build-static /image/usr/local/bin/db-mutex ' $file || return
    words=$(sed -n 's/^\(ENTRYPOINT\|CMD\) \["\(.*\)"\]$/\2/p' $file)
    [ "$words" = "/usr/local/bin/db-mutex"$'\n'"--help" ] || { say "ENTRYPOINT and CMD are '$words'"; return 1; }
    "$1/bin/db-mutex" --help >/dev/null
}
