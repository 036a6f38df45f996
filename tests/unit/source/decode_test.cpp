// SPDX-License-Identifier: Apache-2.0
#include "agent/source/decode.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/snapshot.pb.h"

namespace maglane {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> lines_of(const DecodedFile& file) {
  std::vector<std::string> lines;
  for (const auto& complaint : file.complaints) lines.push_back(complaint.where + ": " + complaint.message);
  return lines;
}

std::vector<std::string> objects_of(const DecodedFile& file) {
  std::vector<std::string> ids;
  for (const auto& [id, object] : file.objects)
    ids.push_back(id.to_string() + (object.message ? "" : " refused"));
  return ids;
}

template <typename T>
const T& get(const DecodedFile& file, Kind kind, const std::string& namespace_name, const std::string& name) {
  return dynamic_cast<const T&>(*file.objects.at({kind, {namespace_name, name}}).message);
}

constexpr char kService[] = R"(apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web, "tier": 'front'}, creationTimestamp: 2024-01-02T03:04:05Z}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, "fd00::10"]
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}
  publishNotReadyAddresses: true
  selector: {app: web}
  ports:
  - name: http
    port: 80
    targetPort: web
    nodePort: 30080
    protocol: TCP
  - {name: dns, port: 53, protocol: UDP}
status:
  loadBalancer: {ingress: [{ip: 192.0.2.7, ipMode: VIP}]}
)";

constexpr char kSlice[] = R"(apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
endpoints:
- addresses: ["fd00::1:1"]
  conditions: {ready: false, serving: yes, terminating: true}
  nodeName: node-a
  zone: z1
  hints: {forZones: [{name: z1}], forNodes: [{name: node-a}]}
- addresses: ["fd00::1:2"]
ports:
- {name: http, port: 8080}
)";

TEST(Decode, Service) {
  const auto file = decode_manifest(kService, "f.yaml");
  ASSERT_THAT(lines_of(file), IsEmpty());
  const auto& service = get<v1::Service>(file, Kind::service, "default", "web");
  EXPECT_EQ(service.metadata().creation_timestamp(), "2024-01-02T03:04:05Z");
  EXPECT_EQ(service.metadata().labels().at("tier"), "front");
  EXPECT_EQ(service.spec().type(), "NodePort");
  EXPECT_EQ(service.spec().cluster_ip(), "10.96.0.10");
  EXPECT_EQ(service.spec().cluster_ips(1), "fd00::10");
  EXPECT_EQ(service.spec().session_affinity_config().client_ip().timeout_seconds(), 600);
  EXPECT_TRUE(service.spec().publish_not_ready_addresses());
  ASSERT_EQ(service.spec().ports_size(), 2);
  EXPECT_EQ(service.spec().ports(0).node_port(), 30080);
  EXPECT_EQ(service.spec().ports(1).protocol(), "UDP");
  EXPECT_FALSE(service.spec().ports(1).protocol().empty());
  EXPECT_EQ(service.status().load_balancer().ingress(0).ip(), "192.0.2.7");
}

TEST(Decode, EndpointSlice) {
  const auto file = decode_manifest(kSlice, "f.yaml");
  ASSERT_THAT(lines_of(file), IsEmpty());
  const auto& slice = get<v1::EndpointSlice>(file, Kind::endpoint_slice, "shop", "web-1");
  ASSERT_EQ(slice.endpoints_size(), 2);
  const auto& first = slice.endpoints(0);
  EXPECT_TRUE(first.conditions().has_ready() && !first.conditions().ready());
  EXPECT_TRUE(first.conditions().serving() && first.conditions().terminating());
  EXPECT_EQ(first.hints().for_zones(0).name(), "z1");
  EXPECT_EQ(first.hints().for_nodes(0).name(), "node-a");
  EXPECT_FALSE(slice.endpoints(1).conditions().has_ready());
  EXPECT_EQ(slice.ports(0).port(), 8080);
}

TEST(Decode, Node) {
  const auto file = decode_manifest(R"(apiVersion: v1
kind: Node
metadata: {name: node-a.example.org}
spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, "fd00:1::/64"]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: Hostname, address: node-a}]}
)",
                                    "f.yaml");
  ASSERT_THAT(lines_of(file), IsEmpty());
  const auto& node = get<v1::Node>(file, Kind::node, "", "node-a.example.org");
  EXPECT_EQ(node.spec().pod_cidrs(1), "fd00:1::/64");
  EXPECT_EQ(node.status().addresses(1).address(), "node-a");
}

TEST(Decode, JsonSaysTheSame) {
  const char* json = R"({
	"apiVersion": "v1", "kind": "Service",
	"metadata": {"name": "web", "annotations": {"note": "\ud83d\ude00 \"\/\u00fc\" \\ud83d"}},
	"spec": {"clusterIP":"10.96.0.10","ports":[{"port":80,"nodePort":0}]}
})";
  const auto file = decode_manifest(json, "f.json");
  ASSERT_THAT(lines_of(file), IsEmpty());
  const auto& service = get<v1::Service>(file, Kind::service, "default", "web");
  EXPECT_EQ(service.spec().ports(0).port(), 80);
  EXPECT_EQ(service.metadata().annotations().at("note"), "😀 \"/ü\" \\ud83d");
}

TEST(Decode, SeveralDocumentsAndEmptyOnes) {
  const auto file =
      decode_manifest(std::string("---\n# nothing\n---\n") + kService + "---\n" + kSlice + "---\n", "f.yaml");
  EXPECT_THAT(lines_of(file), IsEmpty());
  EXPECT_THAT(objects_of(file), ElementsAre("Service default/web", "EndpointSlice shop/web-1"));
  EXPECT_TRUE(decode_manifest("", "f.yaml").parsed);
  EXPECT_TRUE(decode_manifest("# only a comment\n", "f.yaml").parsed);
}

TEST(Decode, ListsOfEveryForm) {
  const auto file = decode_manifest(R"(
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: a}}
- {apiVersion: v1, kind: Pod, metadata: {name: p}}
- apiVersion: v1
  kind: List
  items: [{apiVersion: v1, kind: Node, metadata: {name: n}}]
---
apiVersion: v1
kind: ServiceList
items: [{metadata: {name: b}}, {apiVersion: v1, kind: Service, metadata: {name: c}}]
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSliceList, items: [{metadata: {name: e}, addressType: IPv4}]}
---
{apiVersion: v1, kind: NodeList, items: [{metadata: {name: m}}]}
---
{apiVersion: v1, kind: List, items: null}
---
{apiVersion: v1, kind: PodList, items: [{metadata: {name: x}}]}
)",
                                    "f.yaml");
  EXPECT_THAT(lines_of(file), IsEmpty());
  EXPECT_THAT(objects_of(file), ElementsAre("Service default/a", "Service default/b", "Service default/c",
                                            "EndpointSlice default/e", "Node m", "Node n"));
}

TEST(Decode, SkipsForeignKindsSilently) {
  const auto file = decode_manifest(R"(
{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {ports: [{port: 70000}]}}
---
{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: k}}
---
{resources: [a.yaml, b.yaml]}
---
{apiVersion: v1, kind: ConfigMap, data: {a: a, a: b}}
)",
                                    "f.yaml");
  EXPECT_THAT(lines_of(file), IsEmpty());
  EXPECT_THAT(objects_of(file), IsEmpty());
  EXPECT_TRUE(file.parsed);
}

TEST(Decode, AnchorsAliasesAndMergeKeys) {
  const auto file = decode_manifest(R"(
apiVersion: v1
kind: Service
metadata: &m {name: a}
spec:
  clusterIP: 10.0.0.1
  ports:
  - &p {name: x, port: 80, protocol: UDP}
  - {<<: *p, name: y, port: 81}
---
apiVersion: v1
kind: Service
metadata: &n {name: b}
---
{apiVersion: v1, kind: Service, metadata: {<<: [{name: c}, {name: d, namespace: e}]}}
)",
                                    "f.yaml");
  EXPECT_THAT(lines_of(file), IsEmpty());
  EXPECT_THAT(objects_of(file), ElementsAre("Service default/a", "Service default/b", "Service e/c"));
  const auto& port = get<v1::Service>(file, Kind::service, "default", "a").spec().ports(1);
  EXPECT_EQ(port.name(), "y");
  EXPECT_EQ(port.port(), 81);
  EXPECT_EQ(port.protocol(), "UDP");
}

TEST(Decode, AMergedKeyYieldsToTheMappingsOwn) {
  const auto file = decode_manifest(R"(
x: &l {app: merged, tier: merged}
---
x: &l {app: merged, tier: merged}
apiVersion: v1
kind: Service
metadata: {name: a, labels: {app: own, <<: *l}}
)",
                                    "f.yaml");
  ASSERT_THAT(lines_of(file), ElementsAre());
  const auto& labels = get<v1::Service>(file, Kind::service, "default", "a").metadata().labels();
  EXPECT_EQ(labels.at("app"), "own");
  EXPECT_EQ(labels.at("tier"), "merged");
}

TEST(Decode, WritesOfNumbers) {
  const auto port = [](const std::string& text) {
    const auto file = decode_manifest(
        "{apiVersion: v1, kind: Service, metadata: {name: w}, spec: {ports: [{port: " + text + "}]}}",
        "f.yaml");
    return file.complaints.empty()
               ? get<v1::Service>(file, Kind::service, "default", "w").spec().ports(0).port()
               : -1;
  };
  EXPECT_EQ(port("80"), 80);
  EXPECT_EQ(port("+80"), 80);
  EXPECT_EQ(port("0x50"), 80);
  EXPECT_EQ(port("0o120"), 80);
  EXPECT_EQ(port("0120"), 80);
  for (const char* text :
       {"80.0", "8e1", "eighty", "'80'", "0x", "--80", "-", "080", "~", "99999999999999999999", "+-80"})
    EXPECT_EQ(port(text), -1) << text;
}

// ---- what is refused alone: the exact line that a person reads ------------------------

struct Bad {
  const char* name;
  const char* text;  // begins on line 3 of the file
  const char* complaint;
};

class Refused : public ::testing::TestWithParam<Bad> {};

TEST_P(Refused, AloneWithLineFieldAndReason) {
  const char* good = "\n---\n{apiVersion: v1, kind: Service, metadata: {name: good}}\n";
  const auto file = decode_manifest(std::string("# first\n---\n") + GetParam().text + good, "d/web.yaml");
  EXPECT_TRUE(file.parsed);
  EXPECT_THAT(lines_of(file), ElementsAre(std::string("d/web.yaml:") + GetParam().complaint));
  // The rest of the file goes on.
  EXPECT_TRUE(file.objects.contains({Kind::service, {"default", "good"}}));
  for (const auto& [id, object] : file.objects) EXPECT_EQ(object.message == nullptr, id.key.name != "good");
}

#define SERVICE "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n"
#define SLICE "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1}\n"
#define NODE "apiVersion: v1\nkind: Node\nmetadata: {name: n}\n"
INSTANTIATE_TEST_SUITE_P(
    Values, Refused,
    ::testing::Values(
        Bad{"PortTooLarge", SERVICE "  ports:\n  - name: http\n    port: 70000",
            "9: spec.ports[0].port: 70000 is not a port (expected 1 to 65535)"},
        Bad{"PortNegative", SERVICE "  ports: [{port: -1}]",
            "7: spec.ports[0].port: -1 is not a port (expected 1 to 65535)"},
        Bad{"PortMissing", SERVICE "  ports:\n  - name: http",
            "8: spec.ports[0].port: missing or 0 (expected 1 to 65535)"},
        Bad{"PortHuge", SERVICE "  ports: [{port: 99999999999}]",
            "7: spec.ports[0].port: \"99999999999\" is too far from 0 for a 32-bit number"},
        Bad{"PortQuoted", SERVICE "  ports: [{port: \"80\"}]",
            "7: spec.ports[0].port: \"80\" is a string (expected a whole number)"},
        Bad{"PortWord", SERVICE "  ports: [{port: http}]",
            "7: spec.ports[0].port: \"http\" is a string (expected a whole number)"},
        Bad{"PortTwice", SERVICE "  ports: [{name: a, port: 80}, {name: b, port: 80}]",
            "7: spec.ports[1].port: 80/TCP is another port's number too"},
        Bad{"PortNameTwice", SERVICE "  ports: [{name: a, port: 80}, {name: a, port: 81}]",
            "7: spec.ports[1].name: \"a\" is another port's name (expected a name for each port)"},
        Bad{"PortName", SERVICE "  ports: [{name: A_, port: 80}]",
            "7: spec.ports[0].name: \"A_\" is not a name (expected a-z, 0-9 and \"-\", at most 63 "
            "characters)"},
        Bad{"NodePort", SERVICE "  ports: [{port: 80, nodePort: 70000}]",
            "7: spec.ports[0].nodePort: 70000 is not a port (expected 1 to 65535)"},
        Bad{"NodePortTwice",
            SERVICE "  ports: [{name: a, port: 80, nodePort: 99}, {name: b, port: 81, nodePort: 99}]",
            "7: spec.ports[1].nodePort: 99/TCP is another port's number too"},
        Bad{"Protocol", SERVICE "  ports: [{port: 80, protocol: ICMP}]",
            "7: spec.ports[0].protocol: \"ICMP\" is unknown (expected TCP, UDP, SCTP)"},
        Bad{"ClusterIp", SERVICE "  clusterIP: x",
            "7: spec.clusterIP: \"x\" is not an IP address (expected such as 10.0.0.1 or fd00::1)"},
        Bad{"ClusterIpLoopback", SERVICE "  clusterIP: 127.0.0.1",
            "7: spec.clusterIP: \"127.0.0.1\" is a loopback address (expected a host's own address)"},
        Bad{"ClusterIpUnspecified", SERVICE "  clusterIP: \"::\"",
            "7: spec.clusterIP: \"::\" is unspecified (expected a host's own address)"},
        Bad{"ClusterIpNotFirst", SERVICE "  clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.2]",
            "7: spec.clusterIP: \"10.0.0.1\" is not the first of clusterIPs (expected \"10.0.0.2\")"},
        Bad{"ClusterIpsOneFamily", SERVICE "  clusterIPs: [10.0.0.1, 10.0.0.2]",
            "7: spec.clusterIPs[1]: 10.0.0.2 is a second IPv4 address (expected one a family)"},
        Bad{"ClusterIpNumber", SERVICE "  clusterIP: 10.1",
            "7: spec.clusterIP: \"10.1\" is a number (expected a string: put it in quotes)"},
        Bad{"ExternalIp", SERVICE "  externalIPs:\n  - 192.0.2.1\n  - 224.0.0.1",
            "9: spec.externalIPs[1]: \"224.0.0.1\" is a multicast address (expected a host's own address)"},
        Bad{"Type", SERVICE "  type: Nodeport",
            "7: spec.type: \"Nodeport\" is unknown (expected ClusterIP, NodePort, LoadBalancer, "
            "ExternalName)"},
        Bad{"ExternalPolicy", SERVICE "  externalTrafficPolicy: local",
            "7: spec.externalTrafficPolicy: \"local\" is unknown (expected Cluster, Local)"},
        Bad{"InternalPolicy", SERVICE "  internalTrafficPolicy: x",
            "7: spec.internalTrafficPolicy: \"x\" is unknown (expected Cluster, Local)"},
        Bad{"Affinity", SERVICE "  sessionAffinity: Cookie",
            "7: spec.sessionAffinity: \"Cookie\" is unknown (expected None, ClientIP)"},
        Bad{"AffinityTimeout", SERVICE "  sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}",
            "7: spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is out of range (expected 1 to 86400)"},
        Bad{"SourceRange", SERVICE "  loadBalancerSourceRanges: [\" 10.0.0.0/8 \", 10.0.0.0/33]",
            "7: spec.loadBalancerSourceRanges[1]: \"10.0.0.0/33\": the prefix length must be 0 to 32"},
        Bad{"HealthPort", SERVICE "  healthCheckNodePort: 65536",
            "7: spec.healthCheckNodePort: 65536 is not a port (expected 1 to 65535)"},
        Bad{"Ingress",
            "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nstatus:\n  loadBalancer:\n    ingress:\n  "
            "  - ip: lb",
            "9: status.loadBalancer.ingress[0].ip: \"lb\" is not an IP address (expected such as 10.0.0.1 or "
            "fd00::1)"},
        Bad{"IngressMode",
            "{apiVersion: v1, kind: Service, metadata: {name: web}, status: {loadBalancer: {ingress: "
            "[{ipMode: X}]}}}",
            "3: status.loadBalancer.ingress[0].ipMode: \"X\" is unknown (expected VIP, Proxy)"},
        Bad{"NameMissing", "apiVersion: v1\nkind: Service\nmetadata:\n  labels: {a: b}",
            "6: metadata.name: missing (expected a name)"},
        Bad{"MetadataMissing", "apiVersion: v1\nkind: Service",
            "3: metadata.name: missing (expected a name)"},
        Bad{"NamespaceBad", "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: \"a/b\"}}",
            "3: metadata.namespace: \"a/b\" is not a name (expected a-z, 0-9 and \"-\", at most 63 "
            "characters)"},
        Bad{"SpecIsList", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: [1]",
            "6: spec: a list (expected an object)"},
        Bad{"PortsIsObject", SERVICE "  ports: {port: 80}", "7: spec.ports: an object (expected a list)"},
        Bad{"LabelIsNumber",
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  labels:\n    version: 1.0",
            "8: metadata.labels.version: \"1.0\" is a number (expected a string: put it in quotes)"},
        Bad{"FlagIsWord", SERVICE "  publishNotReadyAddresses: 'true'",
            "7: spec.publishNotReadyAddresses: \"true\" is a string (expected true or false)"},
        Bad{"KeyTwice", SERVICE "  clusterIP: 10.0.0.1\n  clusterIP: 10.0.0.2",
            "8: spec.clusterIP: the key stands on line 7 already"},
        Bad{"SliceAddress", SLICE "addressType: IPv4\nendpoints:\n- addresses: [10.1.0.1]\n- addresses: [x]",
            "9: endpoints[1].addresses[0]: \"x\" is not an IP address (expected such as 10.0.0.1 or "
            "fd00::1)"},
        Bad{"SliceFamily", SLICE "addressType: IPv4\nendpoints:\n- addresses: [\"fd00::1\"]",
            "8: endpoints[0].addresses[0]: fd00::1 is not IPv4, the slice's addressType"},
        Bad{"SliceLinkLocal", SLICE "addressType: IPv4\nendpoints:\n- addresses: [169.254.1.1]",
            "8: endpoints[0].addresses[0]: \"169.254.1.1\" is a link-local address (expected a host's own "
            "address)"},
        Bad{"SliceMapped", SLICE "addressType: IPv6\nendpoints:\n- addresses: [\"::ffff:10.0.0.1\"]",
            "8: endpoints[0].addresses[0]: \"::ffff:10.0.0.1\" is an IPv4-mapped address (expected a host's "
            "own address)"},
        Bad{"SliceNoAddress", SLICE "addressType: IPv4\nendpoints:\n- conditions: {ready: true}",
            "8: endpoints[0].addresses: missing (expected at least one address)"},
        Bad{"SliceType", SLICE "addressType: ipv4",
            "6: addressType: \"ipv4\" is unknown (expected IPv4, IPv6, FQDN)"},
        Bad{"SliceTypeMissing", SLICE "endpoints: []",
            "3: addressType: missing (expected IPv4, IPv6 or FQDN)"},
        Bad{"SlicePort", SLICE "addressType: IPv4\nports:\n- port: 65536",
            "8: ports[0].port: 65536 is not a port (expected 1 to 65535)"},
        Bad{"SliceProtocol", SLICE "addressType: IPv4\nports:\n- {port: 1, protocol: tcp}",
            "8: ports[0].protocol: \"tcp\" is unknown (expected TCP, UDP, SCTP)"},
        Bad{"SliceCondition",
            SLICE "addressType: IPv4\nendpoints:\n- {addresses: [10.0.0.1], conditions: {ready: 1}}",
            "8: endpoints[0].conditions.ready: \"1\" is a number (expected true or false)"},
        Bad{"NodeAddress", NODE "status:\n  addresses:\n  - {type: InternalIP, address: node}",
            "8: status.addresses[0].address: \"node\" is not an IP address (expected such as 10.0.0.1 or "
            "fd00::1)"},
        Bad{"NodeCidr", NODE "spec: {podCIDR: 10.0.0.0/33}",
            "6: spec.podCIDR: \"10.0.0.0/33\": the prefix length must be 0 to 32"}),
    [](const auto& bad) { return bad.param.name; });

TEST(Decode, SeveralProblemsOfOneObjectAreAllTold) {
  const auto file = decode_manifest(SERVICE "  clusterIP: x\n  ports: [{port: 70000}]", "f.yaml");
  EXPECT_EQ(file.complaints.size(), 2U);
}

TEST(Decode, OneObjectTwiceTheFirstIsInForce) {
  const auto file =
      decode_manifest(SERVICE "  clusterIP: 10.0.0.1\n---\n" SERVICE "  clusterIP: 10.0.0.2\n", "f.yaml");
  EXPECT_THAT(
      lines_of(file),
      ElementsAre("f.yaml:7: \"Service default/web\" stands on line 1 already, which is the one in force"));
  EXPECT_EQ(get<v1::Service>(file, Kind::service, "default", "web").spec().cluster_ip(), "10.0.0.1");
}

TEST(Decode, ObjectsThatAreNearlyOurs) {
  const auto first = [](const char* text) {
    const auto lines = lines_of(decode_manifest(text, "f.yaml"));
    return lines.empty() ? std::string() : lines[0];
  };
  EXPECT_EQ(first("{apiVersion: discovery.k8s.io/v1beta1, kind: EndpointSlice}"),
            "f.yaml:1: apiVersion: \"discovery.k8s.io/v1beta1\" is not read (expected discovery.k8s.io/v1)");
  EXPECT_EQ(first("{kind: Service}"), "f.yaml:1: apiVersion: missing (expected v1)");
  EXPECT_EQ(first("{apiVersion: v1}"), "f.yaml:1: kind: missing");
  EXPECT_EQ(first("\n- a"), "f.yaml:2: not a Kubernetes object (expected apiVersion, kind and metadata)");
  EXPECT_EQ(first("hello"), "f.yaml:1: not a Kubernetes object (expected apiVersion, kind and metadata)");
  EXPECT_EQ(first("{apiVersion: v1, kind: List, items: {}}"), "f.yaml:1: items: not a list");
  EXPECT_EQ(first("{apiVersion: v1, kind: List, items: [x]}"),
            "f.yaml:1: items: not a Kubernetes object (expected apiVersion, kind and metadata)");
}

// ---- what is refused whole --------------------------------------------------------------

void expect_whole(const std::string& text, const std::string& complaint, const std::string& name = "f.yaml") {
  const auto file = decode_manifest(text, name);
  EXPECT_FALSE(file.parsed);
  EXPECT_TRUE(file.objects.empty());
  ASSERT_EQ(file.complaints.size(), 1U);
  EXPECT_THAT(lines_of(file)[0], HasSubstr(complaint));
}

TEST(Decode, WholeFileIsRefused) {
  expect_whole(std::string(kService) + "  bad: [1,\n", "f.yaml:");
  expect_whole("a: b: c", "f.yaml:1: not YAML: ");
  expect_whole("a: 1\nb: {\nc", "not YAML: ");
  expect_whole("a: \"\xff\"\n", "f.yaml:1: byte 0xff (expected text in UTF-8)");
  expect_whole(std::string("a: 1\nb: \0", 9), "f.yaml:2: control character 0x00 (expected text)");
  expect_whole("a: 1\n\x04\nb: 2", "f.yaml:2: control character 0x04 (expected text)");
  expect_whole("a: *b", "f.yaml:1: not YAML: ");
  expect_whole("a: &x [*x]", "an alias within its own anchor");
  expect_whole("<<: 1", "f.yaml:1: the merge key << takes a mapping, or a list of mappings");
  expect_whole("{\"a\": \"\\ud83d\"}", "not YAML: ", "f.json");
}

TEST(Decode, TextThatBeginsNothingEnds) {
  expect_whole(",", "f.yaml:1: not YAML: unexpected text");
  expect_whole("a: 1\n---\n,\n", "f.yaml:3: not YAML: unexpected text");
  EXPECT_THAT(lines_of(decode_manifest("---\n---\n...\n---\n", "f.yaml")), IsEmpty());
}

TEST(Decode, HostileDepth) {
  for (const size_t depth : {201UL, 5000UL, 1000000UL}) {
    expect_whole(std::string(depth, '['), "f.yaml:1: nested deeper than 200 levels");
    std::string braces;
    for (size_t i = 0; i < std::min(depth, size_t{100000}); ++i) braces += "{a: ";
    expect_whole(braces, "f.yaml:1: nested deeper than 200 levels");
  }
  std::string dashes;
  for (int i = 0; i < 5000; ++i) dashes += "- ";
  expect_whole(dashes, "nested deeper than 200 levels");
  EXPECT_TRUE(decode_manifest(
                  "{apiVersion: x, kind: y, a: " + std::string(199, '[') + std::string(199, ']') + "}", "f")
                  .parsed);
}

TEST(Decode, HostileAliases) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 20; ++i) {
    bomb += fmt::format("a{}: &a{} [", i, i);
    for (int j = 0; j < 10; ++j) bomb += fmt::format("*a{},", i - 1);
    bomb += "]\n";
  }
  expect_whole(bomb, "more than 4000000 values in one document, aliases expanded");
  std::string merges = "a0: &a0 {k: v}\n";
  for (int i = 1; i < 64; ++i)
    merges += fmt::format("a{0}: &a{0} {{<<: [*a{1}, *a{1}], k{0}: [*a{1}, *a{1}]}}\n", i, i - 1);
  expect_whole(merges, "more than 4000000 values in one document, aliases expanded");
}

TEST(Decode, HostileListsInLists) {
  std::string lists;
  for (int i = 0; i < 60; ++i) lists += "{apiVersion: v1, kind: List, items: [";
  for (int i = 0; i < 60; ++i) lists += "]}";
  EXPECT_THAT(lines_of(decode_manifest(lists, "f.yaml")),
              ElementsAre("f.yaml:1: Lists within Lists, deeper than 8 levels"));
}

TEST(Decode, ManyProblemsOfOneFileAreCutShort) {
  std::string text;
  for (int i = 0; i < 150; ++i) text += "{kind: Service}\n---\n";
  const auto file = decode_manifest(text, "f.yaml");
  ASSERT_EQ(file.complaints.size(), 101U);
  EXPECT_EQ(lines_of(file).back(), "f.yaml: 50 more problems");
}

TEST(Decode, FileTooLarge) {
  expect_whole(std::string(kMaxManifestBytes + 1, '#'),
               "f.yaml: 67108865 bytes are too many (expected at most 64 MiB)");
}

TEST(Decode, TextFromOutsideCannotWriteLinesOfTheLog) {
  const auto file = decode_manifest(SERVICE "  type: \"a\\nfake: line\\e[2J\"", "f.yaml");
  EXPECT_THAT(lines_of(file)[0], HasSubstr("spec.type: \"a\\x0afake: line\\x1b[2J\" is unknown"));
}

}  // namespace
}  // namespace maglane
