#!/usr/bin/env bash
# Proves that `make demo` and `make test` need nothing but git, make, Rust and a Debian: runs both in a bare root.
#
#   tests/bare/run.sh [SUITE ...]       default: bookworm trixie
#
# In each root first as root without /etc/hosts, then as a user with sudo and with /etc/hosts. As root, with apt's, crates.io's
# and PyPI's servers in reach; from an empty cache half an hour a suite on two cores. WEIR_BARE_SEED=DIR begins with that target
# folder (dependencies built elsewhere by the same Rust). The roots stay in target/bare; each run makes them anew.
# Ends with 'N passed, N failed'.
set -euo pipefail
cd "$(dirname "$0")/../.."
DEMO_LIMIT_S=2400
TEST_LIMIT_S=5400

[ "$(id -u)" = 0 ] || { echo "bare: needs root"; exit 69; }
command -v mmdebstrap >/dev/null || scripts/setup.sh bare
: "${RUSTUP_TOOLCHAIN:=$(scripts/toolchain.sh)}"
[ -z "$RUSTUP_TOOLCHAIN" ] || export RUSTUP_TOOLCHAIN
# The folder as it is named here: in the root, make finds it by its version (scripts/toolchain.sh).
toolchain=$(realpath "$(rustc --print sysroot)")
work=$(realpath -m "${CARGO_TARGET_DIR:-target}/bare")
mkdir -p "$work"
exec 9>"$work/lock"
flock 9

passed=0 failed=0
result() { # NAME CODE SECONDS
  if [ "$2" = 0 ]; then passed=$((passed + 1)); word=ok; else failed=$((failed + 1)); word="FAILED ($2)"; fi
  printf 'bare: %s ... %s, %s s\n' "$1" "$word" "$3"
}

# Runs a script in the root, in namespaces that end with it and take all of its processes along, as does this script's end.
keeper=
trap '[ -z "$keeper" ] || kill -KILL "$keeper" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM HUP
inside() { # ROOT USER SCRIPT LIMIT_S
  local code=0
  unshare --mount --pid --fork --kill-child --propagation private sh -ec '
    mount --bind /dev "$1/dev"; mount -t devpts devpts "$1/dev/pts" -o newinstance,ptmxmode=0666 || true
    mount -t proc proc "$1/proc"; mount --rbind /sys "$1/sys"; mount -t tmpfs tmpfs "$1/tmp"; mount -t tmpfs tmpfs "$1/dev/shm"
    exec chroot "$1" timeout --kill-after=30 "$4" su -s /bin/bash "$2" -c "$3" </dev/null' sh "$1" "$2" "$3" "$4" &
  keeper=$!
  wait "$keeper" || code=$?
  keeper=
  return $code
}

copy_tree() { # TARGET_FOLDER: what git knows, as it is now
  mkdir -p "$1"
  git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -T - -c | tar -x -C "$1"
  git -C "$1" init -q
  git -C "$1" add -A
  git -C "$1" -c user.name=bare -c user.email=bare@localhost commit -qm bare
}

both() { # SUITE ROOT USER HOME HOSTS
  local name="$1 as $3 $5"
  local environment="export HOME=$4 PATH=$4/.cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 $passed_on; cd $4/weir;"
  local code=0 begun=$SECONDS
  # Until the first detections; make demo goes on until it is asked to stop.
  rm -f "$2$4/demo.log" # of the user before
  inside "$2" "$3" "$environment setsid make demo >$4/demo.log 2>&1 & demo=\$!
    while ! grep -q person $4/demo.log; do kill -0 \$demo 2>/dev/null || { tail -n 40 $4/demo.log; exit 1; }; sleep 0.2; done
    kill -INT -- -\$demo; wait \$demo || true" "$DEMO_LIMIT_S" || code=$?
  result "make demo, $name" $code $((SECONDS - begun))
  code=0 begun=$SECONDS
  inside "$2" "$3" "$environment make test >$4/test.log 2>&1" "$TEST_LIMIT_S" || code=$?
  [ $code = 0 ] || grep -E '^(test .*FAILED|failures:|error|setup:)|panicked at|No such file' -A3 "$2$4/test.log" | tail -n 60 || true
  result "make test, $name" $code $((SECONDS - begun))
}

# Certificates and mirrors of this machine, where it reaches the registries through its own.
passed_on=
for variable in SSL_CERT_FILE PIP_CERT CARGO_HTTP_CAINFO REQUESTS_CA_BUNDLE http_proxy https_proxy no_proxy; do
  [ -z "${!variable:-}" ] || passed_on="$passed_on $variable=${!variable}"
done

for suite in ${@:-bookworm trixie}; do
  root=$work/$suite
  rm -rf "$root"
  mmdebstrap --quiet --variant=minbase --include=ca-certificates,git,make "$suite" "$root"
  [ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  cp -L /etc/resolv.conf "$root/etc/" 2>/dev/null || true
  # Both users have the same folder, one after the other: cargo would build every dependency anew for another path.
  home=$root/root
  mkdir -p "$home/.rustup/toolchains" "$home/.cargo/bin"
  tar -C "$(dirname "$toolchain")" --exclude share/doc -c "$(basename "$toolchain")" | tar -x -C "$home/.rustup/toolchains"
  cp ~/.rustup/settings.toml "$home/.rustup/"
  cp -a ~/.cargo/bin/. "$home/.cargo/bin/"
  copy_tree "$home/weir"
  # Tests that compare with the material beside the checkout find it here as in CI.
  [ ! -d ../shared ] || cp -r ../shared "$home/shared"
  [ -z "${WEIR_BARE_SEED:-}" ] || cp -a "$WEIR_BARE_SEED" "$home/weir/target"

  rm -f "$root/etc/hosts"
  both "$suite" "$root" root /root "without /etc/hosts"

  printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
  inside "$root" root "apt-get install -qq -y --no-install-recommends sudo >/dev/null && useradd -M -d /root tester &&
    echo 'tester ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/tester && chown -R tester: /root" 600
  both "$suite" "$root" tester /root "with /etc/hosts"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
