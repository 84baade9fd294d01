"""The code blocks of README.md, so that the tests run what the reader copies."""
import pathlib
import re
import types

ROOT = pathlib.Path(__file__).resolve().parents[2]


def block(name):
    """The text of the block after `<!-- tested: name -->`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- tested: {name} -->\n```\w+\n(.*?)^```$", text, re.M | re.S)
    assert found, f"README.md has no tested block {name}"
    return found.group(1)


def replaced(name, addresses):
    """A block with the factory's addresses replaced by the test's, in one pass so that no replacement is replaced."""
    written = "|".join(re.escape(address) for address in addresses)
    return re.sub(rf"(?<!\d)(?:{written})(?!\d)", lambda match: addresses[match.group()], block(name))


def module(name, addresses):
    """A Python block as a module."""
    made = types.ModuleType(name)
    exec(compile(replaced(name, addresses), f"README.md:{name}", "exec"), made.__dict__)
    return made
