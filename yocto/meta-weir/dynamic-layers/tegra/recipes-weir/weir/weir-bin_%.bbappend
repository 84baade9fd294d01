# On a Jetson: the dynamic binary with TensorRT, and the drop-in that opens the GPU's devices to the service.
PACKAGECONFIG:append:tegra = " tensorrt"

do_install:append:tegra() {
    install -d ${D}${systemd_system_unitdir}/weir.service.d
    install -m 0644 ${S}/weir-jetson.conf ${D}${systemd_system_unitdir}/weir.service.d/jetson.conf
}

FILES:${PN}:append:tegra = " ${systemd_system_unitdir}/weir.service.d"
