#!/usr/bin/env python3
"""A USB camera (UVC 1.0, 640x480: YUYV at 5 fps, Motion JPEG at 30) that a guest plugs in over USB/IP.

Prints the TCP port it listens on. `usbip attach` in the guest is plugging in; closing the connection is unplugging, after
which the next guest may attach. YUYV frames are red, JPEG frames green (green.jpg), so a client sees which it got.

Sources: Documentation/usb/usbip_protocol.rst, "USB Device Class Definition for Video Devices" 1.0 (class codes: appendix A).
"""

import pathlib
import select
import socket
import struct
import sys
import time

WIDTH, HEIGHT = 640, 480
JPEG = pathlib.Path(__file__).with_name("green.jpg").read_bytes()
RED = bytes((81, 90, 81, 240)) * (WIDTH * HEIGHT // 2)  # Y U Y V, BT.601
FORMATS = {1: RED, 2: JPEG}  # by bFormatIndex
INTERVALS = {1: 2_000_000, 2: 333_333}  # 100 ns

# More bytes of UTF-8 than the 31 that V4L2 keeps of it: it is cut inside a character.
PRODUCT = "高清免驱网络摄像头带麦克风"

EPIPE, ECONNRESET = 32, 104
SUBMIT, UNLINK, RET_SUBMIT, RET_UNLINK = 1, 2, 3, 4
HIGH_SPEED = 3
STREAM_ENDPOINT = 1
MAX_PAYLOAD = 1 << 20

DEVICE = struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0200, 0xEF, 2, 1, 64, 0x1D6B, 0x0104, 0x0100, 1, 2, 3, 1)


def descriptor(kind, *fields):
    body = b"".join(bytes([field]) if isinstance(field, int) else field for field in fields)
    return bytes([len(body) + 2, kind]) + body


def u16(value):
    return struct.pack("<H", value)


def u32(value):
    return struct.pack("<I", value)


def frame(subtype, index):
    largest = u32(len(RED))
    interval = u32(INTERVALS[index])
    rates = u32(1_000_000), u32(200_000_000)
    return descriptor(0x24, subtype, 1, 0, u16(WIDTH), u16(HEIGHT), *rates, largest, interval, 1, interval)


def configuration():
    interface, class_specific, endpoint = 4, 0x24, 5
    camera = descriptor(class_specific, 2, 1, u16(0x0201), 0, 0, bytes(6), 3, bytes(3))
    processing = descriptor(class_specific, 5, 2, 1, u16(0), 2, u16(1), 0)  # brightness
    output = descriptor(class_specific, 3, 3, u16(0x0101), 0, 2, 0)
    units = camera + processing + output
    control = descriptor(class_specific, 1, u16(0x0100), u16(13 + len(units)), u32(48_000_000), 1, 1) + units
    yuy2 = bytes.fromhex("5955593200001000800000aa00389b71")
    formats = (
        descriptor(class_specific, 4, 1, 1, yuy2, 16, 1, 0, 0, 0, 0)
        + frame(5, 1)
        + descriptor(class_specific, 6, 2, 1, 1, 1, 0, 0, 0, 0)
        + frame(7, 2)
    )
    stream = descriptor(class_specific, 1, 2, u16(15 + len(formats)), 0x80 | STREAM_ENDPOINT, 0, 3, 0, 0, 0, 1, 0, 0)
    parts = (
        descriptor(11, 0, 2, 0x0E, 3, 0, 0)
        + descriptor(interface, 0, 0, 0, 0x0E, 1, 0, 0)
        + control
        + descriptor(interface, 1, 0, 1, 0x0E, 2, 0, 0)
        + stream
        + formats
        + descriptor(endpoint, 0x80 | STREAM_ENDPOINT, 2, u16(512), 0)
    )
    return descriptor(2, u16(9 + len(parts)), 2, 1, 0, 0x80, 50) + parts


def string(index):
    texts = {1: "weir tests", 2: PRODUCT, 3: "0001"}
    return descriptor(3, u16(0x0409) if index == 0 else texts.get(index, "").encode("utf-16-le"))


class Camera:
    """One plugged-in camera."""

    def __init__(self, connection):
        self.connection = connection
        self.brightness = 0
        self.format = 2
        self.waiting = []  # (sequence number, length) of transfers that ask for video
        self.rest = b""
        self.odd = 0
        self.due = time.monotonic()

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.connection.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def answer(self, sequence, status=0, data=b"", length=None):
        length = len(data) if length is None else length
        head = struct.pack(">5I5i8x", RET_SUBMIT, sequence, 0, 0, 0, status, length, 0, 0, 0)
        self.connection.sendall(head + data)

    def attach(self):
        _, code, _, bus = struct.unpack(">HHI32s", self.read(40))
        if code != 0x8003:
            raise EOFError
        self.connection.sendall(
            struct.pack(">HHI256s32s3I3H6B", 0x0111, 3, 0, b"/sys/weir", bus, 1, 2, HIGH_SPEED, 0x1D6B, 0x0104, 0x0100, 0xEF, 2, 1, 1, 1, 2)
        )

    def run(self):
        self.attach()
        while True:
            wait = max(0.0, self.due - time.monotonic()) if self.waiting else None
            if select.select([self.connection], [], [], wait)[0]:
                self.request()
            else:
                self.video()

    def request(self):
        command, sequence, _, direction, endpoint = struct.unpack(">5I", self.read(20))
        body = self.read(28)
        if command == UNLINK:
            (other,) = struct.unpack(">I", body[:4])
            still = [one for one in self.waiting if one[0] != other]
            status = -ECONNRESET if len(still) < len(self.waiting) else 0
            self.waiting = still
            self.connection.sendall(struct.pack(">5Ii24x", RET_UNLINK, sequence, 0, 0, 0, status))
            return
        length = struct.unpack(">I", body[4:8])[0]
        if endpoint == STREAM_ENDPOINT:
            self.waiting.append((sequence, length))
            return
        data = self.read(length) if direction == 0 else b""
        self.control(sequence, struct.unpack("<BBHHH", body[20:]), data)

    def control(self, sequence, setup, data):
        kind, request, value, index, length = setup
        reply = None
        if kind == 0x80 and request == 6:
            reply = {1: DEVICE, 2: configuration(), 3: string(value & 0xFF)}.get(value >> 8)
        elif kind & 0x60 == 0x20:
            reply = self.class_request(request, value >> 8, index, data)
        elif not kind & 0x80:
            if kind == 0x02:  # the endpoint's halt is cleared at the end of a stream
                self.rest = b""
            return self.answer(sequence, length=len(data))
        elif request == 0:
            reply = b"\0\0"
        if reply is None:
            return self.answer(sequence, -EPIPE)
        self.answer(sequence, 0, reply[:length], len(data) if not kind & 0x80 else None)

    def class_request(self, request, selector, index, data):
        """Probe and commit of the stream, brightness of the processing unit; `None` stalls."""
        if index == 1 and selector in (1, 2):
            if request == 0x01:
                self.format = data[2] if data[2] in FORMATS else 2
                self.rest = b""
                return b""
            form = {0x82: 1, 0x83: 2, 0x87: 2}.get(request, self.format)
            current = struct.pack("<HBBI5HII", 1, form, 1, INTERVALS[form], 0, 0, 0, 0, 0, len(RED), MAX_PAYLOAD)
            return {0x85: u16(26), 0x86: b"\3"}.get(request, current)
        if index == 0x0200 and selector == 2:
            if request == 0x01:
                (self.brightness,) = struct.unpack("<h", data)
                return b""
            values = {0x81: self.brightness, 0x82: -64, 0x83: 64, 0x84: 1, 0x87: 0}
            return {0x85: u16(2), 0x86: b"\3"}.get(request) or struct.pack("<h", values[request])
        return None

    def video(self):
        """Answers one waiting transfer; a new frame waits for its time."""
        if not self.rest:
            self.odd ^= 1
            self.rest = bytes((2, 0x82 | self.odd)) + FORMATS[self.format]  # header: end of header, end of frame
        sequence, length = self.waiting.pop(0)
        part, self.rest = self.rest[:length], self.rest[length:]
        if not self.rest and len(part) == length:
            self.rest = b"\0"  # a payload ends with a short transfer
        self.answer(sequence, 0, part)
        if not self.rest:
            self.due = max(self.due + INTERVALS[self.format] / 1e7, time.monotonic())


def main():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                try:
                    Camera(connection).run()
                except (EOFError, ConnectionError) as end:
                    print(f"unplugged: {end!r}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
