#!/bin/bash
# Runs inside the guest of tests/nspawn/run.sh, as a unit of its systemd: installs, steers, breaks and removes weir.
cd /test
passed=0 failed=0

check() { # NAME COMMAND...
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    passed=$((passed + 1)); echo "ok      $name"
  else
    failed=$((failed + 1)); echo "FAILED  $name"; sed 's/^/        /' <<<"$output" | tail -20
  fi
}
show() { systemctl show -P "$1" weir.service; }
until_true() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "never true: $*"; return 1; }
    sleep 0.1
  done
}
is() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'"; return 1; }; }
contains() { [[ $1 == *"$2"* ]] || { echo "'$1' does not contain '$2'"; return 1; }; }
pipelines() { weir ctl list | sed 's/.*"pipelines"//' | grep -Eo '[0-9a-f]{8}-[0-9a-f-]{27}'; }
# The service's processes other than the main one.
workers() { pgrep -P "$(show MainPID)" | wc -l; }
journal() { journalctl -q -u weir.service -b -o json --no-pager "$@"; }
# Milliseconds that a command takes.
took() { local start=${EPOCHREALTIME/./}; "$@" >/dev/null; echo $(((${EPOCHREALTIME/./} - start) / 1000)); }

# -- installing
version() { dpkg-query -W -f '${Version}' weir; }
install_it() {
  mkdir -p /etc/systemd/system/weir.service.d
  printf 'LOG_LEVEL=INFO\n' >/etc/default/weir
  DEBIAN_FRONTEND=noninteractive dpkg -i --force-confold /test/weir_*_amd64.deb /test/weir-demo_*.deb
}
check "the packages install" install_it
check "the service is active after installing" is "$(show ActiveState)" active
check "and enabled" systemctl --quiet is-enabled weir.service
first=$(version)

# -- start and notify
check "both listeners answer as soon as the start is reported" weir ctl list
check "STATUS names the listeners" contains "$(show StatusText)" "listening on 127.0.0.1:7070 (TCP) and 127.0.0.1:8080 (HTTP)"
check "it runs as a user of its own" bash -c '[ "$(stat -c %u /proc/'"$(show MainPID)"')" -ge 61184 ]'
check "hardening is at most 2.0" systemd-analyze security --threshold=20 --no-pager weir.service

# -- a pipeline
init() { weir ctl init --model /usr/share/weir/demo/nanodet-coco-416.onnx --video file:///usr/share/weir/demo/sample.mp4 --sink 127.0.0.1:9001; }
printf 'LOG_LEVEL=INFO\nWEIR_MODELS_DIR=/usr/share/weir/demo\n' >/etc/default/weir
systemctl restart weir.service
check "a pipeline starts" init
listen() { timeout 20 weir ctl listen 9001 2>/dev/null | head -n 3 | grep -q person; }
check "its detections arrive as datagrams" listen
check "its worker is a process of its own" until_true 5 bash -c "pgrep -P $(show MainPID) | grep -q ."

# -- reload
reload() {
  local pid; pid=$(show MainPID)
  systemctl reload weir.service && until_true 5 bash -c "journalctl -q -u weir -b | grep -q event=reloaded" || return 1
  is "$(show ActiveState)" active && is "$(show MainPID)" "$pid" && contains "$(show StatusText)" listening
}
check "a reload is announced and ends as it began" reload

# -- a declared pipeline (the id follows from the name: docs/reference.md)
declared() {
  local id=b2581c56-76d0-526a-aaa1-4138aa423e4b
  echo '{"model_id": "/usr/share/weir/demo/nanodet-coco-416.onnx", "video_reference": "file:///usr/share/weir/demo/sample.mp4",
         "model_configuration": {"type": "object-detection"},
         "sink_configuration": {"type": "udp_sink", "host": "127.0.0.1", "port": 9002}}' >/etc/weir/pipelines.d/front-door.json || return 1
  systemctl reload weir.service && until_true 10 bash -c "weir ctl list | grep -q $id" || return 1
  rm /etc/weir/pipelines.d/front-door.json
  systemctl reload weir.service && until_true 10 bash -c "! weir ctl list | grep -q $id"
}
check "a file in /etc/weir/pipelines.d is a pipeline after a reload, and none without it" declared

# -- the journal
check "information has priority 6" bash -c "journalctl -q -u weir -b -o json | grep event=reloaded | grep -q '\"PRIORITY\":\"6\"'"
check "a line carries neither prefix nor time of its own" bash -c "journalctl -q -u weir -b -o cat | grep -q '^event=reloaded'"

check "changes are in the journal under a name of their own" bash -c "journalctl -q -t weir-audit -b -o cat | grep -q '^command=init .*who=anyone from=127.0.0.1 listener=tcp outcome=success'"
check "and not among the other lines" bash -c "! journalctl -q -u weir -b -o cat | grep '^audit '"

# -- restart
kept=$(pipelines)
systemctl restart weir.service
check "a restart keeps pipelines and ids" until_true 10 bash -c "weir ctl list | grep -q '$kept'"
check "and they send again" listen

# -- stop, with a running pipeline
milliseconds=$(took systemctl stop weir.service)
check "a stop takes at most 2 s (took $milliseconds ms)" test "$milliseconds" -le 2000
check "with a clean end" is "$(show Result) $(show ExecMainStatus)" "success 0"
check "and no process left" bash -c '! pgrep -x weir'

# -- the watchdog
mkdir -p /run/systemd/system/weir.service.d
printf '[Service]\nWatchdogSec=2\nRestartSec=0\n' >/run/systemd/system/weir.service.d/watchdog.conf
systemctl daemon-reload
systemctl start weir.service
sleep 5
check "a healthy service outlives its watchdog" is "$(show NRestarts) $(show ActiveState)" "0 active"
kill -STOP "$(show MainPID)"
check "a service that stands still is killed and started again" until_true 15 bash -c '[ "$(systemctl show -P NRestarts weir)" = 1 ] && systemctl -q is-active weir'
check "by the watchdog" bash -c 'journalctl -q -b -u weir | grep -qi "watchdog timeout"'
check "with its pipelines" until_true 10 bash -c "weir ctl list | grep -q '$kept'"
check "one service, no worker of the old one" bash -c '[ "$(pgrep -xc weir)" -le 3 ]'

# -- workers end with their parent
until_true 10 bash -c "pgrep -P $(show MainPID)"
old=$(pgrep -P "$(show MainPID)" | head -1)
kill -KILL "$(show MainPID)"
check "a worker does not outlive a killed service" until_true 5 bash -c "! kill -0 $old"
check "which is back by itself" until_true 10 weir ctl list
rm -r /run/systemd/system/weir.service.d
systemctl daemon-reload

# -- a configuration that cannot be used is not tried again
cp -p /etc/weir/weir.toml /tmp/weir.toml
sed -i 's/^socket_timeout_s/socket_timeout/' /etc/weir/weir.toml
systemctl stop weir.service
systemctl start weir.service 2>/dev/null
check "a bad configuration is named and not retried" is "$(show ExecMainStatus) $(show NRestarts) $(show ActiveState)" "78 0 failed"
check "with the key's name in the journal" bash -c 'journalctl -q -u weir -b -o cat | grep -q "unknown field .socket_timeout"'
mv /tmp/weir.toml /etc/weir/weir.toml
systemctl reset-failed weir.service

# -- credentials
mkdir -p /etc/credstore
(umask 077; echo 'ops control 0123456789abcdef' >/etc/credstore/weir.tokens; echo key-of-the-site >/etc/credstore/weir.api-key)
systemctl restart weir.service
check "tokens come as a credential" bash -c '! weir ctl list && WEIR_TOKEN=0123456789abcdef weir ctl list'
check "and the environment of the service shows none" bash -c "! tr '\\0' '\\n' </proc/$(show MainPID)/environ | grep -e key-of -e 0123456"
rm /etc/credstore/weir.*
systemctl restart weir.service

# -- socket activation
sockets() {
  systemctl stop weir.service
  systemctl start weir-tcp.socket weir-http.socket || return 1
  is "$(show ActiveState)" inactive && weir ctl list && is "$(show ActiveState)" active || return 1
  # A connection made while nobody serves waits for the next start.
  systemctl stop weir.service && weir ctl list
}
check "systemd's sockets start it and keep its listeners open" sockets
systemctl stop weir-tcp.socket weir-http.socket weir.service
systemctl start weir.service

# -- upgrade and removal
echo '# mine' >>/etc/weir/weir.toml
before=$(show MainPID)
check "an upgrade installs" env DEBIAN_FRONTEND=noninteractive dpkg -i --force-confold /test/next.deb
check "to the new version" is "$(version)" "$first+next"
check "restarts the service" bash -c "systemctl -q is-active weir && [ $(show MainPID) != $before ]"
check "keeps the configuration" grep -q '^# mine' /etc/weir/weir.toml
check "and the pipelines" until_true 10 bash -c "weir ctl list | grep -q '$kept'"
check "going back is installing the old one" bash -c 'dpkg -i --force-confold /test/weir_*_amd64.deb && systemctl -q is-active weir && weir ctl list'
systemctl enable --now weir-tcp.socket weir-http.socket
check "removal" dpkg -r weir-demo weir
check "stops the sockets too" bash -c '! systemctl -q is-active weir-tcp.socket && ! systemctl -q is-active weir-http.socket'
check "stops it" bash -c '! pgrep -x weir && [ ! -e /usr/lib/systemd/system/weir.service ]'
check "leaves configuration and pipelines" bash -c 'grep -q mine /etc/weir/weir.toml && ls /var/lib/private/weir/*'
check "purging takes them too" bash -c 'dpkg -P weir && [ ! -e /etc/weir ] && [ ! -e /etc/default/weir ] && [ ! -e /var/lib/private/weir ]'
check "and leaves nothing" bash -c '! find / -xdev -name "*weir*" -not -path "/proc/*" -not -path "/test/*" -not -path "/var/log/*" -not -path "/var/lib/dpkg/*" -not -path "/tmp/*" | grep .'

# -- without dpkg
cd /tmp && tar xf /test/weir-*.tar.gz && cd weir-*/ || exit 1
check "install.sh installs and starts" bash -c './install.sh && systemctl -q is-active weir && weir ctl list && [ -d /etc/weir/pipelines.d ]'
check "a second one keeps the first as weir.previous" bash -c './install.sh --demo && [ -x /usr/bin/weir.previous ] && [ -e /usr/share/weir/demo/sample.mp4 ]'
check "rollback" bash -c './install.sh --rollback && systemctl -q is-active weir && weir ctl list && [ ! -e /usr/bin/weir.previous ]'
check "into a root that is not running" bash -c 'DESTDIR=/tmp/root ./install.sh && [ -L /tmp/root/etc/systemd/system/multi-user.target.wants/weir.service ] && [ -x /tmp/root/usr/bin/weir ]'
check "removing" bash -c './install.sh --remove && ! pgrep -x weir && [ ! -e /usr/bin/weir ]'

echo "$passed passed, $failed failed"
