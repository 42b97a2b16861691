# shellcheck shell=bash disable=SC2154 # sourced by ../databases, which sets root
# An authority of our own for the folder, and certificates from it.

authority() { # STEM: makes STEM.pem and STEM.key
    quietly openssl "$root/tls/log" openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
        -subj "/CN=db-mutex test ${1##*/}" -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$1.key" -out "$1.pem"
}

authorities() {
    [ ! -e "$root/tls/made" ] || return 0
    rm -rf "$root/tls"
    mkdir -m 700 "$root/tls"
    authority "$root/tls/ca"
    authority "$root/tls/other-ca"
    touch "$root/tls/made"
}

# Puts ca.pem, other-ca.pem, server.crt and server.key into a server's folder.
certify() { # NAME ALTERNATIVE-NAMES
    local dir=$root/$1 tls=$root/tls
    authorities
    printf '%s\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature extendedKeyUsage=serverAuth \
        "subjectAltName=$2" >"$tls/extensions"
    quietly openssl "$tls/log" openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -subj "/CN=db-mutex test $1" -keyout "$dir/server.key" -out "$tls/request"
    quietly openssl "$tls/log" openssl x509 -req -in "$tls/request" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -days 3650 \
        -extfile "$tls/extensions" -out "$dir/server.crt"
    chown "$account" "$dir/server.key" # which openssl made readable for its owner only
    cp "$tls/ca.pem" "$tls/other-ca.pem" "$dir"
}
