"""Takes the usability information out of the sequence parameter sets of an Annex B file: nothing then says how far pictures are
reordered.    silent-h264.py FROM TO"""
import re
import sys


class Bits:
    def __init__(self, data):
        self.text, self.at = "".join(f"{byte:08b}" for byte in data), 0

    def bits(self, count):
        self.at += count
        return int(self.text[self.at - count:self.at] or "0", 2)

    def code(self):  # ue(v)
        zeros = self.text.index("1", self.at) - self.at
        self.at += zeros + 1
        return (1 << zeros) - 1 + self.bits(zeros)


def silent(unit):
    bits = Bits(unit[1:].replace(b"\0\0\3", b"\0\0"))
    profile = bits.bits(8)
    bits.bits(16)
    bits.code()
    if profile >= 100:
        assert bits.code() == 1, "4:2:0 only"
        bits.code(), bits.code()
        assert bits.bits(2) == 0, "no scaling lists"
    bits.code()
    if bits.code() == 0:
        bits.code()
    bits.code(), bits.bits(1), bits.code(), bits.code()
    if bits.bits(1) == 0:
        bits.bits(1)
    bits.bits(1)
    if bits.bits(1):
        for _ in range(4):
            bits.code()
    text = bits.text[:bits.at] + "01"
    text += "0" * (-len(text) % 8)
    return unit[:1] + bytes(int(text[at:at + 8], 2) for at in range(0, len(text), 8))


units = re.split(b"\0\0\0\1|\0\0\1", open(sys.argv[1], "rb").read())[1:]
with open(sys.argv[2], "wb") as out:
    for unit in units:
        out.write(b"\0\0\0\1" + (silent(unit) if unit[0] & 31 == 7 else unit))
