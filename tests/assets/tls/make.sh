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
