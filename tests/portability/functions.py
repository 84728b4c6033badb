#!/usr/bin/env python3
"""Writes tests/data/vrl-functions.txt: the version of VRL in which each function first exists.

    tests/portability/functions.py ~/.cargo/registry/src/*/vrl-0.*/ > tests/data/vrl-functions.txt

Takes the folders of unpacked sources of the `vrl` crate. In each it reads the list that
`stdlib::all()` is made of (every feature on, as Vector has it) and the `identifier` of each entry.
`cargo fetch` in a scratch crate that depends on the wanted versions unpacks them.
"""

import pathlib
import re
import sys

IDENTIFIER = re.compile(
    r"impl Function for (\w+) \{.*?fn identifier\(&self\) -> &'static str \{\s*\"(\w+)\"", re.S
)


def version(folder):
    return tuple(int(n) for n in folder.name.removeprefix("vrl-").split("."))


def functions(folder):
    """The names that `all()` lists, or an error if one cannot be resolved."""
    stdlib = folder / "src" / "stdlib"
    identifiers = {}
    for file in stdlib.rglob("*.rs"):
        for struct, name in IDENTIFIER.findall(file.read_text()):
            identifiers[struct] = name
    text = (stdlib / "mod.rs").read_text()
    if listed := re.search(r"stdlib_functions! \{\n(.*?)\n\s*\}\n", text, re.S):
        structs = re.findall(r"^\s*[a-z_0-9:#]+::(\w+),", listed[1], re.M)
    else:
        listed = re.search(r"pub fn all\(\).*?vec!\[(.*?)\n\s*\]", text, re.S)
        structs = re.findall(r"Box::new\((?:\w+::)*(\w+)\)", listed[1])
    return {identifiers[struct] for struct in structs}


def main():
    folders = sorted((pathlib.Path(arg) for arg in sys.argv[1:]), key=version)
    first, last, newest = {}, {}, version(folders[-1])
    for folder in folders:
        for name in functions(folder):
            first.setdefault(name, version(folder))
            last[name] = version(folder)
    versions = [".".join(map(str, version(folder))) for folder in folders]
    print("# The version of VRL in which each function of the standard library first exists.")
    print("# Made by tests/portability/functions.py from the sources of these versions:")
    for start in range(0, len(versions), 8):
        print("# " + " ".join(versions[start : start + 8]))
    print("# The oldest of them stands for all before it.")
    for name in sorted(first):
        gone = "" if last[name] == newest else " gone after " + ".".join(map(str, last[name][:2]))
        print(name, ".".join(map(str, first[name][:2])) + gone)


main()
