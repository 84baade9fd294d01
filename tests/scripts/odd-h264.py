#!/usr/bin/env python3
"""Writes H.264 streams that no encoder at hand writes, bit by bit: odd-h264.py pcm|long-term|fields FILE.

pcm: samples as they are (I_PCM) among compressed macroblocks, with the loop filter on.
long-term: a picture is marked for long-term reference by the third of eight, each in two slices; later ones show it again.
fields: every frame is two fields in pictures of their own, every second frame is shown before the one that was coded before it and is referred
to by none; samples as they are. 64x64, Main.
64x48, Baseline, CAVLC (ITU-T H.264 7.3).
"""
import math
import sys

WIDTH, HEIGHT = 4, 3  # macroblocks


class Bits:
    def __init__(self):
        self.text = []

    def u(self, value, count):
        self.text.append(format(value, f"0{count}b") if count else "")
        return self

    def ue(self, value):
        length = (value + 1).bit_length()
        return self.u(0, length - 1).u(value + 1, length)

    def se(self, value):
        return self.ue(2 * value - 1 if value > 0 else -2 * value)

    def align(self):
        self.u(0, -sum(map(len, self.text)) % 8)

    def unit(self, header):
        self.u(1, 1)
        self.align()
        text = "".join(self.text)
        payload = bytes(int(text[at:at + 8], 2) for at in range(0, len(text), 8))
        out, zeros = bytearray([0, 0, 0, 1, header]), 0
        for byte in payload:
            if zeros == 2 and byte <= 3:
                out.append(3)
                zeros = 0
            zeros = zeros + 1 if byte == 0 else 0
            out.append(byte)
        return bytes(out)


def sets(quantiser):
    sps = Bits().u(66, 8).u(0, 8).u(10, 8).ue(0).ue(0).ue(2).ue(3).u(0, 1).ue(WIDTH - 1).ue(HEIGHT - 1).u(1, 1).u(1, 1).u(0, 2)
    pps = Bits().ue(0).ue(0).u(0, 2).ue(0).ue(0).ue(0).u(0, 3).se(quantiser - 26).se(0).se(0).u(0, 3)
    return sps.unit(0x67) + pps.unit(0x68)


def pcm(bits, x, y, phase):
    """A macroblock of samples as they are; the type is written already."""
    bits.align()
    for row in range(16):
        for column in range(16):
            wave = math.sin((x * 16 + column) / 5 + phase) * math.cos((y * 16 + row) / 4)
            bits.u(int(128 + 70 * wave) + (row * 5 + column * 3) % 4, 8)
    for plane in range(2):
        for row in range(8):
            for column in range(8):
                bits.u(100 + 40 * plane + (x * 3 + column) % 9 + row, 8)


def intra(number, phase, mixed):
    """A key frame."""
    bits = Bits().ue(0).ue(7).ue(0).u(0, 4).ue(number % 2).u(0, 2).se(0)
    for block in range(WIDTH * HEIGHT):
        if mixed and block % 3 == 1:
            bits.ue(3).ue(0).se(0).u(3, 6)  # intra 16x16 from the mean of its neighbours (all of samples), nothing coded
        else:
            pcm(bits.ue(25), block % WIDTH, block // WIDTH, phase)
    return bits.unit(0x65)


def predicted(frame_num, first, last, phase=None, marking=None, long_term=False):
    """A slice of macroblocks that are skipped, but for one of samples where there is a phase."""
    bits = Bits().ue(first).ue(5).ue(0).u(frame_num % 16, 4).u(0, 1)
    if long_term:
        bits.u(1, 1).ue(2).ue(0).ue(3)
    else:
        bits.u(0, 1)
    bits.u(1 if marking else 0, 1)
    for operation in marking or []:
        for value in operation:
            bits.ue(value)
    if marking:
        bits.ue(0)
    bits.se(0)
    if phase is None:
        bits.ue(last - first)
    else:
        bits.ue(0)
        pcm(bits.ue(30), first % WIDTH, first // WIDTH, phase)
        bits.ue(last - first - 1)
    return bits.unit(0x61)


def field(shown, frame_num, bottom, kept):
    """One field of the frame that is shown at that place, in I slices; the first of all begins with a key picture."""
    key = shown == 0 and not bottom
    bits = Bits().ue(0).ue(7).ue(0).u(frame_num % 16, 4).u(1, 1).u(bottom, 1)
    if key:
        bits.ue(0)
    bits.u((2 * shown + bottom) % 256, 8)
    if key:
        bits.u(0, 2)
    elif kept:
        bits.u(0, 1)
    bits.se(0)
    for block in range(WIDTH * 2):
        pcm(bits.ue(25), block % WIDTH, block // WIDTH, shown + bottom / 3)
    return bits.unit(0x65 if key else 0x61 if kept else 0x01)


def fields():
    sps = Bits().u(77, 8).u(0, 8).u(20, 8).ue(0).ue(0).ue(0).ue(4).ue(2).u(0, 1).ue(WIDTH - 1).ue(1).u(0, 2).u(1, 1).u(0, 1)
    # Usability information: nothing but that one frame is held back.
    sps.u(1, 1).u(0, 8).u(1, 1).u(1, 1).ue(0).ue(0).ue(10).ue(10).ue(1).ue(2)
    pps = Bits().ue(0).ue(0).u(0, 2).ue(0).ue(0).ue(0).u(0, 3).se(0).se(0).se(0).u(0, 3)
    out = sps.unit(0x67) + pps.unit(0x68)
    frame_num = 0
    for shown in [0] + [number for pair in range(1, 12, 2) for number in (pair + 1, pair)]:
        kept = shown % 2 == 0
        out += field(shown, frame_num, 0, kept) + field(shown, frame_num, 1, kept)
        frame_num += kept
    return out


def main():
    kind, path = sys.argv[1:]
    if kind == "fields":
        open(path, "wb").write(fields())
        return
    half, whole = WIDTH * HEIGHT // 2, WIDTH * HEIGHT
    out = sets(36)
    if kind == "pcm":
        for number in range(4):
            out += intra(number, number, True)
    else:
        out += intra(0, 0, False)
        for number in range(1, 8):
            # From the third on: at most one such picture; the one of two pictures ago becomes it.
            marking = [(4, 1), (3, 1, 0)] if number == 2 else None
            back = number in (5, 7)
            for first, last in ((0, half), (half, whole)):
                out += predicted(number, first, last, None if back else number * 2, marking, back)
    open(path, "wb").write(out)


main()
