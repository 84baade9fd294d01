#!/usr/bin/env python3
"""Makes the packages of one finished build: two .deb, a .tar.gz with an installer, and an OCI image without a daemon.

    packaging/make-packages.py --target TRIPLE --out dist/TRIPLE

`--out` holds `weir` already and receives the packages. Only the standard library and dpkg-deb are needed. The same
binary gives the same bytes: all times are SOURCE_DATE_EPOCH, or that of the last commit, or the change log's in a tree
without git.
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = ROOT / "packaging"
DEBIAN_ARCHITECTURE = {"aarch64": "arm64", "x86_64": "amd64"}
OCI_ARCHITECTURE = {"aarch64": ("arm64", "v8"), "x86_64": ("amd64", None)}
# Where a static TLS client looks for certificate authorities, and where Debian keeps them.
CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
# What somebody who steers the service looks up.
PAGES = ("reference", "guide", "systemd", "containers", "threat-model")
EXAMPLES = ("compose.yaml", "prometheus/alerts.yml", "prometheus/alerts.test.yml", "prometheus/scrape.yml", "prometheus/dashboard.json")
COMPLETIONS = {"bash-completion/completions/weir": "weir.bash", "zsh/vendor-completions/_weir": "_weir",
               "fish/vendor_completions.d/weir.fish": "weir.fish"}
# Runs as nobody in particular inside a container.
CONTAINER_USER = 65532
MAINTAINER = os.environ.get("WEIR_MAINTAINER", "The weir authors <weir@localhost.localdomain>")


def version():
    return re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.M).group(1)


def epoch():
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    done = subprocess.run(["git", "-C", str(ROOT), "log", "-1", "--format=%ct"], capture_output=True, text=True)
    if done.returncode == 0 and done.stdout.strip():
        return int(done.stdout)
    return int((ROOT / "CHANGELOG.md").stat().st_mtime)


def zipped(data):
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=9) as stream:
        stream.write(data)
    return packed.getvalue()


def debian_changelog(package, stamp):
    release = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(stamp))
    return (f"{package} ({version()}) stable; urgency=medium\n\n  * See /usr/share/doc/weir/CHANGELOG.md.gz.\n\n"
            f" -- {MAINTAINER}  {release}\n").encode()


def deb(package, files, fields, description, out, stamp, control_files=None, folders=()):
    """One .deb: `files` and `control_files` are {name: (bytes, mode)}, `folders` names of empty ones, `fields` the lines of the
    control file that differ."""
    files = {
        **files,
        f"usr/share/doc/{package}/copyright": ((HERE / "copyright").read_bytes(), 0o644),
        f"usr/share/doc/{package}/changelog.gz": (zipped(debian_changelog(package, stamp)), 0o644),
    }
    overrides = (HERE / "lintian-overrides").read_text(encoding="utf-8").replace("@PACKAGE@", package)
    if fields["Architecture"] != "all":
        overrides += ("# Not that library: our RTSP client knows its servers by the name they give themselves.\n"
                      f"{package}: embedded-library liblivemedia [usr/bin/weir]\n")
    if fields["Architecture"] != "all" and "Depends" not in fields:
        overrides += ("# One static binary runs on every distribution and on boards without one: that is the product.\n"
                      f"{package}: statically-linked-binary [usr/bin/weir]\n")
        if fields["Architecture"] == "amd64": # on arm64 it is linked at a fixed address
            overrides += ("# Position-independent, which makes it look like a library that needs none.\n"
                          f"{package}: shared-library-lacks-prerequisites [usr/bin/weir]\n")
    files[f"usr/share/lintian/overrides/{package}"] = (overrides.encode(), 0o644)
    size = sum(len(data) for data, _ in files.values()) // 1024 + 1
    control = "".join(f"{key}: {value}\n" for key, value in [
        ("Package", package), ("Version", version()), ("Maintainer", MAINTAINER), ("Installed-Size", size),
        ("Section", "video"), ("Priority", "optional"), *fields.items(), ("Description", description)])
    sums = "".join(f"{hashlib.md5(data).hexdigest()}  {name}\n" for name, (data, _) in sorted(files.items())
                   if not name.startswith("etc/"))
    inner = {"control": (control.encode(), 0o644), "md5sums": (sums.encode(), 0o644), **(control_files or {})}
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        for name, (data, mode) in files.items():
            place(tree / name, data, mode)
        for name in folders:
            (tree / name).mkdir(parents=True)
        for name, (data, mode) in inner.items():
            place(tree / "DEBIAN" / name, data, mode)
        for directory in [tree, *(path for path in tree.rglob("*") if path.is_dir())]:
            directory.chmod(0o755)
        made = out / f"{package}_{version()}_{fields['Architecture']}.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zxz", "--build", folder, str(made)], check=True,
                       stdout=subprocess.DEVNULL, env={**os.environ, "SOURCE_DATE_EPOCH": str(stamp)})
    return made


def service_deb(binary, architecture, static, out, stamp):
    units = ("weir.service", "weir-tcp.socket", "weir-http.socket")
    files = {
        "usr/bin/weir": (binary, 0o755),
        **{f"usr/lib/systemd/system/{unit}": ((HERE / unit).read_bytes(), 0o644) for unit in units},
        "etc/weir/weir.toml": ((HERE / "weir.toml").read_bytes(), 0o644),
        "etc/default/weir": ((HERE / "weir.default").read_bytes(), 0o644),
        "usr/share/man/man1/weir.1.gz": (zipped((HERE / "weir.1").read_bytes()), 0o644),
        "usr/share/doc/weir/CHANGELOG.md.gz": (zipped((ROOT / "CHANGELOG.md").read_bytes()), 0o644),
        "usr/share/doc/weir/weir-jetson.conf": ((HERE / "weir-jetson.conf").read_bytes(), 0o644),
        # Large ones are packed, as Debian's policy wants it.
        **{f"usr/share/doc/weir/{name}.gz": (zipped((ROOT / name).read_bytes()), 0o644) for name in ("README.md", "SECURITY.md")},
        **{f"usr/share/doc/weir/{page}.md.gz": (zipped((ROOT / f"docs/{page}.md").read_bytes()), 0o644) for page in PAGES},
        **{f"usr/share/doc/weir/examples/{name}": ((HERE / name).read_bytes(), 0o644) for name in EXAMPLES},
        **{f"usr/share/{place}": ((HERE / f"completions/{file}").read_bytes(), 0o644) for place, file in COMPLETIONS.items()},
    }
    # Sockets and pipes of glibc 2.31 are all the dynamic binary asks for; the static one asks for nothing.
    fields = {"Architecture": architecture, **({} if static else {"Depends": "libc6 (>= 2.31)"}),
              "Recommends": "ca-certificates, procps", "Suggests": "weir-demo"}
    description = (
        "object detection on many cameras, steered from outside\n"
        " Watches RTSP cameras, V4L2 devices and video files with an object-detection\n"
        " model and sends what it finds as UDP datagrams. Steered over TCP and HTTP with\n"
        " the messages of the Roboflow Stream Manager, which it replaces.")
    control_files = {"conffiles": (b"/etc/default/weir\n/etc/weir/weir.toml\n", 0o644)}
    for script in ("postinst", "prerm", "postrm"):
        control_files[script] = ((HERE / "debian" / script).read_bytes(), 0o755)
    # Where pipelines are declared; the unit would make it too, but only when it starts.
    return deb("weir", files, fields, description, out, stamp, control_files, folders=["etc/weir/pipelines.d"])


def demo_deb(out, stamp):
    """Apart from the service: the model has three times the size of the binary, and a device in the field needs no demo."""
    files = {f"usr/share/weir/demo/{name}": (data, 0o644) for name, data in demo_assets().items()}
    fields = {"Architecture": "all", "Depends": f"weir (>= {version()})", "Multi-Arch": "foreign"}
    description = (
        "model and clip that \"weir demo\" shows\n"
        " A NanoDet model of the 80 COCO classes and a short clip: \"weir demo\" watches it\n"
        " and prints what it sees, without a camera and without a network.")
    return deb("weir-demo", files, fields, description, out, stamp)


def demo_assets():
    return {name: (ROOT / "assets" / name).read_bytes() for name in ("nanodet-coco-416.onnx", "sample.mp4")}


def place(path, data, mode):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def add(archive, name, data, mode, stamp, user=0):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime, entry.uid, entry.gid = len(data), mode, stamp, user, user
    archive.addfile(entry, io.BytesIO(data))


def add_directory(archive, name, mode, stamp, user=0):
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime, entry.uid, entry.gid = tarfile.DIRTYPE, mode, stamp, user, user
    archive.addfile(entry)


def tarball(binary, target, out, stamp):
    top = f"weir-{version()}-{target}"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        add_directory(archive, top, 0o755, stamp)
        add(archive, f"{top}/weir", binary, 0o755, stamp)
        add(archive, f"{top}/install.sh", (HERE / "install.sh").read_bytes(), 0o755, stamp)
        for file in ("weir.service", "weir-tcp.socket", "weir-http.socket", "weir-jetson.conf", "weir.toml", "weir.default",
                     "weir.1"):
            add(archive, f"{top}/{file}", (HERE / file).read_bytes(), 0o644, stamp)
        add_directory(archive, f"{top}/completions", 0o755, stamp)
        for file in COMPLETIONS.values():
            add(archive, f"{top}/completions/{file}", (HERE / "completions" / file).read_bytes(), 0o644, stamp)
        # Beside the binary, where `weir demo` looks first: it can be tried before anything is installed.
        add_directory(archive, f"{top}/assets", 0o755, stamp)
        for name, data in demo_assets().items():
            add(archive, f"{top}/assets/{name}", data, 0o644, stamp)
        for file in ("LICENSE-MIT", "LICENSE-APACHE", "NOTICE", "CHANGELOG.md", "README.md", "SECURITY.md"):
            add(archive, f"{top}/{file}", (ROOT / file).read_bytes(), 0o644, stamp)
    package = out / f"{top}.tar.gz"
    package.write_bytes(zipped(packed.getvalue()))
    return package


def oci(binary, cpu, target, out, stamp):
    """An OCI image layout in a tar: `podman load -i`, `skopeo copy oci-archive:…`, `ctr image import`."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for directory in ("etc", "etc/ssl", "etc/ssl/certs", "usr", "usr/bin"):
            add_directory(archive, directory, 0o755, stamp)
        # Where the reference's containers mount their model cache.
        add_directory(archive, "tmp", 0o1777, stamp)
        add_directory(archive, "tmp/cache", 0o755, stamp, CONTAINER_USER)
        # A new volume takes the owner of the folder that it is mounted on.
        for directory in ("var", "var/lib"):
            add_directory(archive, directory, 0o755, stamp)
        add_directory(archive, "var/lib/weir", 0o700, stamp, CONTAINER_USER)
        add(archive, "etc/passwd", f"weir:x:{CONTAINER_USER}:{CONTAINER_USER}::/:/\n".encode(), 0o644, stamp)
        # For HTTPS to the model registry: an image from scratch has no store of its own.
        add(archive, "etc/ssl/certs/ca-certificates.crt", CERTIFICATES.read_bytes(), 0o644, stamp)
        add(archive, "usr/bin/weir", binary, 0o755, stamp)
    plain = layer.getvalue()
    blobs = {}

    def blob(data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    architecture, variant = OCI_ARCHITECTURE[cpu]
    platform = {"architecture": architecture, "os": "linux", **({"variant": variant} if variant else {})}
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stamp))
    labels = {"org.opencontainers.image.title": "weir", "org.opencontainers.image.version": version(),
              "org.opencontainers.image.licenses": "MIT OR Apache-2.0"}
    config = blob(json.dumps({
        **platform, "created": created,
        "config": {"Entrypoint": ["/usr/bin/weir"], "Cmd": ["serve"], "User": f"{CONTAINER_USER}:{CONTAINER_USER}",
                   "ExposedPorts": {"7070/tcp": {}, "8080/tcp": {}}, "Volumes": {"/tmp/cache": {}, "/var/lib/weir": {}}, "StopSignal": "SIGTERM",
                   "Env": ["MODEL_CACHE_DIR=/tmp/cache", "STATE_DIRECTORY=/var/lib/weir"], "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}"]},
        "history": [{"created": created, "created_by": "packaging/make-packages.py"}],
    }).encode(), "application/vnd.oci.image.config.v1+json")
    content = blob(zipped(plain), "application/vnd.oci.image.layer.v1.tar+gzip")
    manifest = blob(json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
        "layers": [content], "annotations": labels,
    }).encode(), "application/vnd.oci.image.manifest.v1+json")
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {**manifest, "platform": platform, "annotations": {"org.opencontainers.image.ref.name": f"weir:{version()}"}}]}

    package = out / f"weir-{version()}-{target}.oci.tar"
    with tarfile.open(package, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        add(archive, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}', 0o644, stamp)
        add(archive, "index.json", json.dumps(index).encode(), 0o644, stamp)
        for digest, data in sorted(blobs.items()):
            add(archive, f"blobs/sha256/{digest}", data, 0o644, stamp)
    return package


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    cpu, static, stamp = arguments.target.split("-")[0], "musl" in arguments.target, epoch()
    binary = (arguments.out / "weir").read_bytes()
    made = [tarball(binary, arguments.target, arguments.out, stamp)]
    if shutil.which("dpkg-deb"):
        made += [service_deb(binary, DEBIAN_ARCHITECTURE[cpu], static, arguments.out, stamp), demo_deb(arguments.out, stamp)]
    if static and CERTIFICATES.exists():
        made.append(oci(binary, cpu, arguments.target, arguments.out, stamp))
    for package in made:
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        (arguments.out / f"{package.name}.sha256").write_text(f"{digest}  {package.name}\n", encoding="ascii")
        print(f"packages: {package.name}: {package.stat().st_size} bytes")


if __name__ == "__main__":
    main()
