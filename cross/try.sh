#!/usr/bin/env bash
# Runs a binary for arm64 on this machine, emulated:  cross/try.sh dist/aarch64-unknown-linux-musl/weir
#
# Its version, the machine as it sees it, and the demo until it has seen a person: capture worker, decoder, engine and UDP, all as
# on a board, only slower. The worker is the same binary started again, so the kernel itself must know the emulator
# (binfmt_misc, as root; registered for this run where it is not yet). A dynamic binary runs with the C library of Debian 11,
# the glibc 2.31 that it promises to do with, in a root made for it in target/.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:?"usage: cross/try.sh BINARY"}
# An emulated core takes some ten seconds a frame.
DEMO_LIMIT_S=240

emulator=$(command -v qemu-aarch64-static) || { echo "try: qemu-user-static is not installed"; exit 69; }
folder=/proc/sys/fs/binfmt_misc
ours=$folder/weir-try
service=
finish() {
  [ -z "$service" ] || kill "$service" 2>/dev/null || true
  [ ! -e $ours ] || echo -1 >$ours
}
trap finish EXIT

weir() { exec "$binary" "$@"; }
if readelf --program-headers "$binary" | grep -q INTERP; then
  scripts/setup.sh nspawn
  root=${CARGO_TARGET_DIR:-target}/arm64-root
  if [ ! -e "$root/.made" ]; then
    rm -rf "$root"
    # From this machine's own mirror, without the updates, which move when a release is old.
    mirror=$(apt-cache policy | grep -om1 'https\?://[^ ]*/debian ' | tr -d " ")
    mmdebstrap --quiet --architectures=arm64 --variant=extract --include=libc6 bullseye "$root" "$mirror"
    mkdir -p "$root/usr/bin" "$root/usr/share/weir" "$root/proc"
    touch "$root/.made"
  fi
  install -m 0755 "$binary" "$root/usr/bin/weir"
  cp -rT assets "$root/usr/share/weir/demo"
  # The mounts go with their namespace, which goes with the process.
  weir() {
    exec unshare --mount sh -c 'mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" && exec chroot "$0" /usr/bin/weir "$@"' "$root" "$@"
  }
fi

if ! (weir --version) >/dev/null 2>&1; then
  [ -e $folder/register ] || mount -t binfmt_misc binfmt_misc $folder
  # The head of an ELF file of 64 bits, little endian, for machine 183; F: the emulator is opened now, so sandboxes do not need its path.
  printf '%s' ':weir-try:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$emulator"':F' >$folder/register
fi
(weir --version)
(WEIR_OFFLINE=1 weir check)
out=$(mktemp)
weir demo --tcp 127.0.0.1:0 --http 127.0.0.1:0 --log-level info >"$out" 2>&1 &
service=$!
for ((second = 0; second < DEMO_LIMIT_S; second++)); do
  if grep -q person "$out"; then
    head -5 "$out"
    rm "$out"
    echo "try: the demo saw a person after $second s"
    exit 0
  fi
  kill -0 $service 2>/dev/null || break
  sleep 1
done
cat "$out"
echo "try: the demo saw nobody"
exit 1
