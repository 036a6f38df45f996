# SPDX-License-Identifier: Apache-2.0
"""The network of the forwarding benchmark: three namespaces in a row.

    client eth0 ---- up0 node up1 ---- eth0 backend
    192.168.100.10   .100.1  .101.1    192.168.101.2, endpoints 10.244.2.11 and on

The backend is another node and its pods at once: who forwards to it sees one next hop. All links
are veth; neighbours are permanent, since a sink takes the frames before anyone could answer.
"""
import json
import os
import pathlib
import subprocess

CLIENT_ADDRESSES = [f"192.168.100.{n}" for n in range(10, 18)]
NODE_ADDRESS, BACKEND_ADDRESS = "192.168.100.1", "192.168.101.2"
ENDPOINT_NETWORK, ENDPOINT_PORT = "10.244.2.0", 8080
ENDPOINTS = [f"10.244.2.{n}" for n in range(11, 15)]
FIRST_NODE_PORT = 30000
HOSTS = ("client", "node", "backend")


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class Service:
    """One of those that the cluster has; each on TCP and UDP, with all endpoints."""

    def __init__(self, number):
        self.number = number
        self.name = f"service-{number}"
        self.address = f"10.96.{number >> 8}.{number & 255}"
        self.port = 80
        self.node_port = FIRST_NODE_PORT + number


class Topology:
    def __init__(self):
        self.prefix = f"mbf{os.getpid()}"

    def name(self, host):
        return f"{self.prefix}-{host}"

    def on(self, host, *command, **options):
        return run("nsenter", f"--net=/run/netns/{self.name(host)}", *command, **options)

    def sysctl(self, host, **settings):
        for key, value in settings.items():
            self.on(host, "sysctl", "-qw", f"{key.replace('__', '/')}={value}")

    def mac(self, host, device):
        return json.loads(self.on(host, "ip", "-j", "link", "show", "dev", device))[0]["address"]

    def up(self):
        for host in HOSTS:
            run("ip", "netns", "add", self.name(host))
            self.on(host, "ip", "link", "set", "lo", "up")
        for outer, inner in (("client", "up0"), ("backend", "up1")):
            run("ip", "link", "add", "eth0", "netns", self.name(outer), "type", "veth",
                "peer", "name", inner, "netns", self.name("node"))
            self._device(outer, "eth0")
            self._device("node", inner)
        addresses = [("client", "eth0", [f"{address}/24" for address in CLIENT_ADDRESSES]),
                     ("node", "up0", [f"{NODE_ADDRESS}/24"]), ("node", "up1", ["192.168.101.1/24"]),
                     ("backend", "eth0", [f"{BACKEND_ADDRESS}/24"]),
                     ("backend", "lo", [f"{endpoint}/32" for endpoint in ENDPOINTS])]
        for host, device, values in addresses:
            for value in values:
                self.on(host, "ip", "address", "add", value, "dev", device)
        self.on("client", "ip", "route", "add", "default", "via", NODE_ADDRESS)
        self.on("backend", "ip", "route", "add", "default", "via", "192.168.101.1")
        self.on("node", "ip", "route", "add", f"{ENDPOINT_NETWORK}/24", "via", BACKEND_ADDRESS)
        self.on("node", "ip", "route", "add", "default", "via", CLIENT_ADDRESSES[0])
        self._neighbours()
        self.sysctl("node", net__ipv4__ip_forward=1)
        self.sysctl("client", net__ipv4__ip_local_port_range="1024 65000", net__ipv4__tcp_tw_reuse=1)
        self.sysctl("backend", net__core__somaxconn=4096, net__ipv4__tcp_max_syn_backlog=4096,
                    net__ipv4__tcp_max_tw_buckets=1000)

    def _device(self, host, device):
        self.on(host, "ip", "link", "set", device, "up")
        # Whole checksums, as on a wire; GRO makes the end of a veth take redirected XDP frames.
        self.on(host, "ethtool", "-K", device, "tx", "off", "gro", "on")

    def _neighbours(self):
        def permanent(host, device, address, mac):
            self.on(host, "ip", "neighbour", "replace", address, "lladdr", mac, "dev", device, "nud", "permanent")
        for address in CLIENT_ADDRESSES:
            permanent("node", "up0", address, self.mac("client", "eth0"))
        permanent("node", "up1", BACKEND_ADDRESS, self.mac("backend", "eth0"))
        permanent("client", "eth0", NODE_ADDRESS, self.mac("node", "up0"))
        permanent("backend", "eth0", "192.168.101.1", self.mac("node", "up1"))

    def down(self):
        for host in HOSTS:
            if pathlib.Path(f"/run/netns/{self.name(host)}").exists():
                run("ip", "netns", "delete", self.name(host))
