#!/usr/bin/env bash
# Signs what was built, and verifies it:
#
#   packaging/sign.sh dist/TARGET              makes SHA256SUMS of everything there, and SHA256SUMS.minisig
#   packaging/sign.sh --verify dist/TARGET     checks the signature, then every file against the sums
#
# By minisign (Debian's package; sets: scripts/setup.sh package). The keys are the maintainer's and never in the tree:
#   WEIR_SIGNING_KEY=FILE   the secret key; asks for its passphrase (made once by `minisign -G -s FILE -p FILE.pub`)
#   WEIR_PUBLIC_KEY=FILE    the public key, which users get from the release page and from SECURITY.md's address
set -euo pipefail

verify=
[ "${1:-}" != --verify ] || { verify=1; shift; }
folder=${1:-}
[ -d "$folder" ] || { sed -n '2,10p' "$0"; exit 64; }
command -v minisign >/dev/null || { echo "sign: minisign is missing: scripts/setup.sh package"; exit 69; }
cd "$folder"

if [ -n "$verify" ]; then
  : "${WEIR_PUBLIC_KEY:?sign: name the public key in WEIR_PUBLIC_KEY}"
  minisign -V -q -p "$WEIR_PUBLIC_KEY" -m SHA256SUMS || { echo "sign: SHA256SUMS is not what the key's owner signed"; exit 65; }
  sha256sum --quiet --strict --check SHA256SUMS
  # A file that nobody signed must not pass for one of the release.
  unsigned=$(find . -type f ! -name 'SHA256SUMS*' -printf '%P\n' | sort | comm -23 - <(cut -c67- SHA256SUMS | sort))
  [ -z "$unsigned" ] || { echo "sign: not signed: $unsigned"; exit 65; }
  echo "sign: $(wc -l <SHA256SUMS) files are what was signed"
  exit
fi

: "${WEIR_SIGNING_KEY:?sign: name the secret key in WEIR_SIGNING_KEY}"
find . -type f ! -name 'SHA256SUMS*' -printf '%P\n' | sort | xargs -d '\n' sha256sum >SHA256SUMS
minisign -S -s "$WEIR_SIGNING_KEY" -m SHA256SUMS -t "weir $(git -C "$OLDPWD" describe --always 2>/dev/null || true)"
echo "sign: $folder/SHA256SUMS.minisig signs $(wc -l <SHA256SUMS) files"
