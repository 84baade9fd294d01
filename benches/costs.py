#!/usr/bin/env python3
"""Fits the numbers of src/infer/cnn/kernels/costs.rs to the clock.

    WEIR_CPU=avx2 benches/costs.py 21 target/versus/*.onnx       (graphs and a Python with numpy: make versus)

Runs `weir bench engine --ways` on each model, so many times in turns, counts what each way of each layer does (as choice.rs counts)
and solves for the costs, least squares of relative errors. What a pixel costs after its sums (activation, shortcut) is the same in
all ways and fitted for each model apart.
"""
import os, re, subprocess, sys
import numpy as np

LANES, TAPS, FREQUENCIES, CHUNK_FLOATS, UNIT = 16, 9, 36, 128 * 1024, 14
PIXELS = {"avx512": [14, 14], "avx2": [6], "neon": [5], "scalar": [2]}[os.environ["WEIR_CPU"]]
DEPTH = {"avx512": 4, "avx2": 4, "neon": 2, "scalar": 1}[os.environ["WEIR_CPU"]]
NAMES = ["multiply-add", "tile", "tap", "fetch", "input", "output", "spread"]
ceil = lambda a, b: -(-a // b)


def row(width, outputs, taps, channels):
    """[multiply-adds, tiles, taps of tiles] of a row of pixels, all output blocks."""
    blocks, most, result = ceil(outputs, LANES), len(PIXELS), np.zeros(3)
    for group in [most] * (blocks // most) + [blocks % most] * (blocks % most > 0):
        count = ceil(width, PIXELS[group - 1])
        size, larger = divmod(width, count)
        steps = (count - larger) * max(size * group, DEPTH) + larger * max((size + 1) * group, DEPTH)
        result += [steps * channels, count, count * taps]
    return result


def direct(i, o, h, w):
    return [*(h * row(w, o, TAPS * ceil(i, LANES), TAPS * i)), 0, 0, 0, 0]


def winograd(i, o, h, w, kept):
    blocks, outs, tiles = ceil(i, LANES), ceil(o, LANES), ceil(h, 4) * ceil(w, 4)
    per_tile = FREQUENCIES * (blocks + min(len(PIXELS), outs)) * LANES
    chunks = ceil(tiles, max(CHUNK_FLOATS // per_tile // UNIT, 1 if kept else 2) * UNIT)
    products = chunks * FREQUENCIES * row(ceil(tiles, chunks), o, blocks, i)
    kernels = chunks * i * outs
    return [*products, kernels * FREQUENCIES * kept, tiles * blocks, tiles * outs, kernels * (not kept)]


def measure(rounds, models):
    rows, times = [], []
    for index, model in enumerate(models):
        command = [os.environ.get("WEIR", "target/release/weir"), "bench", "engine", "--model", model, "--ways", "--runs", rounds]
        table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for i, o, h, w, *micros in re.findall(r"^(\d+)→(\d+) (\d+)×(\d+) +([\d.]+) +([\d.]+) +([\d.]+)", table, re.M):
            i, o, h, w = int(i), int(o), int(h), int(w)
            after = [h * w * ceil(o, LANES) * (n == index) for n in range(len(models))]
            for counts, time in zip([direct(i, o, h, w), winograd(i, o, h, w, True), winograd(i, o, h, w, False)], micros):
                rows.append([*counts, *after])
                times.append(float(time) * 1e3)
    return np.array(rows, float), np.array(times)


def solve(rows, times):
    """Least squares of the relative errors; what would be negative is left out."""
    used = list(range(rows.shape[1]))
    while True:
        found = np.linalg.lstsq(rows[:, used] / times[:, None], np.ones(len(times)), rcond=None)[0]
        if (found >= 0).all():
            result = np.zeros(rows.shape[1])
            result[used] = found
            return result
        used.pop(int(found.argmin()))


rows, times = measure(sys.argv[1], sys.argv[2:])
found = solve(rows, times)
errors = np.abs(rows @ found / times - 1)
print(f"a multiply-add takes {found[0]:.3f} ns; expected times are off by {np.median(errors):.1%} (median), {np.quantile(errors, 0.9):.1%} (nine of ten)")
for name, value in zip(NAMES[1:], found[1:]):
    print(f"  {name:8} {value / found[0]:8.1f}")
print("  after the sums, per vector:", *(f"{value / found[0]:.1f}" for value in found[len(NAMES) :]))
