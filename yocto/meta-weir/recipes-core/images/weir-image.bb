SUMMARY = "A small image that watches cameras"
DESCRIPTION = "core-image-minimal's size with weir as a service, certificates for the model registry and SSH."
SECTION = "images"
LICENSE = "MIT"
CVE_PRODUCT = "weir"

inherit core-image

IMAGE_FEATURES += "ssh-server-dropbear"
# Time zones: the stamps in datagrams are local time.
IMAGE_INSTALL += "weir-bin weir-bin-demo ca-certificates tzdata"
