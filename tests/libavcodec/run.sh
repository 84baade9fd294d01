#!/usr/bin/env bash
# Every clip with checksums by ffmpeg, decoded by the libavcodec of other Debians, and what the builtin decoders refuse beside
# this machine's ffmpeg:
#
#   tests/libavcodec/run.sh WEIR SUITE…       bullseye (libavcodec 58), bookworm (59), trixie (61)
#
# The packages are unpacked below target/libavcodec/SUITE, not installed, and kept. Where a suite's libc is newer than this machine's,
# its own loader runs the program.
set -euo pipefail
weir=$(realpath "$1"); shift
cd "$(dirname "$0")/../.."
clips=tests/assets/clips
mirror=${WEIR_DEBIAN_MIRROR:-http://deb.debian.org/debian}
work=target/libavcodec
mkdir -p "$work"

declare -A MAJOR=([bullseye]=58 [bookworm]=59 [trixie]=61 [sid]=63)

say() { printf 'libavcodec: %s\n' "$*"; }
glibc() { grep -aoE 'release version [0-9]+\.[0-9]+' "$1" | head -1 | sed 's/.* //'; }

# What the builtin decoders refuse. Lossless, so that small clips have all their tools; made once.
made=$work/made
if [ ! -e "$made/done" ]; then
  rm -rf "$made"; mkdir -p "$made"
  source=(-f lavfi -i testsrc2=size=190x138:rate=10:duration=1)
  make() { ffmpeg -v error -y "${source[@]}" "${@:2}" "$made/$1"; }
  make h264-444.mp4 -c:v libx264 -pix_fmt yuv444p
  make h264-444-10.mkv -c:v libx264 -pix_fmt yuv444p10le
  make h265-422-12.mkv -c:v libx265 -x265-params log-level=none -pix_fmt yuv422p12le
  make mpeg4.mp4 -c:v mpeg4 -bf 2
  make mpeg4.mkv -c:v mpeg4
  make mpeg4.avi -c:v mpeg4
  make vp8.mkv -c:v libvpx -b:v 200k
  make vp9.mp4 -c:v libvpx-vp9 -b:v 200k
  make vp9.mkv -c:v libvpx-vp9 -b:v 200k
  make av1.mkv -c:v libaom-av1 -cpu-used 8 -b:v 200k
  make av1.mp4 -c:v libaom-av1 -cpu-used 8 -b:v 200k
  touch "$made/done"
fi

# ffmpeg's checksums of the upper eight bits of each sample.
reference() {
  python3 - "$1" <<'PYTHON'
import json, subprocess, sys, zlib
file = sys.argv[1]
probe = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "stream=pix_fmt,width,height", "-of", "json", file]
stream = json.loads(subprocess.run(probe, check=True, capture_output=True).stdout)["streams"][0]
width, height, name = stream["width"], stream["height"], stream["pix_fmt"]
digits = name.removesuffix("le").rsplit("p", 1)[-1]
depth = int(digits) if digits else 8
half = lambda side: (side + 1) // 2
chroma = {"420": half(width) * half(height), "422": half(width) * height, "444": width * height}[name.split("p")[0][-3:]]
size = (width * height + 2 * chroma) * (2 if depth > 8 else 1)
command = ["ffmpeg", "-v", "error", "-flags", "unaligned", "-i", file, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo", "-"]
data = subprocess.run(command, check=True, capture_output=True).stdout
for start in range(0, len(data), size):
    frame = data[start:start + size]
    if depth > 8:
        frame = bytes((low | high << 8) >> depth - 8 for low, high in zip(frame[::2], frame[1::2]))
    print("0x%08x" % zlib.adler32(frame, 0))
PYTHON
}

failed=0
for suite in "$@"; do
  major=${MAJOR[$suite]:?"unknown suite $suite"}
  root=$work/$suite
  if [ ! -e "$root.done" ]; then
    say "unpacking libavcodec$major of $suite from $mirror"
    rm -rf "$root"
    mmdebstrap --quiet --variant=extract --include="libavcodec$major" "$suite" "$root" "$mirror"
    touch "$root.done"
  fi
  # All libraries in one folder; without those of libc where this machine's own loader is used.
  libraries=$work/$suite.libraries
  rm -rf "$libraries"; mkdir -p "$libraries"
  find "$PWD/$root/lib" "$PWD/$root/usr/lib" -path '*-linux-gnu/*' -name '*.so*' -exec ln -sf -t "$libraries" {} + 2>/dev/null || true
  loader=$(find -L "$root/lib64" "$root/usr/lib64" -name 'ld-linux-*' 2>/dev/null | head -1 || true)
  run=("$loader" --library-path "$libraries" "$weir")
  here=$(ldd --version | sed -n '1s/.* //p') there=$(glibc "$libraries/libc.so.6")
  if [ -z "$there" ] || [ "$(printf '%s\n' "$here" "$there" | sort -V | tail -1)" = "$here" ]; then
    for name in libc.so libm.so libpthread.so libdl.so librt.so libresolv.so libutil.so libanl.so libmvec.so libnss ld-linux libBrokenLocale libthread_db libnsl.so libgcc_s; do
      rm -f "$libraries/$name"*
    done
    run=(env "LD_LIBRARY_PATH=$libraries" "$weir")
  fi
  version=$("${run[@]}" check 2>/dev/null | grep -o "libavcodec $major[0-9.]* h264" || true)
  [ -n "$version" ] || { say "$suite: libavcodec $major is not used:"; "${run[@]}" check | grep -i decoder; failed=1; continue; }
  count=0
  for clip in "$clips"/*.crc "$made"/*.*; do
    clip=${clip%.crc} name=$(basename "${clip%.crc}")
    # Gray pictures are gray here; they have chroma of 128 there.
    [ "$name" != gray.mp4 ] || continue
    if [ -e "$clip.crc" ]; then want=$(cat "$clip.crc"); else want=$(reference "$clip"); fi
    got=$("${run[@]}" bench decode --decoder libavcodec --sums "$clip" 2>"$work/said" | awk -F', *' '{print $6}') || true
    count=$((count + 1))
    case $name in *.mjpeg | *.avi) decoder='"decoder"' ;; *) decoder='"decoder": "libavcodec"' ;; esac
    if [ "$got" != "$want" ] || ! grep -q "$decoder" "$work/said"; then
      say "$suite: $name differs ($(wc -l <<<"$got") frames, ffmpeg $(wc -l <<<"$want")): $(head -c 300 "$work/said")"
      failed=1
    fi
  done
  say "$suite: $version, $count clips"
done
exit $failed
