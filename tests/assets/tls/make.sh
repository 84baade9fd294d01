#!/bin/sh
# Makes the certificates of the tests: a CA, a server (localhost, 127.0.0.1) and a client, valid for a century.
# The keys are for tests alone; nothing trusts this CA.
set -eu
cd "$(dirname "$0")"
key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"; }
key ca.key && key server.key && key client.key
openssl req -x509 -new -key ca.key -subj "/CN=weir test CA" -days 36500 -addext "basicConstraints=critical,CA:TRUE" \
  -addext "keyUsage=critical,keyCertSign" -out ca.pem
leaf() {
  openssl req -new -key "$1.key" -subj "/CN=$1" |
    openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 36500 -extfile "$1.ext" -out "$1.pem"
}
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' >server.ext
printf 'subjectAltName=DNS:client\nbasicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n' >client.ext
leaf server && leaf client
rm -f ./*.ext ca.key ca.srl
# Servers that sign for themselves, as `openssl req -x509` makes them (they say that they are CAs): one that is valid, one that was,
# one that will be.
selfsigned() { # NAME START END
  key "$1.key"
  openssl req -new -key "$1.key" -subj "/CN=localhost" -out "$1.csr"
  printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=critical,CA:TRUE\n' >"$1.ext"
  : >index.txt
  openssl rand -hex 8 >serial
  openssl ca -batch -selfsign -keyfile "$1.key" -in "$1.csr" -out "$1.pem" -outdir . -startdate "$2" -enddate "$3" -notext \
    -md sha256 -extfile "$1.ext" -config /dev/stdin <<END
[ca]
default_ca = here
[here]
database = index.txt
serial = serial
policy = any
[any]
commonName = supplied
END
}
selfsigned self 20200101000000Z 21200101000000Z
selfsigned expired 20000101000000Z 20010102000000Z
selfsigned future 21190101000000Z 21200101000000Z
LC_ALL=C; export LC_ALL
rm -f ./*.csr ./*.ext index.* serial* [0-9A-F]*.pem
