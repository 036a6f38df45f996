# SPDX-License-Identifier: Apache-2.0
"""The network of the forwarding benchmark: three namespaces in a row.

    client eth0 ---- up0 node up1 ---- eth0 backend
    192.168.100.10   .100.1  .101.1    192.168.101.2, endpoints 10.244.2.11 and on

The backend is another node and its pods at once: who forwards to it sees one next hop. All links
are veth; neighbours are permanent, since a sink takes the frames before anyone could answer.
"""
import os
import pathlib
import subprocess

CLIENT_ADDRESSES = [f"192.168.100.{n}" for n in range(10, 18)]
NODE_ADDRESS, NODE_ADDRESS_BEHIND, BACKEND_ADDRESS = "192.168.100.1", "192.168.101.1", "192.168.101.2"
ENDPOINT_NETWORK, ENDPOINT_PORT = "10.244.2.0", 8080
ENDPOINTS = [f"10.244.2.{n}" for n in range(11, 15)]
FIRST_NODE_PORT = 30000
HOSTS = ("client", "node", "backend")
LINKS = ((("client", "eth0"), ("node", "up0")), (("backend", "eth0"), ("node", "up1")))
MACS = {end: f"02:00:00:00:00:{number:02x}" for number, end in enumerate((end for link in LINKS for end in link), 1)}


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

    def ip(self, host, *commands):
        """Commands of ip(8), all in one process: an emulated machine makes them slowly."""
        self.on(host, "ip", "-batch", "-", input="".join(f"{command}\n" for command in commands))

    def sysctl(self, host, **settings):
        self.on(host, "sysctl", "-qw", *(f"{key.replace('__', '/')}={value}" for key, value in settings.items()))

    def up(self):
        for host in HOSTS:
            run("ip", "netns", "add", self.name(host))
        for (outer, device), (node, inner) in LINKS:
            run("ip", "link", "add", device, "address", MACS[outer, device], "netns", self.name(outer), "type", "veth",
                "peer", "name", inner, "address", MACS[node, inner], "netns", self.name(node))
        for host, device in MACS:
            # Whole checksums, as on a wire; GRO makes the end of a veth take redirected XDP frames.
            self.on(host, "ethtool", "-K", device, "tx", "off", "gro", "on")
        self.ip("client", "link set lo up", "link set eth0 up",
                *(f"address add {address}/24 dev eth0" for address in CLIENT_ADDRESSES),
                f"route add default via {NODE_ADDRESS}", self._neighbour(NODE_ADDRESS, "eth0", ("node", "up0")))
        self.ip("node", "link set lo up", "link set up0 up", "link set up1 up",
                f"address add {NODE_ADDRESS}/24 dev up0", f"address add {NODE_ADDRESS_BEHIND}/24 dev up1",
                f"route add {ENDPOINT_NETWORK}/24 via {BACKEND_ADDRESS}", f"route add default via {CLIENT_ADDRESSES[0]}",
                *(self._neighbour(address, "up0", ("client", "eth0")) for address in CLIENT_ADDRESSES),
                self._neighbour(BACKEND_ADDRESS, "up1", ("backend", "eth0")))
        self.ip("backend", "link set lo up", "link set eth0 up", f"address add {BACKEND_ADDRESS}/24 dev eth0",
                *(f"address add {endpoint}/32 dev lo" for endpoint in ENDPOINTS),
                f"route add default via {NODE_ADDRESS_BEHIND}",
                self._neighbour(NODE_ADDRESS_BEHIND, "eth0", ("node", "up1")))
        self.sysctl("node", net__ipv4__ip_forward=1)
        self.sysctl("client", net__ipv4__ip_local_port_range="1024 65000", net__ipv4__tcp_tw_reuse=1)
        self.sysctl("backend", net__core__somaxconn=4096, net__ipv4__tcp_max_syn_backlog=4096,
                    net__ipv4__tcp_max_tw_buckets=1000)

    @staticmethod
    def _neighbour(address, device, whose):
        return f"neighbour replace {address} lladdr {MACS[whose]} dev {device} nud permanent"

    def down(self):
        for host in HOSTS:
            if pathlib.Path(f"/run/netns/{self.name(host)}").exists():
                run("ip", "netns", "delete", self.name(host))
