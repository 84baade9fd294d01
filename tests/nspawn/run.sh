#!/usr/bin/env bash
# Runs weir under a real systemd: a Debian root file system in systemd-nspawn, the packages of this tree installed in it.
#
#   tests/nspawn/run.sh [BINARY]        default: target/release/weir, which must be built
#   tests/nspawn/run.sh dist/x86_64-unknown-linux-musl      the packages that cross/build.sh left there
#
# As root, without a network, in about a minute and a half; the root is made once and kept in target/nspawn. Ends with
# 'N passed, N failed'. tests/nspawn/guest.sh is what happens inside.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=${1:-target/release/weir}
# The guest's script ends by itself in a minute; a boot that hangs ends here.
LIMIT_S=300

[ "$(id -u)" = 0 ] || { echo "nspawn: needs root"; exit 69; }
[ -x "$binary" ] || { echo "nspawn: $binary is not built"; exit 66; } # a folder is `-x` too
scripts/setup.sh nspawn

work=${CARGO_TARGET_DIR:-target}/nspawn
mkdir -p "$work"
exec 9>"$work/lock"
flock 9 # the root below is one

if [ ! -e "$work/root/.made" ]; then
  echo "nspawn: making a Debian root in $work/root"
  rm -rf "$work/root"
  mmdebstrap --quiet --variant=essential --include=systemd-sysv,dbus,procps,init-system-helpers bookworm "$work/root"
  touch "$work/root/.made"
fi

# A package of now and one of the next version, to upgrade to.
stage=$(mktemp -d)
machine=
finish() {
  [ -z "$machine" ] || kill -KILL "$machine" 2>/dev/null || true
  rm -rf "$stage"
}
trap finish EXIT
if [ -d "$binary" ]; then
  cp "$binary"/*.deb "$binary"/weir-*.tar.gz "$stage"
else
  install -m 0755 "$binary" "$stage/weir"
  strip "$stage/weir"
  packaging/make-packages.py --target x86_64-unknown-linux-gnu --out "$stage" >/dev/null
fi
dpkg-deb -R "$stage"/weir_*_amd64.deb "$stage/next"
sed -i 's/^Version: .*/&+next/' "$stage/next/DEBIAN/control"
dpkg-deb --root-owner-group -Znone --build "$stage/next" "$stage/next.deb" >/dev/null
rm -rf "$stage/next"
install -m 0755 tests/nspawn/guest.sh "$stage/guest.sh"
cat > "$stage/nspawn-test.service" <<'END'
[Unit]
Description=The test itself
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/test/guest.sh
ExecStopPost=/bin/systemctl --no-block poweroff
StandardOutput=file:/test/output
StandardError=file:/test/output
END
mkdir "$stage/wants"
ln -s /test/nspawn-test.service "$stage/wants/nspawn-test.service"

# The root stays as it is: what the guest writes goes to an overlay in memory.
systemd-nspawn --quiet --directory="$work/root" --volatile=overlay --register=no --keep-unit --private-network --boot \
  --console=pipe --bind="$stage:/test" --bind-ro="$stage/nspawn-test.service:/etc/systemd/system/nspawn-test.service" \
  --bind-ro="$stage/wants:/etc/systemd/system/default.target.wants" \
  </dev/null >"$work/console.log" 2>&1 &
machine=$!
for ((second = 0; second < LIMIT_S; second++)); do
  kill -0 "$machine" 2>/dev/null || break
  sleep 1
done
if kill -0 "$machine" 2>/dev/null; then
  echo "nspawn: still running after $LIMIT_S s"
  kill -TERM "$machine"
fi
wait "$machine" || true
machine=
[ -e "$stage/output" ] || { tail -50 "$work/console.log"; echo "nspawn: the guest wrote nothing"; exit 1; }
cat "$stage/output"
tail -1 "$stage/output" | grep -Eq '^[0-9]+ passed, 0 failed$'
