#!/usr/bin/env python3
"""Holds the manifests against the restricted Pod Security Standard, and what they name against what is there.

    packaging/kubernetes/check.py        needs PyYAML (kubernetes-validate brings it)

The rules are those of kubernetes.io/docs/concepts/security/pod-security-standards, "Restricted". `--selftest` breaks each of
them once and expects to be told.
"""
import copy
import json
import pathlib
import sys
import tomllib

import yaml

HERE = pathlib.Path(__file__).resolve().parent
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def pods(documents):
    return [(f"{each['kind']}/{each['metadata']['name']}", each["spec"]["template"]["spec"]) for each in documents
            if "template" in each.get("spec", {})]


def faults(documents):
    """What breaks the standard, in words."""
    found = []
    for name, pod in pods(documents):
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(field):
                found.append(f"{name}: {field}")
        of_pod = pod.get("securityContext", {})
        for volume in pod.get("volumes", []):
            kinds = set(volume) - {"name"}
            if not kinds <= VOLUMES:
                found.append(f"{name}: volume {volume['name']} of kind {kinds}")
        for container in pod.get("initContainers", []) + pod["containers"]:
            where, of_container = f"{name}/{container['name']}", container.get("securityContext", {})

            def either(field):
                return of_container.get(field, of_pod.get(field))

            if of_container.get("privileged") or of_container.get("procMount", "Default") != "Default":
                found.append(f"{where}: privileged")
            if of_container.get("allowPrivilegeEscalation") is not False:
                found.append(f"{where}: allowPrivilegeEscalation")
            if either("runAsNonRoot") is not True or either("runAsUser") == 0:
                found.append(f"{where}: may run as root")
            if (either("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
                found.append(f"{where}: seccompProfile")
            capabilities = of_container.get("capabilities", {})
            if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
                found.append(f"{where}: capabilities")
            if any("hostPort" in port for port in container.get("ports", [])):
                found.append(f"{where}: hostPort")
            # Beyond the standard, and promised by docs/containers.md.
            if of_container.get("readOnlyRootFilesystem") is not True:
                found.append(f"{where}: a writable root")
            for variable in container.get("env", []):
                secret = any(word in variable["name"] for word in ("TOKEN", "KEY"))
                if secret and ("value" in variable or variable["valueFrom"]["secretKeyRef"].get("optional")):
                    found.append(f"{where}: {variable['name']} is not from a Secret that must be there")
    return found


def selftest(documents):
    def changed(change):
        copied = copy.deepcopy(documents)
        pod = pods(copied)[0][1]
        change(pod, pod["containers"][0])
        return faults(copied)

    for change in [
        lambda pod, _: pod.update(hostNetwork=True),
        lambda pod, _: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
        lambda pod, _: pod["securityContext"].pop("runAsNonRoot"),
        lambda pod, _: pod["securityContext"].update(runAsUser=0),
        lambda pod, _: pod["securityContext"].pop("seccompProfile"),
        lambda _, container: container["securityContext"].pop("allowPrivilegeEscalation"),
        lambda _, container: container["securityContext"].update(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        lambda _, container: container["securityContext"].update(readOnlyRootFilesystem=False),
        lambda _, container: container["ports"][0].update(hostPort=8080),
        lambda _, container: container["env"].append({"name": "WEIR_TOKEN", "value": "replace-me"}),
    ]:
        assert len(changed(change)) == 1, changed(change)


def main():
    documents = list(yaml.safe_load_all((HERE / "weir.yaml").read_text(encoding="utf-8")))
    selftest(documents)
    assert not faults(documents), faults(documents)
    kustomization = yaml.safe_load((HERE / "kustomization.yaml").read_text(encoding="utf-8"))
    assert all((HERE / resource).is_file() for resource in kustomization["resources"])
    made = {each["name"]: each["files"] for each in kustomization["configMapGenerator"]}
    named = {volume["configMap"]["name"] for _, pod in pods(documents) for volume in pod["volumes"] if "configMap" in volume}
    assert named == set(made), (named, set(made))
    for file in sum(made.values(), []):
        text = (HERE / file).read_text(encoding="utf-8")
        json.loads(text) if file.endswith(".json") else tomllib.loads(text)
    namespace = next(each for each in documents if each["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    service = next(each for each in documents if each["kind"] == "Service")
    monitor = yaml.safe_load((HERE / "monitor.yaml").read_text(encoding="utf-8"))
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    print("check: the manifests keep the restricted Pod Security Standard and name what is there")


if __name__ == "__main__":
    sys.exit(main())
