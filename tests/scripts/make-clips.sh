#!/usr/bin/env bash
# Makes the clips of tests/assets/clips and, with ffmpeg's own decoders, the checksums of their frames.
# They are checked in, so that tests need no ffmpeg; run this (Debian's ffmpeg and libjpeg-turbo-progs) to add one, and commit what it leaves.
#
#   tests/scripts/make-clips.sh [NAME…]      without names: all
#
# NAME.crc: one line per frame shown, the Adler-32 of its planes (framecrc of ffmpeg), Y then U then V without padding.
set -euo pipefail
cd "$(dirname "$0")/../assets/clips"
wanted=("$@")

encode() { # NAME.EXT SOURCE OUTPUT-OPTIONS…
    local file=$1 source=$2; shift 2
    want "$file" || return 0
    ffmpeg -v error -y -f lavfi -i "$source" -map_metadata -1 -fflags +bitexact -flags:v +bitexact "$@" "$file"
    case $file in *.webm | mpeg4.* | h264-444.*) ;; *) sums "$file" ;; esac
}
remux() { # NAME.EXT FROM OPTIONS…: options before -i come first, up to --
    local file=$1 from=$2; shift 2
    want "$file" || return 0
    local before=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do before+=("$1"); shift; done
    shift || true
    ffmpeg -v error -y "${before[@]}" -i "$from" -map_metadata -1 -fflags +bitexact -c copy "$@" "$file"
    sums "$file"
}
want() {
    [ ${#wanted[@]} -eq 0 ] && return 0
    local name; for name in "${wanted[@]}"; do [ "$name" = "$1" ] && return 0; done; return 1
}
sums() { # what is deeper than 8 bits is cut to its upper 8, as weir does
    local file=$1 format size
    format=$(ffprobe -v error -select_streams v:0 -show_entries stream=pix_fmt -of csv=p=0 "$file" | tr -d ', ')
    size=$(ffprobe -v error -select_streams v:0 -show_entries stream=width,height -of csv=p=0:s=x "$file")
    if [ "$format" = yuv420p10le ]; then
        ffmpeg -v error -i "$file" -map 0:v:0 -fps_mode passthrough -f rawvideo - | python3 -c "
import sys, zlib
width, height = map(int, '$size'.split('x'))
bytes_of_frame = (width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2)) * 2
while frame := sys.stdin.buffer.read(bytes_of_frame):
    print('0x%08x' % zlib.adler32(bytes((low | high << 8) >> 2 for low, high in zip(frame[::2], frame[1::2])), 0))
" > "$file.crc"
    else
        [ "$format" != gray ] || format=yuv420p # the decoder gives gray as 4:2:0 with chroma at 128
        ffmpeg -v error -i "$file" -map 0:v:0 -pix_fmt "$format" -fps_mode passthrough -f framecrc - |
            awk -F', *' '!/^#/ {print $6}' > "$file.crc"
    fi
}

S="testsrc2=size=192x144:rate=25:duration=1"
X=(-c:v libx264 -pix_fmt yuv420p -g 12 -b:v 200k)

# H.264: what the fast decoder takes.
encode baseline.mp4   "$S" "${X[@]}" -profile:v baseline
encode main.mp4       "$S" "${X[@]}" -profile:v main -bf 2
encode high-pyramid.mp4 "$S" "${X[@]}" -profile:v high -bf 3 -x264-params b-pyramid=normal:ref=4
encode cavlc-slices.mp4 "$S" "${X[@]}" -bf 2 -x264-params cabac=0:slices=4
encode intra-refresh.mp4 "$S" "${X[@]}" -x264-params intra-refresh=1:bframes=0
encode cropped.mp4    "testsrc2=size=190x138:rate=25:duration=1" "${X[@]}" -bf 2
encode full-709.mp4   "$S" "${X[@]}" -bf 0 -color_range pc -colorspace bt709 -color_primaries bt709 -color_trc bt709
# H.264: what falls to the second decoder.
encode high10.mp4     "$S" "${X[@]}" -pix_fmt yuv420p10le -bf 2
encode high422.mp4    "$S" "${X[@]}" -pix_fmt yuv422p -bf 2
encode gray.mp4       "$S" "${X[@]}" -pix_fmt gray -bf 2
encode interlaced.mp4 "$S" "${X[@]}" -flags:v +ildct+ilme+bitexact -x264-params tff=1 -bf 2
if want pyramid-silent.h264; then # nothing says how far pictures are reordered
    ffmpeg -v error -y -i high-pyramid.mp4 -map_metadata -1 -fflags +bitexact -c copy -f h264 pyramid.scratch
    python3 ../../scripts/silent-h264.py pyramid.scratch pyramid-silent.h264
    rm pyramid.scratch
    sums pyramid-silent.h264
fi
# H.265.
H=(-c:v libx265 -g 12 -b:v 200k)
encode h265.mp4       "$S" "${H[@]}" -pix_fmt yuv420p -x265-params log-level=none:bframes=3
encode h265-10.mp4    "$S" "${H[@]}" -pix_fmt yuv420p10le -x265-params log-level=none:bframes=2
encode h265-full-709.mp4 "$S" "${H[@]}" -pix_fmt yuv420p -x265-params log-level=none:bframes=0:range=full:colormatrix=bt709
# Random access: what begins where there is no key frame.
cut() { # NAME FROM PICTURE [no-sei]: from that picture on; parameter sets stand where they stood
    local file=$1 from=$2 picture=$3 sei=${4-}
    want "$file" || return 0
    python3 - "$from" "$file" "$picture" "$sei" <<'PYTHON'
import re, sys
source, target, picture, sei = sys.argv[1:]
h265 = source.endswith("265")
data = open(source, "rb").read()
starts = [match.start() for match in re.finditer(b"\0\0\1", data)] + [len(data)]
units, pictures, pending = [], 0, []
for start, end in zip(starts, starts[1:]):
    unit = data[start + 3:end].rstrip(b"\0")
    kind = unit[0] >> 1 & 63 if h265 else unit[0] & 31
    coded = kind < 32 if h265 else kind in (1, 5)
    if sei and kind == (39 if h265 else 6):
        continue
    pending.append(b"\0\0\0\1" + unit)
    if coded and unit[2 if h265 else 1] & 128:
        pictures += 1
    if coded:
        units += pending if pictures > int(picture) else []
        pending = []
open(target, "wb").write(b"".join(units))
PYTHON
    sums "$file"
}
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
raw() { # NAME OPTIONS…: a stream to cut
    ffmpeg -v error -y -f lavfi -i "testsrc2=size=192x144:rate=25:duration=2" -map_metadata -1 -fflags +bitexact -flags:v +bitexact \
        -pix_fmt yuv420p "${@:2}" "$scratch/$1"
}
if [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" cut-"* ]]; then
    raw closed.h264 -c:v libx264 -b:v 150k -x264-params keyint=20:bframes=0:scenecut=0
    raw open.h264 -c:v libx264 -b:v 150k -x264-params keyint=20:bframes=3:b-adapt=0:b-pyramid=normal:open-gop=1:scenecut=0
    raw refresh.h264 -c:v libx264 -b:v 150k -x264-params keyint=20:intra-refresh=1:bframes=2:scenecut=0
    raw open.h265 -c:v libx265 -b:v 150k -x265-params log-level=none:keyint=20:bframes=3:b-adapt=0:open-gop=1:scenecut=0:info=0
fi
cut cut-gop.h264 "$scratch/closed.h264" 7
cut cut-open.h264 "$scratch/open.h264" 7
cut cut-open-plain.h264 "$scratch/open.h264" 7 no-sei
# ffmpeg shows a picture of I slices only where supplemental information stands before it; what comes is the same.
if want cut-open-plain.h264; then cp cut-open.h264.crc cut-open-plain.h264.crc; fi
cut cut-refresh.h264 "$scratch/refresh.h264" 7
cut cut-open.h265 "$scratch/open.h265" 17
odd() { # KIND: what no encoder at hand writes
    want "$1.h264" || return 0
    ../../scripts/odd-h264.py "$1" "$1.h264"
    sums "$1.h264"
}
odd pcm
odd long-term
odd fields
# One key frame, and 519 pictures that follow on each other.
encode endless.h264   "testsrc2=size=64x48:rate=25:duration=20.8" -c:v libx264 -pix_fmt yuv420p -qp 40 \
    -x264-params keyint=infinite:bframes=0:scenecut=0:weightp=0

# Groups of ten pictures, closed and open, with B-frames that others refer to.
G="testsrc2=size=64x48:rate=30:duration=3"
GX=(-c:v libx264 -pix_fmt yuv420p -qp 38 -x264-params)
GH=(-c:v libx265 -pix_fmt yuv420p -x265-params)
encode groups.h264      "$G" "${GX[@]}" keyint=10:bframes=3:b-adapt=0:b-pyramid=normal:ref=4:scenecut=0
encode groups-open.h264 "$G" "${GX[@]}" keyint=10:bframes=3:b-adapt=0:b-pyramid=normal:ref=4:scenecut=0:open-gop=1
encode groups.h265      "$G" "${GH[@]}" log-level=none:qp=38:keyint=10:bframes=3:b-adapt=0:scenecut=0:open-gop=0:info=0
encode groups-open.h265 "$G" "${GH[@]}" log-level=none:qp=38:keyint=10:bframes=3:b-adapt=0:scenecut=0:open-gop=1:info=0

# Three and four temporal layers: x265 4 or newer (Debian 13; PyPI's imageio-ffmpeg), else as stored.
if ffmpeg -hide_banner -f lavfi -i testsrc2=size=64x48:duration=0.1 -c:v libx265 -f null - 2>&1 | grep -q "HEVC encoder version [4-9]"; then
    L="testsrc2=size=64x48:rate=30:duration=3.2"
    encode layers-3.h265 "$L" "${GH[@]}" log-level=none:qp=38:keyint=24:scenecut=0:b-adapt=0:info=0:temporal-layers=3:bframes=3:open-gop=0
    encode layers-4.h265 "$L" "${GH[@]}" log-level=none:qp=38:keyint=24:scenecut=0:b-adapt=0:info=0:temporal-layers=4:bframes=7:open-gop=1
fi

# Containers.
remux fragmented.mp4  main.mp4 -- -movflags +frag_keyframe+empty_moov+default_base_moof
remux fragmented-mixed.mp4 main.mp4 -- -movflags +frag_keyframe
remux edited.mp4      main.mp4 -ss 0.7 --
remux quicktime.mov   main.mp4 --
remux h264.mkv        main.mp4 --
remux h265.mkv        h265.mp4 --
remux h264.avi        main.mp4 --
remux raw.h264        main.mp4 --
remux slices.h264     cavlc-slices.mp4 --
remux raw.h265        h265.mp4 --
if want mjpeg.avi; then # with sound beside it; its frames are not compared
    ffmpeg -v error -y -f lavfi -i testsrc2=size=64x48:rate=10:duration=1 -f lavfi -i sine=duration=1 -fflags +bitexact -flags:v +bitexact \
        -c:v mjpeg -q:v 5 -c:a pcm_u8 -ar 8000 mjpeg.avi
fi
# What the builtin decoders lack; the checksums stand in decode/libavcodec/tests.rs.
encode h264-444.mp4   "testsrc2=size=62x46:rate=10:duration=1" -c:v libx264 -pix_fmt yuv444p -bf 2
encode vp8.webm       "testsrc2=size=64x48:rate=10:duration=1" -c:v libvpx -b:v 50k
encode mpeg4.mp4      "testsrc2=size=64x48:rate=10:duration=1" -c:v mpeg4

# JPEG: the picture, and ffmpeg's RGB or gray of it (not exact: inverse DCTs differ).
still() { # NAME PIX_FMT RAW_FMT
    want "$1.jpg" || return 0
    ffmpeg -v error -y -f lavfi -i gradients=size=64x48:rate=1:duration=1:seed=3 -pix_fmt "$2" -c:v mjpeg -q:v 3 -huffman default -fflags +bitexact -flags:v +bitexact "$1.jpg"
    ffmpeg -v error -y -i "$1.jpg" -pix_fmt "$3" -f rawvideo "$1.jpg.raw"
}
still colour yuvj420p rgb24
if want gray.jpg; then # ffmpeg writes no JPEG of one component: cjpeg does
    ffmpeg -v error -y -f lavfi -i gradients=size=64x48:rate=1:duration=1:seed=3 -frames:v 1 -pix_fmt gray gray.pgm
    cjpeg -quality 90 -outfile gray.jpg gray.pgm; rm gray.pgm
    ffmpeg -v error -y -i gray.jpg -pix_fmt gray -f rawvideo gray.jpg.raw
fi

# What a decoder that is not ours must decode before it is trusted: beside its code, with the CRC-32 of its pictures for known/mod.rs.
known() { # EXT FORMAT ENCODER-OPTIONS…
    local file=../../../src/capture/worker/decode/known/picture.$1 format=$2; shift 2
    ffmpeg -v error -y -f lavfi -i "testsrc2=size=320x240:rate=25" -frames:v 6 -pix_fmt yuv420p "$@" -f "$format" "$file"
    ffmpeg -v error -i "$file" -f rawvideo -pix_fmt yuv420p - | python3 -c "
import sys, zlib
while frame := sys.stdin.buffer.read(320 * 240 * 3 // 2):
    print('$file 0x%08x' % zlib.crc32(frame))
"
}
if want known; then
    known h264 h264 -c:v libx264 -profile:v main -preset slower -crf 38 -bsf:v filter_units=remove_types=6 \
        -x264-params aud=1:keyint=25:bframes=2:b-pyramid=none:b-adapt=0:scenecut=0:threads=1:ref=2
    known h265 hevc -c:v libx265 -preset slower -crf 38 -bsf:v filter_units=remove_types=39-40 \
        -x265-params aud=1:keyint=25:bframes=2:b-adapt=0:scenecut=0:pools=none:frame-threads=1:info=0:log-level=none:open-gop=0:b-pyramid=0
fi
