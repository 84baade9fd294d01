#!/usr/bin/env python3
"""Writes a software bill of materials (CycloneDX 1.5, JSON) for one build: the binary, its crates, the bundled data.

    cross/sbom.py --target TRIPLE [--features LIST] [--binary FILE] > sbom.json

The same sources give the same document: no times, no random numbers; the serial number is derived from the contents.
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Data that is linked into the binary: file, licence, what it is.
BUNDLED = [
    ("assets/nanodet-coco-416.onnx", "Apache-2.0", "NanoDet-g 416 weights, COCO; see NOTICE"),
    ("assets/sample.mp4", "CC0-1.0", "demonstration clip; see NOTICE"),
]


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def metadata(target, features):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    if features:
        command += ["--features", features]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def linked(graph):
    """Ids of the packages that end up in the binary: everything reachable without build and dev dependencies."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    seen, queue = set(), [graph["resolve"]["root"]]
    while queue:
        node = queue.pop()
        if node not in seen:
            seen.add(node)
            queue += [dep["pkg"] for dep in nodes[node]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
    return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--features", default="")
    parser.add_argument("--binary")
    arguments = parser.parse_args()

    graph = metadata(arguments.target, arguments.features)
    used = linked(graph)
    packages = {package["id"]: package for package in graph["packages"] if package["id"] in used}
    root = packages[graph["resolve"]["root"]]
    reference = {key: f"pkg:cargo/{package['name']}@{package['version']}" for key, package in packages.items()}

    def component(package):
        # CycloneDX wants SPDX expressions; `/` is the old way to write OR.
        licence = (package["license"] or "NOASSERTION").replace(" / ", " OR ").replace("/", " OR ")
        made = {"type": "library", "bom-ref": reference[package["id"]], "name": package["name"], "version": package["version"],
                "purl": reference[package["id"]], "licenses": [{"expression": licence}]}
        if package.get("repository"):
            made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        return made

    main_component = {"type": "application", "bom-ref": "weir", "name": "weir", "version": root["version"],
                      "licenses": [{"expression": root["license"]}]}
    if arguments.binary:
        main_component["hashes"] = [{"alg": "SHA-256", "content": sha256(arguments.binary)}]
    components = [component(package) for key, package in packages.items() if key != graph["resolve"]["root"]]
    components.sort(key=lambda entry: entry["bom-ref"])
    data = [{"type": "data", "bom-ref": file, "name": file, "description": text, "licenses": [{"expression": licence}],
             "hashes": [{"alg": "SHA-256", "content": sha256(ROOT / file)}]} for file, licence, text in BUNDLED]
    dependencies = []
    for node in graph["resolve"]["nodes"]:
        if node["id"] in used:
            name = "weir" if node["id"] == graph["resolve"]["root"] else reference[node["id"]]
            targets = [reference[dep["pkg"]] for dep in node["deps"] if dep["pkg"] in used]
            dependencies.append({"ref": name, "dependsOn": sorted(set(targets))})
    dependencies.sort(key=lambda entry: entry["ref"])

    bom = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
           "metadata": {"component": main_component,
                        "properties": [{"name": "weir:target", "value": arguments.target},
                                       {"name": "weir:features", "value": arguments.features}]},
           "components": components + data, "dependencies": dependencies}
    digest = hashlib.sha256(json.dumps(bom, sort_keys=True).encode()).digest()
    bom["serialNumber"] = uuid.UUID(bytes=digest[:16], version=4).urn
    print(json.dumps(bom, indent=1))


if __name__ == "__main__":
    main()
