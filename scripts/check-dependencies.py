#!/usr/bin/env python3
"""Checks every dependency against deny.toml: licence, source, known advisories.

    scripts/check-dependencies.py                      check
    scripts/check-dependencies.py --list               print name, version and licence of each
    scripts/check-dependencies.py --advisory-db DIR    use this clone of RustSec's advisory database

Only the standard library and cargo are needed. The advisory database is cloned from GitHub into target/ (at most once
a day); where GitHub cannot be reached, that part is skipped and the last line says so. With --require-advisories it
fails instead.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATABASE_URL = "https://github.com/RustSec/advisory-db"
# A day: advisories are rare, and a test run should not wait for the network each time.
DATABASE_MAX_AGE_S = 86_400
CLONE_TIMEOUT_S = 120
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def strings_of(text, section, key):
    """A list of strings in deny.toml. tomllib is younger than the oldest Python here, and the file is ours."""
    body = re.search(rf"^\[{section}\]\n(.*?)(?=^\[|\Z)", re.sub(r"#.*", "", text), re.M | re.S)
    values = body and re.search(rf"^{key}\s*=\s*\[([^\]]*)\]", body.group(1), re.M)
    if not values:
        sys.exit(f"deny.toml: no {section}.{key}")
    return re.findall(r'"([^"]+)"', values.group(1))


def packages(targets):
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    for target in targets:
        command += ["--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    return [package for package in metadata["packages"] if package["id"] in used and package["source"]]


def satisfied(expression, allowed):
    """Evaluates an SPDX expression; `/` is the old way to write OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def alternatives():
        result = conjunction()
        while peek() == "OR":
            take()
            result = conjunction() or result
        return result

    def conjunction():
        result = term()
        while peek() == "AND":
            take()
            result = term() and result
        return result

    def term():
        if peek() == "(":
            take()
            result = alternatives()
            take()
            return result
        name = take()
        if peek() == "WITH":
            take()
            name += " WITH " + take()
        return name in allowed

    return alternatives()


def version_key(text):
    release, _, pre = text.partition("+")[0].partition("-")
    numbers = [int(part) for part in release.split(".")]
    numbers += [0] * (3 - len(numbers))
    # A pre-release comes before its release.
    return (numbers, 0 if pre else 1, pre)


def matches(version, requirement):
    """One comma-separated requirement of an advisory, e.g. `>= 1.2.3, < 2.0.0` or `^1.2`."""
    for part in requirement.split(","):
        operator, wanted = re.match(r"\s*(>=|<=|>|<|=|\^|~)?\s*(\S+)", part).groups()
        have, want = version_key(version), version_key(wanted)
        if operator in ("^", None):
            upper = [want[0][0] + 1, 0, 0] if want[0][0] else [0, want[0][1] + 1, 0]
            holds = want <= have < (upper, 0, "")
        elif operator == "~":
            holds = want <= have < ([want[0][0], want[0][1] + 1, 0], 0, "")
        else:
            holds = {">=": have >= want, "<=": have <= want, ">": have > want, "<": have < want, "=": have == want}[operator]
        if not holds:
            return False
    return True


def database(given):
    if given:
        return pathlib.Path(given)
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "advisory-db"
    stamp = folder / ".git" / "FETCH_HEAD"
    if stamp.exists() and time.time() - stamp.stat().st_mtime < DATABASE_MAX_AGE_S:
        return folder
    if folder.exists():
        command = ["git", "-C", str(folder), "fetch", "--quiet", "--depth", "1", "origin", "HEAD"]
        then = ["git", "-C", str(folder), "reset", "--quiet", "--hard", "FETCH_HEAD"]
    else:
        command = ["git", "clone", "--quiet", "--depth", "1", DATABASE_URL, str(folder)]
        then = ["git", "-C", str(folder), "fetch", "--quiet", "--depth", "1", "origin", "HEAD"]
    try:
        for step in (command, then):
            subprocess.run(step, check=True, timeout=CLONE_TIMEOUT_S, stderr=subprocess.DEVNULL,
                           env={**os.environ, "GIT_TERMINAL_PROMPT": "0"})
    except (subprocess.SubprocessError, OSError):
        return folder if folder.exists() else None
    return folder


def advisories(folder, used, ignored):
    """Findings of the database: `crates/<name>/RUSTSEC-….md`, each with TOML between ```toml fences."""
    found = []
    for package in used:
        for file in sorted((folder / "crates" / package["name"]).glob("RUSTSEC-*.md")):
            head = file.read_text(encoding="utf-8").split("```")[1]
            if file.stem in ignored or re.search(r"^withdrawn\s*=", head, re.M) or re.search(r"^informational\s*=", head, re.M):
                continue
            fine = []
            for key in ("patched", "unaffected"):
                values = re.search(rf"^{key}\s*=\s*\[(.*?)\]", head, re.M | re.S)
                fine += re.findall(r'"([^"]+)"', values.group(1)) if values else []
            if not any(matches(package["version"], requirement) for requirement in fine):
                found.append(f"{package['name']} {package['version']}: {file.stem}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--advisory-db")
    parser.add_argument("--require-advisories", action="store_true")
    arguments = parser.parse_args()

    rules = (ROOT / "deny.toml").read_text(encoding="utf-8")
    allowed = set(strings_of(rules, "licenses", "allow"))
    used = packages(strings_of(rules, "graph", "targets"))
    if arguments.list:
        for package in sorted(used, key=lambda package: (package["name"], package["version"])):
            print(f"{package['name']} {package['version']}: {package['license']}")
        return

    complaints = []
    for package in used:
        name = f"{package['name']} {package['version']}"
        if not package["license"] or not satisfied(package["license"], allowed):
            complaints.append(f"{name}: licence {package['license']} is not in deny.toml")
        if package["source"] != REGISTRY:
            complaints.append(f"{name}: comes from {package['source']}, not from crates.io")
    folder = database(arguments.advisory_db)
    if folder:
        complaints += advisories(folder, used, set(strings_of(rules, "advisories", "ignore")))
    elif arguments.require_advisories:
        complaints.append(f"{DATABASE_URL} cannot be reached")
    for complaint in complaints:
        print("dependencies:", complaint, file=sys.stderr)
    if complaints:
        sys.exit(1)
    checked = "advisories" if folder else "advisories NOT checked (GitHub cannot be reached)"
    print(f"dependencies: {len(used)} packages, licences and sources in order, {checked}")


if __name__ == "__main__":
    main()
