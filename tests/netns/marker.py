# SPDX-License-Identifier: Apache-2.0
"""Tells when what was written into the agents' directory is in force."""
import itertools

from lab import NODES, eventually

FILE = "marker.yaml"
_numbers = itertools.count(1)


class Marker:
    """A service that nobody uses. Its old name goes from the maps when all the rest of an update
    is in them, since what is no longer needed goes last."""

    def __init__(self, lab, directory):
        self.lab, self.directory, self.name = lab, directory, None

    def settle(self):
        """Until everything that was written before is in force on every node."""
        old, self.name = self.name, f"marker-{next(_numbers)}"
        self.directory.rename_over(FILE, f"""
            {{apiVersion: v1, kind: Service, metadata: {{name: {self.name}, namespace: test}},
             spec: {{clusterIP: 10.96.254.1, ports: [{{port: 1}}]}}}}""")
        for node in NODES:
            eventually(lambda: self._in_force(node, old), 10, f"{node} follows the manifests")

    def _in_force(self, node, old):
        names = {s["name"] for s in self.lab.maglane(node, "service", "list").get("services", [])}
        return self.name in names and old not in names

    def remove(self):
        self.settle()
        self.directory.remove(FILE)
