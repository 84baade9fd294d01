#!/usr/bin/python3
"""A real RTSP server (gst-rtsp-server) for the tests; needs the system's Python for its GObject bindings.

    server.py PORT FILE [--user NAME:PASSWORD [--digest]] [--codec file|h265|jpeg]

Serves FILE (MP4 with H.264, passed through as it stands) at rtsp://127.0.0.1:PORT/cam at its own speed. The other
codecs encode a moving test picture instead. PORT 0 chooses a free one. Prints "ready PORT" when it answers and ends
when its standard input is closed, so it cannot outlive the test that started it.
"""
import argparse
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

PICTURE = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=640,height=480,framerate=30/1 ! "
LAUNCH = {
    "file": "filesrc location={file} ! qtdemux ! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96",
    # A key frame every second, so that a client that joins late need not wait long.
    "h265": PICTURE + "x265enc key-int-max=30 tune=zerolatency speed-preset=ultrafast ! h265parse config-interval=-1 "
    "! rtph265pay name=pay0 pt=96",
    "jpeg": PICTURE + "jpegenc ! rtpjpegpay name=pay0 pt=26",
}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("file")
    parser.add_argument("--user")
    parser.add_argument("--digest", action="store_true")
    parser.add_argument("--codec", choices=LAUNCH, default="file")
    return parser.parse_args()


def guard(server, factory, user, digest):
    """Lets only NAME:PASSWORD in, by Basic or by Digest."""
    name, password = user.split(":", 1)
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
    if digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(name, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(name, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", GstRtspServer.RTSP_PERM_MEDIA_FACTORY_ACCESS, True)
    permissions.add_permission_for_role("viewer", GstRtspServer.RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, True)
    factory.set_permissions(permissions)


def main():
    chosen = options()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(chosen.port))
    # Not shared: one pipeline per client. A shared one aborts when many clients come and go.
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch("( " + LAUNCH[chosen.codec].format(file=chosen.file) + " )")
    if chosen.user:
        guard(server, factory, chosen.user, chosen.digest)
    server.get_mount_points().add_factory("/cam", factory)
    if server.attach(None) == 0:
        sys.exit(f"port {chosen.port} is taken")
    loop = GLib.MainLoop()
    GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_HUP, lambda *_: loop.quit())
    print("ready", server.get_bound_port(), flush=True)
    loop.run()


if __name__ == "__main__":
    main()
