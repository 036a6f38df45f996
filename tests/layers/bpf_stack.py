#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that no chain of calls in a BPF object needs more stack than every kernel allows.

usage: bpf_stack.py OBJECT      exit status 1 names the deepest chain
       bpf_stack.py --self-test

A program and the functions that it calls share 512 bytes. Linux 6.1 rounds each frame up to 32
bytes, later ones to 16: what loads on this machine may be too large there.
"""
import re
import subprocess
import sys

LIMIT, ROUNDED_TO = 512, 32

SYMBOL = re.compile(r"^([0-9a-f]+) .{6}F (\S+)\t([0-9a-f]+)\s+(?:\.hidden )?(\w+)$")  # of llvm-objdump -t
SECTION = re.compile(r"^Disassembly of section (\S+):")
LINE = re.compile(r"^\s*(\d+):\t((?:[0-9a-f]{2} ?)+)\t(.*)")  # of llvm-objdump -d
ACCESS = re.compile(r"\(r10 - (0x[0-9a-f]+|\d+)\)")  # *(u64 *)(r10 - 16)
COPY, MOVE = re.compile(r"\b(r\d) = r10$"), re.compile(r"\b(r\d) \+= -(0x[0-9a-f]+|\d+)$")
CALL, BPF_PSEUDO_CALL = re.compile(r"^call (-?\d+)$"), "85 10"  # a helper's has 0 as its source register
RELOCATED = re.compile(r"^Relocation section '\.rel(\S+)'")  # of llvm-readelf -r
RELOCATION = re.compile(r"^([0-9a-f]+)\s+[0-9a-f]+\s+R_BPF_64_32\s+([0-9a-f]+)")
# The address of a function in .text, for a helper that calls it (bpf_loop).
POINTER_RELOCATION = re.compile(r"^([0-9a-f]+)\s+[0-9a-f]+\s+R_BPF_64_64\s+([0-9a-f]+)\s+(\S+)")
POINTER = re.compile(r"^r\d = (0x[0-9a-f]+|\d+) ll")
INSTRUCTION = 8  # bytes


class Function:
    def __init__(self, name, section, start, size):
        self.name, self.section, self.start, self.end = name, section, start, start + size
        self.own, self.calls = 0, set()  # bytes of stack; (section, address)


def call_targets(relocations):
    """{(section, address of the call): address in .text that the symbol has}"""
    result, section = {}, None
    for line in relocations.splitlines():
        if match := RELOCATED.match(line):
            section = match[1]
        elif match := RELOCATION.match(line):
            result[section, int(match[1], 16)] = int(match[2], 16)
    return result


def pointers(relocations):
    """{(section, address of the load): address in .text that the symbol has}, of .text itself and what is not data"""
    result, section = {}, None
    for line in relocations.splitlines():
        if match := RELOCATED.match(line):
            section = match[1]
        elif match := POINTER_RELOCATION.match(line):
            if match[3] == ".text":
                result[section, int(match[1], 16)] = int(match[2], 16)
    return result


def functions(listing, symbols, relocations):
    """{(section, address): Function}. By address, since each program's object has functions of the same
    names, and within their sizes, since linking leaves code that nothing calls between them."""
    result = {}
    for line in symbols.splitlines():
        if match := SYMBOL.match(line):
            start = int(match[1], 16)
            result[match[2], start] = Function(match[4], match[2], start, int(match[3], 16))
    targets, callbacks = call_targets(relocations), pointers(relocations)
    section, function, copies = None, None, set()
    for line in listing.splitlines():
        if match := SECTION.match(line):
            section, function = match[1], None
        if not (match := LINE.match(line.rstrip())):
            continue
        address = int(match[1]) * INSTRUCTION
        if (section, address) in result:
            function, copies = result[section, address], set()
        if function and address < function.end:
            _add_stack(function, copies, match[3])
            if match[2].startswith(BPF_PSEUDO_CALL):
                # Relative to the next instruction, or to that before the symbol, which may be the section's.
                place, base = (section, address) if (section, address) not in targets else \
                    (".text", targets[section, address])
                function.calls.add((place, base + (int(CALL.match(match[3])[1]) + 1) * INSTRUCTION))
            elif (section, address) in callbacks and (pointer := POINTER.match(match[3])):
                function.calls.add((".text", callbacks[section, address] + int(pointer[1], 0)))
    return result


def _add_stack(function, copies, text):
    """What one instruction needs of it."""
    for offset in ACCESS.findall(text):
        function.own = max(function.own, int(offset, 0))
    if match := COPY.search(text):
        copies.add(match[1])
    elif (match := MOVE.search(text)) and match[1] in copies:
        copies.remove(match[1])
        function.own = max(function.own, int(match[2], 0))


def deepest(function, of):
    """(bytes, chain of names with their own bytes)"""
    below = max((deepest(of[called], of) for called in function.calls), default=(0, []))
    frame = (max(function.own, 1) + ROUNDED_TO - 1) // ROUNDED_TO * ROUNDED_TO
    return frame + below[0], [f"{function.name} ({function.own})"] + below[1]


def check(listing, symbols, relocations):
    of = functions(listing, symbols, relocations)
    return max((deepest(function, of) for function in of.values()), default=(0, []))


def self_test():
    symbols = """\
0000000000000000 l     F .text\t0000000000000008 inner
0000000000000010 g     F .text\t0000000000000008 inner
0000000000000000 g     F xdp\t0000000000000020 outer
"""
    listing = """\
Disassembly of section .text:
0000000000000000 <inner>:
       0:\t7b 1a b8 ff 00 00 00 00\t*(u64 *)(r10 - {inner}) = r1
       1:\t7b 1a 00 ff 00 00 00 00\t*(u64 *)(r10 - 480) = r1
0000000000000010 <inner>:
       2:\t7b 1a 00 ff 00 00 00 00\t*(u64 *)(r10 - 400) = r1
Disassembly of section xdp:
0000000000000000 <outer>:
       0:\tbf a2 00 00 00 00 00 00\tr2 = r10
       1:\t07 02 00 00 00 00 00 00\tr2 += -{outer}
       2:\t85 00 00 00 01 00 00 00\tcall 1
       3:\t85 10 00 00 00 00 00 00\tcall {call}
"""
    relocations = """\
Relocation section '.relxdp' at offset 0x40 contains 1 entries:
0000000000000018  000003d80000000a R_BPF_64_32            0000000000000000 inner
"""

    def checked(**values):
        return check(listing.format(**{"inner": 72, "outer": 416, "call": -1} | values), symbols, relocations)
    def checked_with(instruction, relocation):
        lines = listing.format(inner=72, outer=416, call=-1).replace("85 10 00 00 00 00 00 00\tcall -1", instruction)
        return check(lines, symbols, f"Relocation section '.relxdp' at offset 0x40 contains 1 entries:\n{relocation}")[1]
    assert checked() == (LIMIT, ["outer (416)", "inner (72)"])
    assert checked(outer=417)[0] > LIMIT
    assert checked(inner=97)[0] > LIMIT
    assert checked(call=1)[1] == ["outer (416)", "inner (400)"]  # another of the same name
    callback = checked_with("18 02 00 00 10 00 00 00\tr2 = 0x10 ll", "0000000000000018  0000000200000001 R_BPF_64_64 0000000000000000 .text")
    assert callback == ["outer (416)", "inner (400)"]


def tool(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    needed, chain = check(tool("llvm-objdump", "-d", sys.argv[1]),
                          tool("llvm-objdump", "-t", sys.argv[1]), tool("llvm-readelf", "-r", "--wide", sys.argv[1]))
    print(f"{needed} of {LIMIT} bytes: {' -> '.join(chain)}")
    return 0 if 0 < needed <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
