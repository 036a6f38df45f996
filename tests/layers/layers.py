#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the direction of includes between layers; see RULES. Exit status 1 names each breach.

usage: layers.py TREE          check a source tree
       layers.py --self-test   check that each rule is able to fail
"""

import pathlib
import re
import sys
import tempfile

# agent/ layers in order: each may include itself and those before it, and bpf/abi.h.
LAYERS = ["base", "source", "resolve", "plan", "kernel", "inspect", "health", "control"]
# Who may include more of bpf/: where a key belongs is worked out by one source for all.
BPF_FOR_USER_SPACE = {"agent/kernel/table_place.c": {"bpf/table.h"}}
# Files directly in agent/ (reconcile, main) are above all layers.

# What only some layers may include, as regular expressions of include names.
LIBBPF = r"(bpf/(bpf|libbpf|btf|bpf_helpers|libbpf_common)\.h|linux/bpf\.h|.*\.skel\.h)$"
SYSCALLS = r"(sys/(?!types\.h).*|unistd\.h|fcntl\.h|poll\.h|net/if\.h|netinet/.*|linux/(?!types\.h).*|libmnl/.*)$"
RESTRICTED = [
    # name, expression, layers that may
    ("libbpf", LIBBPF, {"kernel"}),
    ("system calls", SYSCALLS, set(LAYERS) - {"resolve", "plan"}),
    ("gRPC", r"grpc.*", {"control"}),
    ("YAML", r"yaml-cpp/.*", {"source"}),
    ("HTTP", r"httplib\.h$", {"health"}),
    ("Prometheus", r"prometheus/.*", {"health"}),
]

# tools/maglane may use these layers; of kernel and control only what works without a data
# plane loaded in this process.
INSPECTOR_LAYERS = {"base", "inspect", "plan"}
INSPECTOR_HEADERS = {"agent/kernel/maps.h", "agent/kernel/fd.h", "agent/control/client.h"}
# What the pure layers may take from source: the model, not how it is read.
PURE_LAYERS = {"resolve", "plan"}
SOURCE_MODEL = "agent/source/model.h"

INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', re.M)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
CONTEXT_TYPES = re.compile(r"\b(xdp_md|__sk_buff)\b")


def includes(path):
    return INCLUDE.findall(path.read_text())


def layer_of(name):
    match = re.match(r"agent/([a-z_]+)/", name)
    return match.group(1) if match else None


def check_agent_file(tree, path):
    own = path.relative_to(tree).parts[1]
    for name in includes(path):
        other = layer_of(name)
        allowed_bpf = BPF_FOR_USER_SPACE.get(str(path.relative_to(tree)), set()) | {"bpf/abi.h"}
        if name.startswith("bpf/") and (tree / name).exists() and name not in allowed_bpf:
            yield f"includes {name}: of bpf/ only abi.h is for user space"
        if other and other not in LAYERS:
            yield f"includes {name}: {other} is no layer"
        elif other and LAYERS.index(other) > LAYERS.index(own):
            yield f"includes {name}: {own} comes before {other}"
        elif other == "source" and own in PURE_LAYERS and name != SOURCE_MODEL:
            yield f"includes {name}: {own} knows of source the model alone"
        for what, expression, allowed in RESTRICTED:
            if own not in allowed and re.match(expression, name) and not (tree / name).exists():
                yield f"includes {name}: {what} belongs to {', '.join(sorted(allowed))}"


def check_agent(tree):
    for path in sorted((tree / "agent").rglob("*")):
        if path.suffix not in (".h", ".c", ".cpp"):
            continue
        own = path.relative_to(tree).parts[1]
        if path.parent == tree / "agent":
            breaches = [f"includes {name}: libbpf belongs to kernel" for name in includes(path)
                        if re.match(LIBBPF, name) and not (tree / name).exists()]
        elif own not in LAYERS:
            breaches = [f"{own} is no layer"]
        else:
            breaches = check_agent_file(tree, path)
        for breach in breaches:
            yield f"{path.relative_to(tree)}: {breach}"


def check_inspector(tree):
    for path in sorted((tree / "tools" / "maglane").rglob("*")):
        if path.suffix not in (".h", ".cpp"):
            continue
        for name in includes(path):
            layer = layer_of(name)
            if layer and layer not in INSPECTOR_LAYERS and name not in INSPECTOR_HEADERS:
                yield f"{path.relative_to(tree)}: includes {name}: not for the inspector"
            if re.match(LIBBPF, name):
                yield f"{path.relative_to(tree)}: includes {name}: libbpf belongs to agent/kernel"


def check_bpf(tree):
    """Library headers never name a kernel context type; nothing includes user space's code."""
    for path in sorted((tree / "bpf").glob("*")):
        if path.suffix not in (".h", ".c"):
            continue
        may_name = path.name.startswith("ctx_") or path.name.endswith(".bpf.c")
        found = CONTEXT_TYPES.search(COMMENT.sub("", path.read_text()))
        if found and not may_name:
            yield f"bpf/{path.name}: names {found.group(1)}: only ctx_*.h and *.bpf.c may"
        for name in includes(path):
            if name.startswith(("agent/", "tools/", "tests/")):
                yield f"bpf/{path.name}: includes {name}"
        if path.name == "abi.h" and [n for n in includes(path) if n != "linux/types.h"]:
            yield "bpf/abi.h: may include linux/types.h alone"


def check_product(tree):
    """Nothing of the product includes tests."""
    for top in ("agent", "tools"):
        for path in sorted((tree / top).rglob("*")):
            if path.suffix in (".h", ".c", ".cpp"):
                for name in includes(path):
                    if name.startswith("tests/"):
                        yield f"{path.relative_to(tree)}: includes {name}: tests are not part of the product"


def check(tree):
    return [breach for part in (check_agent, check_inspector, check_bpf, check_product) for breach in part(tree)]


# Each must be found: (file, content, words of the message).
BAD = [
    ("agent/base/a.h", '#include "agent/plan/operation.h"\n', "base comes before plan"),
    ("agent/plan/a.cpp", '#include "agent/kernel/maps.h"\n', "plan comes before kernel"),
    ("agent/resolve/a.cpp", "#include <bpf/libbpf.h>\n", "libbpf belongs to kernel"),
    ("agent/plan/a.cpp", "#include <sys/socket.h>\n", "system calls"),
    ("agent/resolve/a.cpp", "#include <unistd.h>\n", "system calls"),
    ("agent/resolve/a.cpp", '#include "agent/source/decode.h"\n', "the model alone"),
    ("agent/inspect/a.cpp", "#include <bpf/bpf.h>\n", "libbpf belongs to kernel"),
    ("agent/kernel/a.cpp", '#include "bpf/pipeline.h"\n', "only abi.h"),
    ("agent/kernel/a.c", '#include "bpf/pipeline.h"\n', "only abi.h"),
    ("agent/kernel/table_place.c", '#include "bpf/pipeline.h"\n', "only abi.h"),
    ("agent/kernel/flow_table.cpp", '#include "bpf/table.h"\n', "only abi.h"),
    ("agent/kernel/a.cpp", '#include "agent/control/server.h"\n', "kernel comes before control"),
    ("agent/inspect/a.cpp", '#include "agent/health/monitor.h"\n', "inspect comes before health"),
    ("agent/control/a.cpp", "#include <httplib.h>\n", "HTTP belongs to health"),
    ("agent/inspect/a.cpp", "#include <prometheus/registry.h>\n", "Prometheus belongs to health"),
    ("agent/model/a.cpp", "\n", "model is no layer"),
    ("agent/reconcile.cpp", "#include <bpf/libbpf.h>\n", "libbpf belongs to kernel"),
    ("agent/base/b.cpp", '#include "tests/support/packet_builder.h"\n', "not part of the product"),
    ("tools/maglane/a.cpp", '#include "agent/kernel/loader.h"\n', "not for the inspector"),
    ("bpf/flow.h", "static int f(struct xdp_md *ctx);\n", "names xdp_md"),
    ("bpf/nat.h", "static int f(struct __sk_buff *ctx);\n", "names __sk_buff"),
    ("bpf/abi.h", "#include <linux/bpf.h>\n", "linux/types.h alone"),
    ("bpf/nat.h", '#include "agent/plan/contents.h"\n', "includes agent/plan/contents.h"),
]
GOOD = [
    ("agent/plan/a.cpp", '#include <string>\n#include "agent/resolve/resolved.h"\n#include "bpf/abi.h"\n'),
    ("agent/resolve/a.cpp", '#include "agent/source/model.h"\n'),
    ("agent/kernel/a.cpp", "#include <bpf/libbpf.h>\n#include <sys/mman.h>\n"),
    ("agent/kernel/table_place.c", '#include "bpf/table.h"\n'),
    ("agent/reconcile.cpp", '#include "agent/kernel/maps.h"\n#include "agent/control/server.h"\n'),
    ("tools/maglane/a.cpp", '#include "agent/inspect/report.h"\n#include "agent/kernel/maps.h"\n'),
    ("bpf/ctx_xdp.h", "typedef struct xdp_md ctx_t;\n"),
    ("bpf/flow.h", "/* never names xdp_md */\n"),
]


def check_sample(file, content):
    with tempfile.TemporaryDirectory(prefix="maglane-layers-") as directory:
        tree = pathlib.Path(directory)
        for name in ("bpf/pipeline.h", "bpf/table.h", "bpf/abi.h", file):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text("")
        (tree / file).write_text(content)
        return check(tree)


def self_test():
    failed = False
    for file, content, words in BAD:
        found = check_sample(file, content)
        if not any(words in breach for breach in found):
            print(f"not found: {file} with {content!r}, expected a message with {words!r}, got {found}")
            failed = True
    for file, content in GOOD:
        found = check_sample(file, content)
        if found:
            print(f"wrongly found: {file} with {content!r}: {found}")
            failed = True
    return failed


def main():
    if len(sys.argv) != 2:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    if sys.argv[1] == "--self-test":
        return int(self_test())
    tree = pathlib.Path(sys.argv[1]).resolve()
    if not (tree / "agent").is_dir() or not (tree / "bpf").is_dir():
        print(f"{tree}: no source tree (no agent/ or bpf/)", file=sys.stderr)
        return 2
    breaches = check(tree)
    for breach in breaches:
        print(breach)
    return int(bool(breaches))


if __name__ == "__main__":
    sys.exit(main())
