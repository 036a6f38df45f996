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

FUNCTION = re.compile(r"^[0-9a-f]+ <(?!LBB)(\w+)>:")
ACCESS = re.compile(r"\(r10 - (0x[0-9a-f]+|\d+)\)")  # of llvm-objdump: *(u64 *)(r10 - 16)
COPY, MOVE = re.compile(r"\b(r\d) = r10$"), re.compile(r"\b(r\d) \+= -(0x[0-9a-f]+|\d+)$")
CALL = re.compile(r"R_BPF_64_32\s+(\w+)")


def functions(listing):
    """{name: (bytes of its own, names that it calls)}"""
    result, name, copies = {}, None, set()
    for line in listing.splitlines():
        line = line.rstrip()
        if match := FUNCTION.match(line):
            name, copies = match[1], set()
            result[name] = [0, set()]
        if name is None:
            continue
        for offset in ACCESS.findall(line):
            result[name][0] = max(result[name][0], int(offset, 0))
        if match := COPY.search(line):
            copies.add(match[1])
        elif (match := MOVE.search(line)) and match[1] in copies:
            copies.remove(match[1])
            result[name][0] = max(result[name][0], int(match[2], 0))
        if match := CALL.search(line):
            result[name][1].add(match[1])
    return result


def deepest(name, of):
    """(bytes, chain of names with their own bytes)"""
    own, calls = of[name]
    below = max((deepest(called, of) for called in calls if called in of), default=(0, []))
    frame = (max(own, 1) + ROUNDED_TO - 1) // ROUNDED_TO * ROUNDED_TO
    return frame + below[0], [f"{name} ({own})"] + below[1]


def check(listing):
    of = functions(listing)
    return max((deepest(name, of) for name in of), default=(0, []))


def self_test():
    listing = """0000 <outer>:
       0:\tr2 = r10
       1:\tr2 += -{}
\t\t0008:  R_BPF_64_32\tinner
0010 <inner>:
0018 <LBB1_1>:
       2:\t*(u64 *)(r10 - 72) = r1
"""
    assert check(listing.format(416)) == (LIMIT, ["outer (416)", "inner (72)"])
    assert check(listing.format(417))[0] > LIMIT


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    listing = subprocess.run(["llvm-objdump", "-d", "-r", "--no-show-raw-insn", sys.argv[1]], check=True,
                             capture_output=True, text=True).stdout
    needed, chain = check(listing)
    print(f"{needed} of {LIMIT} bytes: {' -> '.join(chain)}")
    return 0 if 0 < needed <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
