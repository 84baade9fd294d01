#!/usr/bin/env python3
"""Builds the kernel's test codec (vicodec) for the kernel of a guest, from Debian's sources of that kernel.

    tests/vm/vicodec.py --kernel FOLDER --out FOLDER

FOLDER of --kernel is what tests/vm/image.py --cache has made: it says which kernel. Leaves in OUT:

    v4l2-mem2mem.ko  what the next two need
    vicodec.ko       the codec as it is: a stateful encoder and decoder of FWHT, and a stateless decoder
    vicodec-h264.ko  the same protocol under the name of H.264: it takes H.264, of which it believes the size that it
                     is told, and gives gray pictures. Its parameter `hang` makes it hold whoever hands it a buffer.

Kernel sources are GPL: they are downloaded, changed and built below OUT, and no part of them is kept with weir.

Exit code 69 (sysexits: unavailable): no compiler, or the apt sources have no such sources.
"""

import argparse
import fcntl
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

from image import apt, unavailable

CODEC = "drivers/media/test-drivers/vicodec"
WANTED = re.compile(rf"[^/]+/({CODEC}/[^/]+\.[ch]|drivers/media/v4l2-core/v4l2-mem2mem\.c)$")

MAKEFILE = """\
obj-m := v4l2-mem2mem.o vicodec.o vicodec-h264.o
vicodec-objs := vicodec-core.o codec-fwht.o codec-v4l2-fwht.o
vicodec-h264-objs := gray-core.o gray-fwht.o gray-v4l2-fwht.o
ccflags-y := -DCONFIG_MEDIA_CONTROLLER=1
"""

# In place of what looks for FWHT's header: a header that says what the client said.
HEADER = """
static enum vb2_buffer_state get_next_header(struct vicodec_ctx *ctx, u8 **pp, u32 sz)
{
	struct fwht_cframe_hdr *header = &ctx->state.header;
	struct vicodec_q_data *coded = get_q_data(ctx, V4L2_BUF_TYPE_VIDEO_OUTPUT);

	if (!ctx->header_size) {
		memset(header, 0, sizeof(*header));
		header->version = htonl(V4L2_FWHT_VERSION);
		header->width = htonl(coded->coded_width);
		header->height = htonl(coded->coded_height);
		header->flags = htonl(V4L2_FWHT_FL_I_FRAME | V4L2_FWHT_FL_PIXENC_YUV |
				      2 << V4L2_FWHT_FL_COMPONENTS_NUM_OFFSET);
		header->size = htonl(sz);
		ctx->header_size = sizeof(*header);
	}
	return VB2_BUF_STATE_DONE;
}
"""

# Killable, as an honest driver's wait is: killing the worker must be enough.
HANG = """
static bool hang;
module_param(hang, bool, 0644);
MODULE_PARM_DESC(hang, " holds whoever queues a buffer");
"""


def say(*words):
    print("vicodec:", *words, flush=True)


def run(*command, log, **options):
    return subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, **options)


def fetch(folder, kernel, log):
    """Unpacks headers and kbuild of the kernel, and the sources of the codec; gives the headers' folder."""
    name = re.fullmatch(r"linux-image-((\d+\.\d+)\S*?)_(\S+)_(\w+)\.deb", kernel)
    if not name:
        unavailable(f"{kernel} is no kernel of Debian's")
    flavour, series, version, arch = name.groups()
    # apt writes ":" in versions as "%3a".
    version = version.replace("%3a", ":")
    common = flavour.rsplit("-", 1)[0] + "-common"
    packages = [f"linux-headers-{flavour}", f"linux-headers-{common}", f"linux-source-{series}"]
    options = apt(folder / "apt", arch)
    say(f"fetching Debian's headers and sources of {flavour}")
    try:
        run("apt-get", *options, "-q", "update", log=log)
        table = subprocess.run(
            ["apt-cache", *options, "depends", packages[0]], check=True, capture_output=True, text=True
        ).stdout
        kbuild = re.search(r"Depends: (linux-kbuild-\S+)", table)
        packages.append(kbuild[1] if kbuild else f"linux-kbuild-{series}")
        debs = [f"{package}={version}" for package in packages]
        run("apt-get", *options, "-q", "download", *debs, cwd=folder, log=log)
    except subprocess.CalledProcessError as failure:
        log.flush()
        unavailable(f"{failure}\n{pathlib.Path(log.name).read_text()}")
    root = folder / "root"
    for package in folder.glob("*.deb"):
        run("dpkg-deb", "-x", package, root, log=log)
        package.unlink()
    archive = root / f"usr/src/linux-source-{series}.tar.xz"
    with tarfile.open(archive) as sources:
        for member in sources:
            if WANTED.match(member.name):
                target = folder / "modules" / pathlib.PurePath(member.name).name
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(sources.extractfile(member).read())
    archive.unlink()
    # What names the place where the package would have been installed.
    headers = root / f"usr/src/linux-headers-{flavour}"
    makefile = headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{root}/usr/src/"))
    return headers


def replaced(text, pattern, new, what):
    """The text with the one place that matches changed: another one is another kernel's, and is not guessed at."""
    text, count = re.subn(pattern, lambda _: new, text, flags=re.DOTALL | re.MULTILINE)
    if count != 1:
        unavailable(f"this kernel's vicodec is not the one that is known here: {count} places for {what}")
    return text


def gray(modules):
    """The codec under the name of H.264."""
    core = (modules / "vicodec-core.c").read_text()
    core = re.sub(r"\bV4L2_PIX_FMT_FWHT\b", "V4L2_PIX_FMT_H264", core)
    core = replaced(core, r'^#define VICODEC_NAME\s+"vicodec"$', '#define VICODEC_NAME "vicodec-h264"', "the name")
    core = replaced(core, r"^static enum vb2_buffer_state get_next_header\(.*?^}$", HEADER, "the header")
    core = replaced(
        core,
        r"ret = v4l2_fwht_decode\(state, p_src, p_dst\);",
        "memset(p_dst, 0x80, q_dst->sizeimage);",
        "decoding",
    )
    core = replaced(core, r"^struct pixfmt_info \{", HANG + "\nstruct pixfmt_info {", "a parameter")
    core = replaced(
        core,
        r"^static void vicodec_buf_queue\(struct vb2_buffer \*vb\)\n\{",
        "static void vicodec_buf_queue(struct vb2_buffer *vb)\n{\n"
        "\twhile (READ_ONCE(hang) && !fatal_signal_pending(current))\n"
        "\t\tschedule_timeout_killable(HZ / 20);\n",
        "hanging",
    )
    # Declarations come first in the kernel's C.
    (modules / "gray-core.c").write_text("#pragma GCC diagnostic ignored \"-Wdeclaration-after-statement\"\n" + core)
    for part in ("fwht", "v4l2-fwht"):
        shutil.copyfile(modules / f"codec-{part}.c", modules / f"gray-{part}.c")


def prepare(out, kernel):
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = open(f"{out}.lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once must not make it twice; closing it unlocks
    made = out / "prepared"
    if made.exists() and made.read_text() == kernel:
        return
    if not shutil.which("make") or not shutil.which("gcc"):
        unavailable("no make or no gcc")
    shutil.rmtree(out, ignore_errors=True)
    work = out / "work"
    work.mkdir(parents=True)
    with open(out / "log", "w") as log:
        headers = fetch(work, kernel, log)
        modules = work / "modules"
        (modules / "Makefile").write_text(MAKEFILE)
        gray(modules)
        try:
            run("make", "-C", headers, f"M={modules}", "modules", log=log)
        except subprocess.CalledProcessError:
            log.flush()
            sys.exit("vicodec: cannot be built\n" + (out / "log").read_text())
    for module in ("v4l2-mem2mem", "vicodec", "vicodec-h264"):
        shutil.copyfile(modules / f"{module}.ko", out / f"{module}.ko")
    shutil.rmtree(work)
    made.write_text(kernel)


def main():
    parser = argparse.ArgumentParser()
    for name in ("--kernel", "--out"):
        parser.add_argument(name, type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    kernel = (arguments.kernel / "prepared").read_text().strip()
    prepare(arguments.out.resolve(), kernel)


if __name__ == "__main__":
    main()
