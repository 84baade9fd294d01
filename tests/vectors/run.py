#!/usr/bin/env python3
"""Compares what weir decodes with what the installed ffmpeg decodes, picture by picture. Downloads nothing.

    tests/vectors/run.py [--weir FILE] [--all] FOLDER_OR_FILE ...

For each video found prints one word, and a sum at the end:

    exact      the same pictures in the same order (framecrc of 8-bit planes; deeper samples are cut to their upper eight bits)
    order      the same pictures, in another order
    different  as many pictures, some of them differ
    fewer      fewer pictures than ffmpeg shows; those that came differ or not, which the numbers say
    more       more pictures than ffmpeg shows
    refused    weir says that it does not take the file, and why
    -          ffmpeg shows nothing of it either

Ends with 1 if anything is not exact, unless docs/reference.md names the file. Without --all exact files are not listed.
Pictures of JPEG are left out: weir's come as RGB.
"""
import argparse
import collections
import pathlib
import re
import subprocess
import sys
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENDINGS = {".264", ".h264", ".avc", ".26l", ".jsv", ".jvt", ".265", ".h265", ".hevc", ".bit", ".bin", ".mp4", ".mov", ".mkv",
           ".webm", ".avi", ".ts", ".m2ts", ".flv"}
SECONDS = 300  # for one file and one decoder, on a busy machine




def by_ffmpeg(path):
    probe = subprocess.run(["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries",
                            "stream=pix_fmt,codec_name", "-of", "default=nw=1:nk=1", path],
                           capture_output=True, text=True, timeout=SECONDS)
    words = probe.stdout.split()
    if len(words) < 2 or words[0] not in ("h264", "hevc"):
        return words[0] if words else None, None
    form = words[1]
    # As the stream has them: cropping that is not a multiple of what SIMD likes is left out unless asked for, a turned picture is turned
    # behind the decoder, and a picture of another size would be scaled to the first one's.
    command = ["ffmpeg", "-v", "error", "-flags", "unaligned", "-noautorotate", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough",
               "-autoscale", "0"]
    deep = re.search(r"(1[024])le$", form)
    if not deep:
        # Gray comes out of weir's decoder as 4:2:0.
        extra = ["-pix_fmt", "yuv420p"] if form == "gray" else []
        out = subprocess.run(command + extra + ["-f", "framecrc", "-"], capture_output=True, text=True, timeout=SECONDS)
        lines = [line.split(",") for line in out.stdout.splitlines() if not line.startswith("#")]
        return words[0], [(int(line[4]), line[5].strip()) for line in lines]
    shift = int(deep[1]) - 8
    out = subprocess.run(command + ["-f", "framemd5", "-"], capture_output=True, text=True, timeout=SECONDS)
    sizes = {line.split(",")[4].strip() for line in out.stdout.splitlines() if not line.startswith("#")}
    if len(sizes) != 1:
        return words[0], None
    size = int(sizes.pop())
    sums = []
    with subprocess.Popen(command + ["-f", "rawvideo", "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while frame := process.stdout.read(size):
            eight = bytes((low | high << 8) >> shift for low, high in zip(frame[::2], frame[1::2]))
            sums.append((len(eight), f"0x{zlib.adler32(eight, 0):08x}"))
    return words[0], sums


def by_weir(weir, path):
    out = subprocess.run([weir, "bench", "decode", "--sums", path], capture_output=True, text=True, timeout=SECONDS)
    lines = [line.split(",") for line in out.stdout.splitlines()]
    sums = [(int(line[4]), line[5].strip()) for line in lines if len(line) == 6]
    error = out.stderr.strip().splitlines()[-1:] if out.returncode else []
    return sums, error[0] if error else None


def compare(weir, path):
    """One word and its reason; `None`: no video that the comparison is about."""
    codec, want = by_ffmpeg(path)
    if want is None and codec != "hevc" and codec != "h264":
        return None
    got, error = by_weir(weir, path)
    if error and not got:
        return ("refused" if want else "-"), error
    want = want or []
    if not want and not got:
        return "-", "ffmpeg shows nothing"
    same = sum(one == other for one, other in zip(want, got))
    found = sum((collections.Counter(want) & collections.Counter(got)).values())
    text = f"{len(got)} of {len(want)} pictures, {same} in place, {found} found"
    if len(got) < len(want):
        return "fewer", text
    if len(got) > len(want):
        return "more", text
    if same == len(want):
        return "exact", text
    return ("order" if found == len(want) else "different"), text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weir", default=str(ROOT / "target/release/weir"))
    parser.add_argument("--all", action="store_true", help="list exact files too")
    parser.add_argument("places", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    named = (ROOT / "docs/reference.md").read_text()
    files = []
    for place in options.places:
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        files += [path for path in inside if path.suffix.lower() in ENDINGS and path.is_file()]
    counts, unnamed = collections.Counter(), 0
    for path in files:
        try:
            result = compare(options.weir, str(path))
        except subprocess.TimeoutExpired as late:
            result = "different", f"{late.cmd[0]} took longer than {SECONDS} s"
        if result is None:
            continue
        word, text = result
        counts[word] += 1
        known = word not in ("exact", "-") and f"`{path.name}`" in named
        unnamed += word not in ("exact", "-") and not known
        if word != "exact" or options.all:
            print(f"{word:9} {path.name}: {text}{' (named in docs/reference.md)' if known else ''}", flush=True)
    print(", ".join(f"{count} {word}" for word, count in counts.most_common()) or "no video found")
    return 1 if unnamed or not files else 0


sys.exit(main())
