require recipes-weir/weir/weir.inc

# From source. oe-core's Rust is too old (kirkstone 1.59, scarthgap 1.75; the crates ask for 1.91): the compiler comes from
# meta-rust-bin, whose class this is. Without that layer this recipe is not there, and weir-bin is what to use.
inherit cargo_bin

# libclang (meta-clang) reads the kernel's V4L2 headers for the bindings.
DEPENDS += "clang-native"

# The clone that this layer is part of, as it is.
SRC_URI = "git://${WEIR_ROOT};protocol=file;branch=main"
# nooelint: oelint.vars.autorev
SRCREV = "${AUTOREV}"

S = "${WORKDIR}/git"

EXTRA_CARGO_FLAGS = "--locked --bin weir"
export LIBCLANG_PATH = "${STAGING_LIBDIR_NATIVE}"
export BINDGEN_EXTRA_CLANG_ARGS = "--sysroot=${STAGING_DIR_TARGET} --target=${TARGET_SYS}"

# Cargo.lock pins every crate with its checksum; they are fetched while compiling, as this class does it.
# nooelint: oelint.task.network
do_compile[network] = "1"

do_install:append() {
    weir_install_files ${S}/packaging
    weir_install_demo ${S}/assets
}
