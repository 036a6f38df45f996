# SPDX-License-Identifier: Apache-2.0
"""Kubernetes objects for the lab, and the directory that its agents watch."""
import json
import os
import pathlib

from lab import ADDRESSES, IPV6, node_of

WEB_PODS = ("pod-a1", "pod-a2", "pod-b1", "pod-b2")


def service_address(number, family):
    return f"fd00:10:96::{number:x}" if family == IPV6 else f"10.96.1.{number}"


def service(name, number, pods, node_port=0, port=80, protocols=("TCP", "UDP")):
    """A dual-stack Service and its EndpointSlices. `number` makes its address."""
    ports = [{"name": protocol.lower(), "protocol": protocol, "port": port, "targetPort": 8080}
             | ({"nodePort": node_port} if node_port else {}) for protocol in protocols]
    objects = [{
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "test"},
        "spec": {
            "type": "NodePort" if node_port else "ClusterIP",
            "clusterIP": service_address(number, 4),
            "clusterIPs": [service_address(number, 4), service_address(number, IPV6)],
            "ports": ports,
        },
    }]
    for index, family in enumerate(("IPv4", "IPv6")):
        objects.append({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": f"{name}-{family.lower()}", "namespace": "test",
                         "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": p["name"], "protocol": p["protocol"], "port": 8080} for p in ports],
            "endpoints": [{"addresses": [ADDRESSES[pod][index]], "nodeName": node_of(pod),
                           "conditions": {"ready": True}} for pod in pods],
        })
    return objects


class Directory:
    def __init__(self, path):
        self.path = pathlib.Path(path)

    def _text(self, objects):
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=1)

    def write(self, name, objects):
        """In place, as an editor that truncates does. `objects` may be a text to write as it is."""
        text = objects if isinstance(objects, str) else self._text(objects)
        (self.path / name).write_text(text)

    def rename_over(self, name, objects):
        """By a new file renamed over the old one, as careful programs do."""
        text = objects if isinstance(objects, str) else self._text(objects)
        fresh = self.path / f".{name}.new"
        fresh.write_text(text)
        os.rename(fresh, self.path / name)

    def remove(self, name):
        (self.path / name).unlink()
