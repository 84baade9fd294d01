#!/bin/sh
# Installs weir from this folder, for systems without dpkg or for a root file system that is not running yet:
#
#   ./install.sh                                     this machine (as root)
#   DESTDIR=/path/to/Linux_for_Tegra/rootfs ./install.sh   a JetPack, Yocto or other image (enables the service in it)
#
# Existing configuration is kept. Removing: ./install.sh --remove
set -eu
here=$(dirname "$0")
root=${DESTDIR:-}
unit=$root/usr/lib/systemd/system/weir.service
wanted=$root/etc/systemd/system/multi-user.target.wants/weir.service

if [ "${1:-}" = --remove ]; then
  [ -n "$root" ] || systemctl disable --now weir.service 2>/dev/null || true
  rm -f "$root/usr/bin/weir" "$unit" "$wanted" "$root/usr/share/man/man1/weir.1"
  echo "removed; configuration stays in $root/etc/weir"
  exit 0
fi

# Replaced by rename: the old binary may be running.
mkdir -p "$root/usr/bin" "$root/etc/weir" "$root/etc/default" "$(dirname "$unit")" "$root/usr/share/man/man1"
install -m 0755 "$here/weir" "$root/usr/bin/.weir.new"
[ ! -e "$root/usr/bin/weir" ] || cp -p "$root/usr/bin/weir" "$root/usr/bin/weir.previous" # for going back
mv "$root/usr/bin/.weir.new" "$root/usr/bin/weir"
install -m 0644 "$here/weir.service" "$unit"
install -m 0644 "$here/weir.1" "$root/usr/share/man/man1/weir.1"
[ -e "$root/etc/weir/weir.toml" ] || install -m 0644 "$here/weir.toml" "$root/etc/weir/weir.toml"
[ -e "$root/etc/default/weir" ] || install -m 0644 "$here/weir.default" "$root/etc/default/weir"

if [ -n "$root" ]; then
  mkdir -p "$(dirname "$wanted")"
  ln -sf /usr/lib/systemd/system/weir.service "$wanted"
  echo "installed and enabled in $root"
elif [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl enable weir.service
  systemctl restart weir.service
  echo "installed; weir.service is running"
else
  echo "installed; no systemd here: start '/usr/bin/weir serve' from your own init"
fi
