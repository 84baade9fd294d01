#!/usr/bin/env bash
# Checks what packaging/make-packages.py made:  packaging/check.sh dist/TARGET
# lintian for the .deb, skopeo for the OCI image, the schemas of Kubernetes and its restricted standard for the manifests.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?"usage: packaging/check.sh dist/TARGET"}
VALIDATE_VERSION=1.37.0
# The oldest that the manifest names, and a new one.
KUBERNETES_VERSIONS="1.25 1.33"

scripts/setup.sh package
(cd "$folder" && sha256sum --quiet --check ./*.sha256)
lintian --allow-root --fail-on error,warning "$folder"/*.deb
for image in "$folder"/*.oci.tar; do
  [ -e "$image" ] || continue # only static binaries make one
  case $image in *aarch64*) cpu=arm64 ;; *) cpu=amd64 ;; esac
  skopeo inspect --override-os linux --override-arch $cpu "oci-archive:$image" >/dev/null
  echo "check: $(basename "$image") is an OCI image for $cpu"
done

venv=${CARGO_TARGET_DIR:-target}/kubernetes-validate
if [ ! -e "$venv/$VALIDATE_VERSION" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "kubernetes-validate==$VALIDATE_VERSION"
  touch "$venv/$VALIDATE_VERSION"
fi
for version in $KUBERNETES_VERSIONS; do
  "$venv/bin/kubernetes-validate" --quiet --strict --kubernetes-version "$version" packaging/kubernetes/weir.yaml
  echo "check: manifests fit Kubernetes $version"
done
"$venv/bin/python" packaging/kubernetes/check.py
