#!/bin/sh
# Installs weir from this folder, for systems without dpkg or for a root file system that is not running yet:
#
#   ./install.sh                                     this machine (as root)
#   DESTDIR=/path/to/Linux_for_Tegra/rootfs ./install.sh   a JetPack, Yocto or other image (enables the service in it)
#
# Existing configuration is kept, and the binary before as /usr/bin/weir.previous. With --demo the model and clip of
# `weir demo` are installed too (15 MB). Going back: ./install.sh --rollback. Removing: ./install.sh --remove
set -eu
here=$(dirname "$0")
root=${DESTDIR:-}
units=$root/usr/lib/systemd/system
wanted=$root/etc/systemd/system/multi-user.target.wants/weir.service

restart() {
  [ -z "$root" ] && [ -d /run/systemd/system ] || return 0
  systemctl daemon-reload
  systemctl restart weir.service
}

case ${1:-} in
  "" | --demo) ;;
  --rollback)
    # By rename: the binary may be running.
    mv "$root/usr/bin/weir.previous" "$root/usr/bin/weir"
    restart
    echo "the version before is back: $([ -n "$root" ] || "$root/usr/bin/weir" --version)"
    exit 0
    ;;
  --remove)
    [ -n "$root" ] || systemctl disable --now weir-tcp.socket weir-http.socket weir.service 2>/dev/null || true
    rm -f "$root/usr/bin/weir" "$root/usr/bin/weir.previous" "$wanted" "$root/usr/share/man/man1/weir.1" \
      "$units/weir.service" "$units/weir-tcp.socket" "$units/weir-http.socket"
    rm -f "$root/usr/share/bash-completion/completions/weir" "$root/usr/share/zsh/vendor-completions/_weir" \
      "$root/usr/share/fish/vendor_completions.d/weir.fish"
    rm -rf "$root/usr/share/weir/demo"
    [ -n "$root" ] || [ ! -d /run/systemd/system ] || systemctl daemon-reload
    echo "removed; configuration stays in $root/etc/weir"
    exit 0
    ;;
  *) sed -n '2,8p' "$0"; exit 64 ;;
esac

mkdir -p "$root/usr/bin" "$root/etc/weir/pipelines.d" "$root/etc/default" "$units" "$root/usr/share/man/man1"
# Replaced by rename: the old binary may be running.
install -m 0755 "$here/weir" "$root/usr/bin/.weir.new"
[ ! -e "$root/usr/bin/weir" ] || cp -p "$root/usr/bin/weir" "$root/usr/bin/weir.previous" # for going back
mv "$root/usr/bin/.weir.new" "$root/usr/bin/weir"
for place in bash-completion/completions/weir:weir.bash zsh/vendor-completions/_weir:_weir fish/vendor_completions.d/weir.fish:weir.fish; do
  mkdir -p "$(dirname "$root/usr/share/${place%:*}")"
  install -m 0644 "$here/completions/${place#*:}" "$root/usr/share/${place%:*}"
done
for unit in weir.service weir-tcp.socket weir-http.socket; do
  install -m 0644 "$here/$unit" "$units/$unit"
done
install -m 0644 "$here/weir.1" "$root/usr/share/man/man1/weir.1"
[ -e "$root/etc/weir/weir.toml" ] || install -m 0644 "$here/weir.toml" "$root/etc/weir/weir.toml"
[ -e "$root/etc/default/weir" ] || install -m 0644 "$here/weir.default" "$root/etc/default/weir"
if [ "${1:-}" = --demo ]; then
  mkdir -p "$root/usr/share/weir/demo"
  install -m 0644 "$here"/assets/* "$root/usr/share/weir/demo/"
fi

if [ -n "$root" ]; then
  mkdir -p "$(dirname "$wanted")"
  ln -sf /usr/lib/systemd/system/weir.service "$wanted"
  echo "installed and enabled in $root"
elif [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl enable weir.service
  restart
  echo "installed; weir.service is running"
else
  echo "installed; no systemd here: start '/usr/bin/weir serve' from your own init"
fi
