# SPDX-License-Identifier: Apache-2.0
"""What can serve the services at the node: maglane, and the peers that it is compared with. Each
peer is set up as kube-proxy's mode of that name does it: a new connection to a node port is sent
to an endpoint chosen at random, from the node's own address; what follows is connection tracking's."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from topology import BACKEND_ADDRESS, ENDPOINT_PORT, ENDPOINTS, MACS, NODE_ADDRESS

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("MAGLANE_BUILD", ROOT / "build/release"))
MASQUERADE = "0x4000"


class Unavailable(Exception):
    """This kernel or machine lacks what the peer needs."""


class Routing:
    """None at all: the client sends to an endpoint itself."""
    name = "none"
    measures_tcp = True

    def start(self, topology, services):
        pass

    def stop(self):
        pass

    def target(self, _service):
        return ENDPOINTS[0], ENDPOINT_PORT

    def udp_options(self, _topology):
        return []


class Redirect(Routing):
    """The same by a program at XDP that does nothing else: what frames of this network cost anyway."""
    name = "redirect"
    measures_tcp = False

    def udp_options(self, topology):
        return ["--redirect-at", topology.name("node"), "--redirect-from", "up0", "--redirect-to", "up1",
                "--redirect-mac", MACS["backend", "eth0"]]


class Balancer(Routing):
    def target(self, service):
        return NODE_ADDRESS, service.node_port


class Nftables(Balancer):
    name = "nftables"

    def start(self, topology, services):
        rules = ["table ip services {", "map cluster_ips { type ipv4_addr . inet_proto . inet_service : verdict",
                 "elements = {" + ", ".join(f"{s.address} . {protocol} . {s.port} : goto {s.name}"
                                            for s in services for protocol in ("tcp", "udp")) + "} }",
                 "map node_ports { type inet_proto . inet_service : verdict",
                 "elements = {" + ", ".join(f"{protocol} . {s.node_port} : goto outside-{s.name}"
                                            for s in services for protocol in ("tcp", "udp")) + "} }"]
        chains = []
        for service in services:
            choices = ", ".join(f"{i} : goto {service.name}-{i}" for i in range(len(ENDPOINTS)))
            chains.append(f"chain outside-{service.name} {{ meta mark set meta mark or {MASQUERADE}; "
                          f"goto {service.name}; }}")
            chains.append(f"chain {service.name} {{ numgen random mod {len(ENDPOINTS)} vmap {{ {choices} }}; }}")
            chains += [f"chain {service.name}-{i} {{ meta l4proto {{ tcp, udp }} dnat to {endpoint}:{ENDPOINT_PORT}; }}"
                       for i, endpoint in enumerate(ENDPOINTS)]
        chains += [
            "chain services { ip daddr . meta l4proto . th dport vmap @cluster_ips;"
            f" ip daddr {NODE_ADDRESS} meta l4proto . th dport vmap @node_ports; }}",
            "chain prerouting { type nat hook prerouting priority dstnat; jump services; }",
            "chain output { type nat hook output priority -100; jump services; }",
            "chain postrouting { type nat hook postrouting priority srcnat;"
            f" meta mark and {MASQUERADE} == {MASQUERADE} masquerade fully-random; }}"]
        # Maps name chains: these come first, empty.
        names = [chain.split()[1] for chain in chains if "type nat" not in chain]
        empty = ["table ip services {"] + [f"chain {name} {{ }}" for name in names] + ["}"]
        try:
            topology.on("node", "nft", "-f", "-", input="\n".join(empty + rules + chains + ["}"]))
        except (RuntimeError, FileNotFoundError) as error:
            raise Unavailable(f"nftables: {error}") from error


class Iptables(Balancer):
    name = "iptables"

    def _lines(self, services):
        yield "*nat"
        yield from (":SERVICES -", ":NODEPORTS -")
        for s in services:
            yield from (f":SVC-{s.number} -", f":EXT-{s.number} -")
            yield from (f":SEP-{s.number}-{i} -" for i in range(len(ENDPOINTS)))
        yield from ("-A PREROUTING -j SERVICES", "-A OUTPUT -j SERVICES",
                    f"-A POSTROUTING -m mark --mark {MASQUERADE}/{MASQUERADE} -j MASQUERADE --random-fully")
        for s in services:
            for protocol in ("tcp", "udp"):
                yield f"-A SERVICES -d {s.address}/32 -p {protocol} -m {protocol} --dport {s.port} -j SVC-{s.number}"
                yield f"-A NODEPORTS -p {protocol} -m {protocol} --dport {s.node_port} -j EXT-{s.number}"
            yield f"-A EXT-{s.number} -j MARK --set-xmark {MASQUERADE}/{MASQUERADE}"
            yield f"-A EXT-{s.number} -j SVC-{s.number}"
            for i, endpoint in enumerate(ENDPOINTS):
                left = len(ENDPOINTS) - i
                chance = f"-m statistic --mode random --probability {1 / left:.8f} " if left > 1 else ""
                yield f"-A SVC-{s.number} {chance}-j SEP-{s.number}-{i}"
                for protocol in ("tcp", "udp"):
                    yield (f"-A SEP-{s.number}-{i} -p {protocol} -m {protocol} "
                           f"-j DNAT --to-destination {endpoint}:{ENDPOINT_PORT}")
        yield "-A SERVICES -m addrtype --dst-type LOCAL -j NODEPORTS"
        yield "COMMIT"

    def start(self, topology, services):
        try:
            topology.on("node", "iptables-restore", input="\n".join(self._lines(services)) + "\n")
        except (RuntimeError, FileNotFoundError) as error:
            raise Unavailable(f"iptables: {error}") from error


def kernel_has_ipvs():
    for module in ("ip_vs", "ip_vs_mh", "nf_conntrack", "dummy"):
        subprocess.run(["modprobe", "-q", module], check=False)
    return pathlib.Path("/proc/net/ip_vs").exists()


class Ipvs(Balancer):
    """With Maglev hashing over address and port, which is the nearest to what maglane does."""
    name = "ipvs"

    def start(self, topology, services):
        if not kernel_has_ipvs():
            raise Unavailable("ipvs: this kernel has no ip_vs")
        lines = []
        for service in services:
            for address, port in ((service.address, service.port), (NODE_ADDRESS, service.node_port)):
                for flag in ("-t", "-u"):
                    lines.append(f"-A {flag} {address}:{port} -s mh -b mh-port")
                    lines += [f"-a {flag} {address}:{port} -r {endpoint}:{ENDPOINT_PORT} -m" for endpoint in ENDPOINTS]
        try:
            # As kube-proxy does it: the addresses are local ones, connections are tracked to be masqueraded.
            topology.ip("node", "link add kube-ipvs0 type dummy",
                        *(f"address add {service.address}/32 dev kube-ipvs0" for service in services))
            topology.on("node", "ipvsadm", "-R", input="\n".join(lines) + "\n")
            topology.sysctl("node", net__ipv4__vs__conntrack=1)
            topology.on("node", "nft", "-f", "-", input="table ip ipvs { chain postrouting {"
                        " type nat hook postrouting priority srcnat;"
                        f" ip daddr {{ {', '.join(ENDPOINTS)} }} masquerade fully-random; }}; }}")
        except (RuntimeError, FileNotFoundError) as error:
            raise Unavailable(f"ipvs: {error}") from error


class Maglane(Balancer):
    def __init__(self, xdp):
        self.xdp, self.name = xdp, f"maglane {'tc' if xdp == 'off' else xdp}"
        self.agent = self.scratch = None
        self.more, self.objects = [], objects  # flags of the agent; what makes the manifests

    def _environment(self):
        return {**os.environ, "MAGLANE_BPFFS": self.bpffs, "MAGLANE_SOCKET": f"{self.scratch}/socket"}

    def start(self, topology, services):
        self.topology = topology
        self.bpffs = f"/sys/fs/bpf/{topology.prefix}"
        self.scratch = tempfile.mkdtemp()
        manifests = pathlib.Path(self.scratch) / "manifests"
        manifests.mkdir()
        objects_file = {"apiVersion": "v1", "kind": "List", "items": self.objects(services)}
        (manifests / "all.json").write_text(json.dumps(objects_file))
        with open(f"{self.scratch}/log", "w") as log:
            self.agent = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{topology.name('node')}", BUILD / "bin/maglane-agent",
                 "--node-name", "node", "--manifests", manifests, "--uplink", "up0", "--uplink", "up1",
                 "--pod-cidr", "10.244.0.0/16", "--service-cidr", "10.96.0.0/16", "--xdp", self.xdp, *self.more],
                env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            topology.on("node", BUILD / "bin/maglane", "status", "--wait", "60", env=self._environment())
            self._check_mode()
        except RuntimeError as error:
            text = pathlib.Path(f"{self.scratch}/log").read_text()
            raise RuntimeError(f"{error}\n{text[-2000:]}") from error

    def _check_mode(self):
        """That the programs are attached as asked for, without which the figure would lie."""
        if self.xdp == "off":
            return
        for device in ("up0", "up1"):
            link = json.loads(self.topology.on("node", "ip", "-j", "-d", "link", "show", "dev", device))[0]
            mode = {1: "native", 2: "generic"}.get(link.get("xdp", {}).get("mode"), "none")
            if mode != self.xdp:
                raise RuntimeError(f"{device} has XDP {mode}, not {self.xdp}")

    def stop(self):
        if self.agent:
            self.agent.send_signal(signal.SIGTERM)
            try:
                self.agent.wait(20)
            except subprocess.TimeoutExpired:
                self.agent.kill()
                self.agent.wait()
            self.agent = None
            self.topology.on("node", BUILD / "bin/maglane-agent", "--cleanup", env=self._environment())
        if self.scratch:
            shutil.rmtree(self.scratch)
            self.scratch = None


def objects(services):
    """The services as Kubernetes has them."""
    result = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                  "status": {"addresses": [{"type": "InternalIP", "address": address}]}}
                 for name, address in (("node", NODE_ADDRESS), ("backend", BACKEND_ADDRESS))]
    for service in services:
        ports = [{"name": protocol.lower(), "protocol": protocol, "port": service.port, "nodePort": service.node_port,
                  "targetPort": ENDPOINT_PORT} for protocol in ("TCP", "UDP")]
        result.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service.name, "namespace": "bench"},
                          "spec": {"type": "NodePort", "clusterIP": service.address, "clusterIPs": [service.address],
                                   "ports": ports}})
        result.append({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": f"{service.name}-1", "namespace": "bench",
                         "labels": {"kubernetes.io/service-name": service.name}},
            "ports": [{"name": port["name"], "protocol": port["protocol"], "port": ENDPOINT_PORT} for port in ports],
            "endpoints": [{"addresses": [endpoint], "nodeName": "backend", "conditions": {"ready": True}}
                          for endpoint in ENDPOINTS]})
    return result


MAGLANE = [Maglane("native"), Maglane("generic"), Maglane("off")]
PEERS = {peer.name: peer for peer in (Routing(), Redirect(), Nftables(), Iptables(), Ipvs())}
