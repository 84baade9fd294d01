require weir.inc

PROVIDES = "weir"

# What cross/build.sh made: one static binary for every image; for TensorRT, which is opened at run time, a dynamic one.
WEIR_TARGET = "${@bb.utils.contains('PACKAGECONFIG', 'tensorrt', 'aarch64-unknown-linux-gnu.2.31', '${TARGET_ARCH}-unknown-linux-musl', d)}"
WEIR_DIST ?= "${WEIR_ROOT}/dist"
SRC_URI = "file://${WEIR_DIST}/${WEIR_TARGET}/weir-${PV}-${WEIR_TARGET}.tar.gz"

# Not UNPACKDIR: the releases that this layer is for do not know it, and take it literally.
S = "${WORKDIR}/weir-${PV}-${WEIR_TARGET}"

COMPATIBLE_HOST = "(aarch64|x86_64).*-linux"

# Features are fixed when the binary is made; this chooses which one, and what it finds at run time.
PACKAGECONFIG ??= ""
PACKAGECONFIG[tensorrt] = ",,,tensorrt-core cuda-cudart tegra-libraries-cuda,tensorrt-trtexec"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${bindir}
    install -m 0755 ${S}/weir ${D}${bindir}/weir
    weir_install_files ${S}
    weir_install_demo ${S}/assets
}

RPROVIDES:${PN} = "weir"
RREPLACES:${PN} = "weir"
RCONFLICTS:${PN} = "weir"

# It comes stripped, and was linked without the distribution's flags.
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
INHIBIT_SYSROOT_STRIP = "1"
# nooelint: oelint.vars.insaneskip
INSANE_SKIP:${PN} = "already-stripped ldflags"
