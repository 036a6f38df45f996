# SPDX-License-Identifier: Apache-2.0
"""Reads the packet-tracer table, tests/contract/*.trace; its README.md has the format."""
import dataclasses
import ipaddress
import re

from lab import ADDRESSES, IPV6, ROOT

PORT = 8080  # of the pods' servers
RESULTS = ("DROP", "REJECT", "PASS", "SAME")
LINE = re.compile(r"(?:#(?P<connection>\S+)\s+)?(?P<source>\S+)\s+(?:via\s+(?P<via>\S+)\s+)?"
                  r"(?P<destination>\S+):(?P<port>\d+)/(?P<protocols>[a-z,]+)\s+->\s+(?P<result>.*)")
SET = re.compile(r"\{(?P<endpoints>[^}]*)\}\s*(?:\[masq(?P<some>:[^\]]*)?\])?")


def words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


@dataclasses.dataclass
class Line:
    number: int
    text: str
    connection: str
    source: str
    via: str
    destination: str
    port: int
    protocols: list
    result: str       # one of RESULTS, or "" where endpoints answer
    one_of: bool      # one of them has all connections
    name: str         # of that one
    endpoints: dict   # name: whether it sees the node's address


@dataclasses.dataclass
class Step:
    objects: dict = dataclasses.field(default_factory=dict)  # file: text; None: removed
    lines: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Case:
    points: tuple
    title: str
    steps: list


class File:
    def __init__(self, path):
        self.name = path.stem
        self.objects, self.options, self.cases = {}, [], []
        self.names = {host: dict(zip((4, 6), pair)) for host, pair in ADDRESSES.items()}
        self._into, self._section = None, None
        for number, text in enumerate(path.read_text().splitlines(), 1):
            try:
                self._read(number, text)
            except (ValueError, AttributeError, IndexError) as error:
                raise ValueError(f"{path}:{number}: {text!r}: {error}") from error

    def address(self, name, family):
        """Of a name or a literal; None: the line is not for this family."""
        version = 6 if family == IPV6 else 4
        if name in self.names:
            return self.names[name].get(version)
        literal = ipaddress.ip_address(name.strip("[]"))
        return str(literal) if literal.version == version else None

    def _read(self, number, text):
        if text.startswith("== ") or text.startswith("-- "):
            self._into = None
            (self._heading if text[0] == "=" else self._part)(text[3:].strip())
        elif self._into:
            objects, name = self._into
            objects[name] += text + "\n"
        elif text.strip() and text.strip() != "#" and not text.strip().startswith("# "):
            self._content(number, text.strip())

    def _heading(self, text):
        self._section = text
        if text.startswith("objects "):
            self._begin_objects(text[8:], self.objects)
        elif text.startswith("["):
            points, title = re.fullmatch(r"\[([\d, ]+)\]\s*(.+)", text).groups()
            self.cases.append(Case(tuple(map(int, words(points))), title, [Step()]))
            self._section = "lines"

    def _part(self, text):
        steps = self.cases[-1].steps
        if text == "traces":
            return
        if steps[-1].lines:
            steps.append(Step())
        verb, name = text.split(maxsplit=1)
        if verb == "remove":
            steps[-1].objects[name] = None
        else:
            self._begin_objects(name, steps[-1].objects)

    def _begin_objects(self, text, objects):
        name, _, path = (part.strip() for part in text.partition("="))
        objects[name] = (ROOT / path).read_text() if path else ""
        self._into = None if path else (objects, name)

    def _content(self, number, text):
        if self._section == "names":
            name, addresses = text.split("=")
            self.names[name.strip()] = {ipaddress.ip_address(a).version: a for a in words(addresses)}
        elif self._section == "options":
            self.options.append(text)
        else:
            self.cases[-1].steps[-1].lines.append(self._line(number, text))

    @staticmethod
    def _line(number, text):
        found = LINE.fullmatch(text)
        result, _, name = found["result"].partition(" AS ")
        one_of, result = result.startswith("ONE OF "), result.removeprefix("ONE OF ").strip()
        endpoints = {}
        if result not in RESULTS:
            members = SET.fullmatch(result)
            names, some = words(members["endpoints"]), members["some"]
            every = "[masq]" in result
            endpoints = {one: every or one in words((some or ":")[1:]) for one in names}
            result = ""
        return Line(number, text, found["connection"], found["source"], found["via"], found["destination"],
                    int(found["port"]), [p.upper() for p in words(found["protocols"])], result, one_of, name.strip(), endpoints)


def read_all():
    return [File(path) for path in sorted((ROOT / "tests/contract").glob("*.trace"))]
