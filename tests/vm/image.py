#!/usr/bin/env python3
"""Makes what qemu boots: Debian's kernel as it is, and an initramfs around a binary of weir.

    tests/vm/image.py --arch amd64|arm64 --cache FOLDER --binary FILE --initramfs FILE [--add HOST=GUEST ...]

Leaves FOLDER/vmlinuz and the initramfs. Packages (kernel, busybox, v4l2-ctl and usbip with their libraries) come from this machine's
own apt sources, through an apt state of our own below FOLDER: nothing is installed, no foreign architecture is added,
root is not needed. What was unpacked is kept; the second time only the initramfs is written.

Exit code 69 (sysexits: unavailable): the apt sources have no such kernel.
"""

import argparse
import fcntl
import io
import lzma
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent

# Loaded by the guest with all that they depend on, in an order that follows from that.
MODULES = ["virtio_pci", "virtio_net", "vivid", "vhci_hcd", "uvcvideo"]

# Parts of packages that a guest of this kind has no use for.
LEFT_OUT = re.compile(r"usr/(share|include|games|lib/systemd|lib/udev|lib/[^/]*/(gconv|perl-base))(/|$)")

# A merged /usr, as Debian has it: packages may name either.
MERGED = ("bin", "sbin", "lib", "lib64")


def say(*words):
    print("vm image:", *words, flush=True)


def unavailable(*words):
    say(*words)
    sys.exit(69)


def run(*command, **options):
    return subprocess.run(command, check=True, **options)


def apt(folder, arch):
    """The options that make apt look at an empty system of `arch` in `folder`."""
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    settings = {
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "APT::Sandbox::User": "",
        "APT::Install-Recommends": "false",
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Debug::NoLocking": "true",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def fetch(folder, arch):
    """Downloads the packages; gives the kernel's and the others'."""
    options = apt(folder, arch)
    log = open(folder / "log", "w")
    quiet = {"stdout": log, "stderr": subprocess.STDOUT}
    say(f"fetching Debian's kernel, busybox, v4l-utils and usbip for {arch}")
    try:
        run("apt-get", *options, "-q", "update", **quiet)
        depends = run("apt-cache", *options, "depends", f"linux-image-{arch}", capture_output=True, text=True).stdout
        kernel = re.search(r"Depends: (linux-image-\d\S+)", depends)
        if not kernel:
            unavailable(f"no package linux-image-{arch}: this needs Debian's package sources")
        run("apt-get", *options, "-q", "download", kernel[1], cwd=folder, **quiet)
        wanted = ("busybox-static", "v4l-utils", "usbip", "libgcc-s1")
        run("apt-get", *options, "-q", "-y", "--download-only", "install", *wanted, **quiet)
    except subprocess.CalledProcessError as failure:
        log.flush()
        unavailable(f"{failure}\n{(folder / 'log').read_text()}")
    return next(folder.glob("linux-image-*.deb")), sorted((folder / "cache/archives").glob("*.deb"))


def members(package):
    """The files of a .deb: `(path, tarfile member, stream or None)`."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as unpack:
        with tarfile.open(fileobj=unpack.stdout, mode="r|") as archive:
            for member in archive:
                yield member.name.removeprefix("./"), member, archive.extractfile(member) if member.isfile() else None
    if unpack.returncode:
        sys.exit(f"vm image: {package} cannot be unpacked")


def unpack_kernel(package, out):
    """Leaves `vmlinuz`, `modules/*.ko` and `modules/order` in `out`."""
    everything = {}
    for path, member, stream in members(package):
        name = pathlib.PurePath(path).name
        if path.startswith("boot/vmlinuz"):
            (out / "vmlinuz").write_bytes(stream.read())
        elif match := re.fullmatch(r"(.+)\.ko(\.xz)?", name):
            data = stream.read() if stream else b""
            everything[match[1].replace("-", "_")] = lzma.decompress(data) if match[2] else data
    order = []

    def need(module):
        if module in order or module not in everything:  # what is not there is built in
            return
        depends = re.search(rb"\0depends=([^\0]*)\0", everything[module])
        for other in depends[1].decode().split(",") if depends and depends[1] else []:
            need(other.replace("-", "_"))
        order.append(module)

    for module in MODULES:
        need(module)
    folder = out / "modules"
    folder.mkdir()
    for module in order:
        (folder / f"{module}.ko").write_bytes(everything[module])
    (folder / "order").write_text("".join(f"{module}\n" for module in order))


def unpack_tools(packages, out):
    root = out / "root"
    for package in packages:
        for path, member, stream in members(package):
            first, _, rest = path.partition("/")
            path = f"usr/{path}" if first in MERGED and rest else path
            if LEFT_OUT.match(path) or not (member.isfile() or member.issym()):
                continue
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.issym():
                target.symlink_to(member.linkname)
            else:
                target.write_bytes(stream.read())
                target.chmod(member.mode | stat.S_IRUSR)


def prepare(out, arch):
    """The part that does not change with weir; made once."""
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = open(f"{out}.lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once must not make it twice; closing it unlocks
    if (out / "prepared").exists():
        return
    shutil.rmtree(out, ignore_errors=True)
    (out / "apt").mkdir(parents=True)
    kernel, tools = fetch(out / "apt", arch)
    unpack_kernel(kernel, out)
    unpack_tools(tools, out)
    shutil.rmtree(out / "apt")
    (out / "prepared").write_text(f"{kernel.name}\n")


class Cpio:
    """Writes a `newc` archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self, file):
        self.file = file
        self.count = 0
        self.folders = set()

    def entry(self, path, mode, data=b"", device=(0, 0)):
        self.count += 1
        name = path.encode() + b"\0"
        fields = (self.count, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
        self.file.write(b"070701" + b"".join(b"%08x" % field for field in fields) + name)
        self.file.write(b"\0" * (-self.file.tell() % 4) + data)
        self.file.write(b"\0" * (-self.file.tell() % 4))

    def folder(self, path):
        if path in ("", ".") or path in self.folders:
            return
        self.folder(os.path.dirname(path))
        self.folders.add(path)
        self.entry(path, stat.S_IFDIR | 0o755)

    def add(self, source, path):
        """A file, link or whole folder."""
        source = pathlib.Path(source)
        self.folder(os.path.dirname(path))
        if source.is_symlink():
            self.entry(path, stat.S_IFLNK | 0o777, os.readlink(source).encode())
        elif source.is_dir():
            self.folder(path)
            for part in sorted(source.iterdir()):
                self.add(part, f"{path}/{part.name}")
        else:
            self.entry(path, stat.S_IFREG | stat.S_IMODE(source.stat().st_mode), source.read_bytes())

    def link(self, path, target):
        self.entry(path, stat.S_IFLNK | 0o777, target.encode())

    def close(self):
        self.entry("TRAILER!!!", 0)


def stripped(binary, target):
    """Debugging information is half of a binary of the dev profile, and would have to fit into the guest's memory."""
    strip = shutil.which("llvm-strip") or shutil.which("strip")
    if not strip or subprocess.run([strip, "-o", target, binary], stderr=subprocess.DEVNULL).returncode:
        shutil.copyfile(binary, target)  # of another architecture, perhaps
    target.chmod(0o755)


def write_initramfs(out, binary, added, target):
    buffer = io.BytesIO()
    archive = Cpio(buffer)
    archive.folder("dev")
    archive.entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add(out / "root/usr", "usr")
    for name in MERGED:
        archive.folder(f"usr/{name}")
        archive.link(name, f"usr/{name}")
    archive.add(out / "modules", "modules")
    archive.add(HERE / "init", "init")
    small = target.with_suffix(".weir")
    stripped(binary, small)
    archive.add(small, "usr/bin/weir")
    small.unlink()
    for pair in added:
        source, _, path = pair.partition("=")
        archive.add(source, path.lstrip("/"))
    archive.close()
    # Not compressed: unpacking is what an emulated processor is slow at.
    target.write_bytes(buffer.getbuffer())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", choices=["amd64", "arm64"], required=True)
    for name in ("--cache", "--binary", "--initramfs"):
        parser.add_argument(name, type=pathlib.Path, required=True)
    parser.add_argument("--add", action="append", default=[], metavar="HOST=GUEST")
    arguments = parser.parse_args()
    cache = arguments.cache.resolve()
    prepare(cache, arguments.arch)
    write_initramfs(cache, arguments.binary, arguments.add, arguments.initramfs.resolve())


if __name__ == "__main__":
    main()
