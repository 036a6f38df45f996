// SPDX-License-Identifier: Apache-2.0
//
// What a node's service proxy promises, point by point: the number in a test's name is the
// point's in the conformance list that kube-proxy's behaviour was written down as.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/resolve/resolve.h"
#include "agent/source/manifest_set.h"
#include "tests/unit/resolve/scenario.h"

namespace maglane {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Conformance : public ::testing::Test {
 protected:
  // What one frontend of the only service reaches on node-a (zone z1); see describe().
  std::string reach(const std::string& frontend) {
    const std::string text = resolve();
    const size_t at = text.find(frontend + " -> ");
    if (at == std::string::npos) return "no frontend in:\n" + text;
    const size_t begin = at + frontend.size() + 4;
    return text.substr(begin, text.find('\n', begin) - begin);
  }
  std::string cluster_ip() { return reach("cluster-ip 10.96.0.1:80"); }
  std::string node_port() { return reach("node-port 192.0.2.1:30080"); }

  std::string resolve() {
    ManifestSet set;
    set.put("f", decode_manifest(objects_, "f"));
    for (const auto& complaint : set.model().complaints)
      ADD_FAILURE() << complaint.where << ": " << complaint.message;
    complaints_.clear();
    Resolver resolver;
    const ResolvedCluster& cluster = resolver.resolve(set.model(), node_, &complaints_);
    served_ = cluster.size();
    resolved_ = cluster;
    return test::describe(cluster);
  }

  void service(const std::string& spec, const std::string& metadata = "name: web") {
    objects_ += fmt::format("{{apiVersion: v1, kind: Service, metadata: {{{}}}, spec: {{{}}}}}\n---\n",
                            metadata, spec);
  }
  // A service of type NodePort on 10.96.0.1:80 and node port 30080.
  void web(const std::string& more = "") {
    service("type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]" +
            (more.empty() ? "" : ", " + more));
  }
  // A load balancer's at 203.0.113.1, with an external IP.
  void balanced(const std::string& more, const std::string& external = "198.51.100.1") {
    objects_ += fmt::format(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}},"
        " status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.1}}]}}}}, spec: {{type: LoadBalancer,"
        " clusterIP: 10.96.0.1, externalIPs: [{}], ports: [{{port: 80, nodePort: 30080}}], {}}}}}\n---\n",
        external, more);
  }
  void slice(const std::string& endpoints, const std::string& ports = "{port: 8080}",
             const std::string& more = "addressType: IPv4", const std::string& metadata = "") {
    objects_ += fmt::format(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, {}, endpoints: [{}], ports: [{}],"
        " metadata: {{name: web-{}, labels: {{kubernetes.io/service-name: web}}{}}}}}\n---\n",
        more, endpoints, ports, ++slices_, metadata.empty() ? "" : ", " + metadata);
  }
  static std::string endpoint(const std::string& address, const std::string& more = "") {
    return fmt::format("{{addresses: ['{}']{}}}", address, more.empty() ? "" : ", " + more);
  }

  const std::string here_ = "nodeName: node-a", there_ = "nodeName: node-b";
  const std::string terminating_ = ", conditions: {ready: false, serving: true, terminating: true}";
  const std::string unready_ = ", conditions: {ready: false}";
  NodeContext node_{"node-a", "z1", {IpAddress::parse("192.0.2.1").value()}, {}, {}};
  std::vector<Complaint> complaints_;
  std::string objects_;
  size_t served_ = 0;  // services, after resolve()
  ResolvedCluster resolved_;
  int slices_ = 0;
};

// ---- 1 to 5: inputs ------------------------------------------------------------------

TEST_F(Conformance, Point01_ServicesWithoutAVirtualAddress) {
  service("ports: [{port: 80}]", "name: none");
  service("clusterIP: None, ports: [{port: 80}]", "name: headless");
  service("clusterIPs: [None], ports: [{port: 80}]", "name: headless-list");
  service("clusterIP: '', ports: [{port: 80}]", "name: empty");
  service("type: ExternalName, clusterIP: 10.96.0.9, ports: [{port: 80}]", "name: external-name");
  service("clusterIP: 10.96.0.8, ports: [{port: 80}]",
          "name: other, labels: {service.kubernetes.io/service-proxy-name: ''}");
  EXPECT_EQ(resolve(), "");
  EXPECT_EQ(served_, 0U);
}

TEST_F(Conformance, Point01_KeyedByPortNameAndProtocol) {
  service(
      "clusterIP: 10.96.0.1, ports: [{name: a, port: 80}, {name: b, port: 80, protocol: UDP}, {name: c, "
      "port: 81}]");
  EXPECT_EQ(resolve(),
            "default/web:a TCP IPv4 80\n  cluster-ip 10.96.0.1:80 -> reject\n"
            "default/web:b UDP IPv4 80\n  cluster-ip 10.96.0.1:80 -> reject\n"
            "default/web:c TCP IPv4 81\n  cluster-ip 10.96.0.1:81 -> reject\n");
}

TEST_F(Conformance, Point01_HeadlessSlicesAreNotUsed) {
  web();
  objects_ +=
      "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, endpoints: [{addresses: "
      "[10.1.0.1]}],"
      " ports: [{port: 1}], metadata: {name: h, labels: {kubernetes.io/service-name: web,"
      " service.kubernetes.io/headless: ''}}}\n";
  EXPECT_EQ(cluster_ip(), "reject");
}

TEST_F(Conformance, Point02_SlicesBelongByLabelAndNamespace) {
  web();
  const std::string rest =
      "addressType: IPv4, endpoints: [{addresses: [10.1.0.1]}], ports: [{port: 8080}]}\n---\n";
  const std::string head = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, ";
  objects_ += head + "metadata: {name: web-x}, " + rest;
  objects_ += head + "metadata: {name: web-y, labels: {kubernetes.io/service-name: other}}, " + rest;
  objects_ +=
      head + "metadata: {name: web-z, namespace: shop, labels: {kubernetes.io/service-name: web}}, " + rest;
  EXPECT_EQ(cluster_ip(), "reject");
}

TEST_F(Conformance, Point02_OnlyTheFirstAddressCounts) {
  web();
  slice("{addresses: [10.1.0.1, 10.1.0.2]}");
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080");
}

TEST_F(Conformance, Point02_OtherFamiliesAndNamesAreIgnored) {
  web();
  slice(endpoint("fd00::1"), "{port: 8080}", "addressType: IPv6");
  slice(endpoint("example.org"), "{port: 8080}", "addressType: FQDN");
  EXPECT_EQ(cluster_ip(), "reject");
}

TEST_F(Conformance, Point02_PortsWithoutANumberAreIgnored) {
  service("clusterIP: 10.96.0.1, ports: [{name: a, port: 80}, {name: b, port: 81}, {name: c, port: 82}]");
  slice(endpoint("10.1.0.1"), "{name: a}, {name: b, port: 0}, {name: c, port: 8082}");
  EXPECT_EQ(cluster_ip(), "reject");
  EXPECT_EQ(reach("cluster-ip 10.96.0.1:81"), "reject");
  EXPECT_EQ(reach("cluster-ip 10.96.0.1:82"), "10.1.0.1:8082");
}

TEST_F(Conformance, Point02_AMissingPortNameIsTheEmptyName) {
  web();
  slice(endpoint("10.1.0.1"), "{name: '', port: 8080}");
  slice(endpoint("10.1.0.2"), "{name: http, port: 8080}");
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080");
}

TEST_F(Conformance, Point02_MissingConditions) {
  web();
  slice(endpoint("10.1.0.1") + "," + endpoint("10.1.0.2", "conditions: {}") + "," +
        endpoint("10.1.0.3", "conditions: {ready: null, terminating: true}"));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080, 10.1.0.2:8080, 10.1.0.3:8080");
}

TEST_F(Conformance, Point02_MissingServingIsReady) {
  web();
  slice(endpoint("10.1.0.1", "conditions: {ready: false, terminating: true}"));
  EXPECT_EQ(cluster_ip(), "reject");
}

TEST_F(Conformance, Point02_AMissingNodeNameIsNeverLocal) {
  node_.node_name = "";
  web("internalTrafficPolicy: Local");
  slice(endpoint("10.1.0.1"));
  EXPECT_EQ(cluster_ip(), "drop");
}

TEST_F(Conformance, Point03_TheUnionOverSlices) {
  web();
  slice(endpoint("10.1.0.3") + "," + endpoint("10.1.0.1"));
  slice(endpoint("10.1.0.2") + "," + endpoint("10.1.0.1"));
  slice(endpoint("10.1.0.1"), "{port: 9090}");
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080, 10.1.0.1:9090, 10.1.0.2:8080, 10.1.0.3:8080");
}

TEST_F(Conformance, Point03_ConflictsAreSettledDeterministically) {
  web();
  slice(endpoint("10.1.0.1", there_ + unready_) + "," + endpoint("10.1.0.2", there_) + "," +
        endpoint("10.1.0.3"));
  slice(endpoint("10.1.0.1", there_) + "," + endpoint("10.1.0.2", here_ + terminating_));
  slice(endpoint("10.1.0.1", there_ + terminating_));
  // Ready beats serving beats not, whichever comes first; local if any says so.
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080, 10.1.0.2:8080 local, 10.1.0.3:8080");
}

TEST_F(Conformance, Point03_ServingBeatsNotInAConflict) {
  web();
  slice(endpoint("10.1.0.1", unready_.substr(2)) + "," + endpoint("10.1.0.2", terminating_.substr(2)));
  slice(endpoint("10.1.0.1", terminating_.substr(2)) + "," + endpoint("10.1.0.2", unready_.substr(2)));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080, 10.1.0.2:8080");
}

TEST_F(Conformance, Point04_FamiliesAreIndependent) {
  node_.node_addresses.push_back(IpAddress::parse("2001:db8::1").value());
  service(
      "type: NodePort, clusterIPs: ['fd00::1', 10.96.0.1], externalIPs: [198.51.100.1, '2001:db8:1::1'],"
      " ports: [{port: 80, nodePort: 30080}]");
  slice(endpoint("10.1.0.1"));
  slice(endpoint("fd00:1::1", terminating_.substr(2)), "{port: 8080}", "addressType: IPv6");
  EXPECT_EQ(resolve(),
            "default/web TCP IPv4 80\n"
            "  cluster-ip 10.96.0.1:80 -> 10.1.0.1:8080\n"
            "  node-port 192.0.2.1:30080 -> 10.1.0.1:8080\n"
            "  external-ip 198.51.100.1:80 -> 10.1.0.1:8080\n"
            "default/web TCP IPv6 80\n"
            "  cluster-ip [fd00::1]:80 -> [fd00:1::1]:8080\n"
            "  node-port [2001:db8::1]:30080 -> [fd00:1::1]:8080\n"
            "  external-ip [2001:db8:1::1]:80 -> [fd00:1::1]:8080\n");
}

TEST_F(Conformance, Point04_AFamilyWithoutAClusterIpIsNotServed) {
  node_.node_addresses.push_back(IpAddress::parse("2001:db8::1").value());
  web("externalIPs: ['2001:db8:1::1']");
  slice(endpoint("fd00:1::1"), "{port: 8080}", "addressType: IPv6");
  EXPECT_EQ(resolve(),
            "default/web TCP IPv4 80\n  cluster-ip 10.96.0.1:80 -> reject\n"
            "  node-port 192.0.2.1:30080 -> reject\n");
}

TEST_F(Conformance, Point05_ANamedTargetPortDiffersBetweenEndpoints) {
  web();
  slice(endpoint("10.1.0.1"), "{port: 8080}");
  slice(endpoint("10.1.0.2"), "{port: 8081}");
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080, 10.1.0.2:8081");
}

// ---- 6 to 10: which endpoints ----------------------------------------------------------

TEST_F(Conformance, Point06_ClusterSetIsTheReadyEndpoints) {
  web();
  slice(endpoint("10.1.0.1", here_) + "," + endpoint("10.1.1.1", there_) + "," +
        endpoint("10.1.1.2", there_ + unready_) + "," + endpoint("10.1.1.3", there_ + terminating_));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080 local, 10.1.1.1:8080");
}

TEST_F(Conformance, Point06_ClusterSetFallsBackToServingTerminatingIgnoringTopology) {
  web();
  slice(endpoint("10.1.0.1", here_ + terminating_ + ", hints: {forZones: [{name: z1}]}") + "," +
        endpoint("10.1.1.1", there_ + terminating_ + ", hints: {forZones: [{name: z2}]}") + "," +
        endpoint("10.1.1.2", there_ + ", conditions: {ready: false, serving: true, terminating: false}"));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080 local, 10.1.1.1:8080");
}

TEST_F(Conformance, Point07_LocalSetIsThisNodesReadyEndpoints) {
  web("internalTrafficPolicy: Local");
  slice(endpoint("10.1.0.1", here_) + "," + endpoint("10.1.0.2", here_ + terminating_) + "," +
        endpoint("10.1.1.1", there_));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080 local");
}

TEST_F(Conformance, Point07_LocalSetFallsBackToServingTerminating) {
  web("internalTrafficPolicy: Local");
  slice(endpoint("10.1.0.1", here_ + unready_) + "," + endpoint("10.1.0.2", here_ + terminating_) + "," +
        endpoint("10.1.1.1", there_));
  EXPECT_EQ(cluster_ip(), "10.1.0.2:8080 local");
  // The cluster set, which has a ready endpoint, does not fall back.
  EXPECT_EQ(node_port(), "10.1.1.1:8080");
}

TEST_F(Conformance, Point07_TopologyNeverAppliesToTheLocalSet) {
  web("internalTrafficPolicy: Local");
  slice(endpoint("10.1.0.1", here_ + ", hints: {forZones: [{name: z2}]}") + "," +
        endpoint("10.1.1.1", there_ + ", hints: {forZones: [{name: z1}]}"));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080 local");
  EXPECT_EQ(node_port(), "10.1.1.1:8080");
}

TEST_F(Conformance, Point08_PoliciesChooseTheSet) {
  const std::string lb =
      "type: LoadBalancer, clusterIP: 10.96.0.1, externalIPs: [198.51.100.1],"
      " ports: [{port: 80, nodePort: 30080}]";
  const auto with = [&](const std::string& policies) {
    objects_.clear();
    objects_ =
        "{apiVersion: v1, kind: Service, metadata: {name: web}, status: {loadBalancer: {ingress: [{ip: "
        "203.0.113.1}]}},"
        " spec: {" +
        lb + policies + "}}\n---\n";
    slice(endpoint("10.1.0.1", here_) + "," + endpoint("10.1.1.1", there_));
    return resolve();
  };
  const std::string all = "10.1.0.1:8080 local, 10.1.1.1:8080", local = "10.1.0.1:8080 local";
  const auto expected = [](const std::string& internal, const std::string& external) {
    return fmt::format(
        "default/web TCP IPv4 80\n  cluster-ip 10.96.0.1:80 -> {}\n  node-port 192.0.2.1:30080 -> {}\n"
        "  external-ip 198.51.100.1:80 -> {}\n  load-balancer 203.0.113.1:80 -> {}\n",
        internal, external, external, external);
  };
  EXPECT_EQ(with(""), expected(all, all));
  EXPECT_EQ(with(", internalTrafficPolicy: Local"), expected(local, all));
  EXPECT_EQ(with(", externalTrafficPolicy: Local"), expected(all, local + "; pods -> " + all));
  EXPECT_EQ(with(", internalTrafficPolicy: Cluster, externalTrafficPolicy: Cluster"), expected(all, all));
}

TEST_F(Conformance, Point09_NodeHintsComeBeforeZoneHints) {
  web();
  slice(endpoint("10.1.0.1", "hints: {forNodes: [{name: node-a}], forZones: [{name: z2}]}") + "," +
        endpoint("10.1.1.1", "hints: {forNodes: [{name: node-b}], forZones: [{name: z1}]}"));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080");
}

TEST_F(Conformance, Point09_ZoneHintsWhereNodeHintsDoNotApply) {
  web();
  // One ready endpoint lacks node hints, so that they do not count.
  slice(endpoint("10.1.0.1", "hints: {forNodes: [{name: node-a}], forZones: [{name: z2}]}") + "," +
        endpoint("10.1.1.1", "hints: {forZones: [{name: z1}, {name: z3}]}"));
  EXPECT_EQ(cluster_ip(), "10.1.1.1:8080");
}

TEST_F(Conformance, Point09_NoFilterUnlessEveryReadyEndpointHasHints) {
  web();
  slice(endpoint("10.1.0.1", "hints: {forZones: [{name: z1}]}") + "," + endpoint("10.1.1.1"));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080, 10.1.1.1:8080");
}

TEST_F(Conformance, Point09_NoFilterUnlessOneNamesThisZone) {
  web();
  slice(endpoint("10.1.0.1", "hints: {forZones: [{name: z2}]}") + "," +
        endpoint("10.1.1.1", "hints: {forZones: [{name: z3}]}"));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080, 10.1.1.1:8080");
}

TEST_F(Conformance, Point09_OnlyReadyEndpointsCount) {
  web();
  slice(endpoint("10.1.0.1", "hints: {forZones: [{name: z1}]}") + "," +
        endpoint("10.1.1.1", "hints: {forZones: [{name: z2}]}") + "," +
        endpoint("10.1.1.2", unready_.substr(2)));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080");
}

TEST_F(Conformance, Point09_TheZoneIsTheNodeObjects) {
  node_.zone = "";
  web();
  slice(endpoint("10.1.0.1", "hints: {forZones: [{name: z1}]}") + "," +
        endpoint("10.1.1.1", "hints: {forZones: [{name: z2}]}"));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080, 10.1.1.1:8080");
  objects_ +=
      "{apiVersion: v1, kind: Node, metadata: {name: node-a, labels: {topology.kubernetes.io/zone: z2}}}\n";
  EXPECT_EQ(cluster_ip(), "10.1.1.1:8080");
}

TEST_F(Conformance, Point09_ANodeWithoutAZoneIsInNoneThatIsNamed) {
  node_.zone = "";
  web();
  slice(endpoint("10.1.0.1", "hints: {forZones: [{name: ''}]}") + "," +
        endpoint("10.1.1.1", "hints: {forZones: [{name: z2}]}"));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080, 10.1.1.1:8080");
}

TEST_F(Conformance, Point10_PublishNotReadyAddressesAreReady) {
  web("publishNotReadyAddresses: true");
  slice(endpoint("10.1.0.1", "conditions: {ready: true, serving: false, terminating: true}"));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080");
}

// ---- 11 to 16: verdicts, and what pods get ------------------------------------------------

TEST_F(Conformance, Point11_NoEndpointAnywhereRejectsOnEveryFrontend) {
  web("internalTrafficPolicy: Local, externalTrafficPolicy: Local, externalIPs: [198.51.100.1]");
  slice(endpoint("10.1.0.1", there_ + unready_));
  EXPECT_EQ(cluster_ip(), "reject");
  EXPECT_EQ(node_port(), "reject");
  EXPECT_EQ(reach("external-ip 198.51.100.1:80"), "reject");
}

TEST_F(Conformance, Point12_InternalLocalWithNoneHereDropsOnTheClusterIpOnly) {
  web("internalTrafficPolicy: Local");
  slice(endpoint("10.1.1.1", there_));
  EXPECT_EQ(cluster_ip(), "drop");
  EXPECT_EQ(node_port(), "10.1.1.1:8080");
}

TEST_F(Conformance, Point12_ExternalLocalWithNoneHereDropsOnTheExternalFrontends) {
  web("externalTrafficPolicy: Local");
  slice(endpoint("10.1.1.1", there_));
  EXPECT_EQ(cluster_ip(), "10.1.1.1:8080");
  EXPECT_EQ(node_port(), "drop; pods -> 10.1.1.1:8080");
}

TEST_F(Conformance, Point12_ElsewhereMayBeServingTerminating) {
  web("externalTrafficPolicy: Local");
  slice(endpoint("10.1.1.1", there_ + terminating_));
  EXPECT_EQ(node_port(), "drop; pods -> 10.1.1.1:8080");
}

TEST_F(Conformance, Point16_PodsGetTheClusterSetOfPolicyLocal) {
  web("externalTrafficPolicy: Local, externalIPs: [198.51.100.1]");
  slice(endpoint("10.1.0.1", here_) + "," + endpoint("10.1.1.1", there_));
  EXPECT_EQ(node_port(), "10.1.0.1:8080 local; pods -> 10.1.0.1:8080 local, 10.1.1.1:8080");
  EXPECT_EQ(reach("external-ip 198.51.100.1:80"),
            "10.1.0.1:8080 local; pods -> 10.1.0.1:8080 local, 10.1.1.1:8080");
}

TEST_F(Conformance, Point16_FrontendsOfPolicyLocalSayThatPodsKeepTheirAddress) {
  const auto flags = [&] {
    resolve();
    std::map<FrontendType, bool> local;
    for (const auto& frontend : resolved_.begin()->second->ports[0].frontends)
      local[frontend.type] = frontend.external_local;
    return local;
  };
  web("externalTrafficPolicy: Local, externalIPs: [198.51.100.1]");
  EXPECT_EQ(flags(), (std::map<FrontendType, bool>{{FrontendType::cluster_ip, false},
                                                   {FrontendType::node_port, true},
                                                   {FrontendType::external_ip, true}}));
  objects_.clear();
  web("internalTrafficPolicy: Local");
  EXPECT_EQ(flags(), (std::map<FrontendType, bool>{{FrontendType::cluster_ip, false},
                                                   {FrontendType::node_port, false}}));
}

// ---- 22, 23, 26: ranges, affinity, datagrams ---------------------------------------------------

TEST_F(Conformance, Point22_RangesLimitLoadBalancerFrontendsOnly) {
  balanced("loadBalancerSourceRanges: [' 10.0.0.0/8', '198.51.100.7/24 ', '2001:db8::/32']");
  EXPECT_EQ(resolve(),
            "default/web TCP IPv4 80 from 10.0.0.0/8 from 198.51.100.0/24\n"
            "  cluster-ip 10.96.0.1:80 -> reject\n  node-port 192.0.2.1:30080 -> reject\n"
            "  external-ip 198.51.100.1:80 -> reject\n  load-balancer 203.0.113.1:80 -> reject; limited\n");
}

TEST_F(Conformance, Point22_ARangeThatHoldsTheNodeLetsTheServicesAddressIn) {
  balanced("loadBalancerSourceRanges: [192.0.2.0/24]");
  EXPECT_EQ(resolve().substr(0, 63), "default/web TCP IPv4 80 from 192.0.2.0/24 from 203.0.113.1/32\n ");
}

TEST_F(Conformance, Point22_RangesOfTheOtherFamilyDeny) {
  balanced("loadBalancerSourceRanges: ['2001:db8::/32']");
  EXPECT_EQ(resolve().substr(0, 24), "default/web TCP IPv4 80\n");
  EXPECT_EQ(reach("load-balancer 203.0.113.1:80"), "reject; limited");
}

TEST_F(Conformance, Point22_NoSecondMentionOfAnAddressLiftsItsLimits) {
  balanced("loadBalancerSourceRanges: [10.0.0.0/8]", "203.0.113.1");
  EXPECT_EQ(reach("load-balancer 203.0.113.1:80"), "reject; limited");
  EXPECT_EQ(resolve().find("external-ip"), std::string::npos);
}

TEST_F(Conformance, Point23_AffinityLastsThreeHoursUnlessSaid) {
  web("sessionAffinity: ClientIP");
  EXPECT_EQ(resolve().substr(0, 39), "default/web TCP IPv4 80 affinity 10800\n");
  objects_.clear();
  web("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}");
  EXPECT_EQ(resolve().substr(0, 36), "default/web TCP IPv4 80 affinity 60\n");
  objects_.clear();
  web("sessionAffinity: None, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}");
  EXPECT_EQ(resolve().substr(0, 24), "default/web TCP IPv4 80\n");
}

TEST_F(Conformance, Point26_EndpointsOfUdpThatServe) {
  service("clusterIP: 10.96.0.1, ports: [{name: dns, port: 53, protocol: UDP}, {name: http, port: 80}]");
  const std::string ports = "{name: dns, port: 53, protocol: UDP}, {name: http, port: 80}";
  slice(endpoint("10.1.0.4") + "," + endpoint("10.1.0.1", terminating_.substr(2)) + "," +
            endpoint("10.1.0.2", "conditions: {ready: false, serving: true}") + "," +
            endpoint("10.1.0.3", "conditions: {ready: false, serving: false, terminating: true}") + "," +
            endpoint("10.1.0.5", "conditions: {ready: false, serving: false}"),
        ports);
  slice(endpoint("10.1.0.5", "conditions: {ready: false, serving: true}"), ports);  // whoever says so
  resolve();
  const auto& resolved = resolved_.begin()->second->ports;
  ASSERT_EQ(resolved.size(), 2U);
  std::vector<std::string> serving;
  for (const auto& [address, port] : resolved[0].serving) serving.push_back(address.with_port(port));
  EXPECT_THAT(serving, ElementsAre("10.1.0.1:53", "10.1.0.2:53", "10.1.0.4:53", "10.1.0.5:53"));
  EXPECT_THAT(resolved[1].serving, IsEmpty()) << "of TCP nobody asks";
}

TEST_F(Conformance, EndpointsInTheNodesOwnNetwork) {
  node_.local_addresses.push_back(IpAddress::parse("172.16.0.1").value());
  web();
  slice(endpoint("192.0.2.1", here_) + "," + endpoint("172.16.0.1") + "," + endpoint("192.0.2.2", there_));
  EXPECT_EQ(cluster_ip(), "172.16.0.1:8080 node, 192.0.2.1:8080 local node, 192.0.2.2:8080");
  // An address that only the Node object gives the node is none that its stack would take.
  objects_ +=
      "{apiVersion: v1, kind: Node, metadata: {name: node-a}, status: {addresses: [{type: InternalIP, "
      "address: 192.0.2.2}]}}\n";
  EXPECT_EQ(cluster_ip(), "172.16.0.1:8080 node, 192.0.2.1:8080 local node, 192.0.2.2:8080");
}

// ---- 20, 21, 24: frontends -------------------------------------------------------------------

TEST_F(Conformance, Point20_NodePortOnThePrimaryAddressesNeverLoopback) {
  web();
  node_.node_addresses = {IpAddress::parse("192.0.2.1").value(), IpAddress::parse("127.0.0.1").value()};
  node_.local_addresses = {IpAddress::parse("172.16.0.1").value()};
  objects_ +=
      "{apiVersion: v1, kind: Node, metadata: {name: node-a}, status: {addresses: [{type: InternalIP, "
      "address: 192.0.2.9},"
      " {type: InternalIP, address: 192.0.2.1}, {type: ExternalIP, address: 198.51.100.9}, {type: Hostname, "
      "address: h}]}}\n"
      "---\n{apiVersion: v1, kind: Node, metadata: {name: node-b}, status: {addresses: [{type: InternalIP, "
      "address: 192.0.2.2}]}}\n";
  EXPECT_EQ(resolve(),
            "default/web TCP IPv4 80\n  cluster-ip 10.96.0.1:80 -> reject\n"
            "  node-port 192.0.2.1:30080 -> reject\n  node-port 192.0.2.9:30080 -> reject\n");
}

TEST_F(Conformance, Point20_NodePortOnTheAddressesThatMatch) {
  web();
  for (const char* text : {"192.0.2.1", "172.16.0.1", "172.16.9.1", "127.0.0.1"})
    node_.local_addresses.push_back(IpAddress::parse(text).value());
  node_.node_port_addresses = {Cidr::parse("172.16.0.0/24").value(), Cidr::parse("127.0.0.0/8").value()};
  EXPECT_EQ(resolve(),
            "default/web TCP IPv4 80\n  cluster-ip 10.96.0.1:80 -> reject\n"
            "  node-port 172.16.0.1:30080 -> reject\n");
}

TEST_F(Conformance, Point20_OnlyTypesThatHaveNodePorts) {
  service("type: ClusterIP, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]");
  EXPECT_EQ(resolve(), "default/web TCP IPv4 80\n  cluster-ip 10.96.0.1:80 -> reject\n");
}

TEST_F(Conformance, Point21_LoadBalancerAddresses) {
  const std::string status =
      "status: {loadBalancer: {ingress: [{ip: 203.0.113.1}, {ip: 203.0.113.2, ipMode: VIP},"
      " {ip: 203.0.113.3, ipMode: Proxy}, {hostname: lb.example.org}]}}";
  const auto of_type = [&](const std::string& type) {
    objects_ = fmt::format(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, {}, spec: {{type: {},"
        " clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}}}\n",
        status, type);
    return resolve();
  };
  EXPECT_EQ(of_type("LoadBalancer"),
            "default/web TCP IPv4 80\n  cluster-ip 10.96.0.1:80 -> reject\n"
            "  load-balancer 203.0.113.1:80 -> reject\n  load-balancer 203.0.113.2:80 -> reject\n");
  EXPECT_EQ(of_type("NodePort"), "default/web TCP IPv4 80\n  cluster-ip 10.96.0.1:80 -> reject\n");
}

TEST_F(Conformance, Point24_OnePortNumberServesDifferentProtocols) {
  service(
      "clusterIP: 10.96.0.1, ports: [{name: a, port: 80, protocol: SCTP}, {name: b, port: 80, protocol: "
      "UDP}]");
  slice(endpoint("10.1.0.1"), "{name: a, port: 8080, protocol: SCTP}");
  EXPECT_EQ(resolve(),
            "default/web:a SCTP IPv4 80\n  cluster-ip 10.96.0.1:80 -> 10.1.0.1:8080\n"
            "default/web:b UDP IPv4 80\n  cluster-ip 10.96.0.1:80 -> reject\n");
  EXPECT_THAT(complaints_, ElementsAre());
}

TEST_F(Conformance, Point24_ProtocolsHaveEndpointsOfTheirOwn) {
  service("clusterIP: 10.96.0.1, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]");
  slice(endpoint("10.1.0.1"), "{name: dns, port: 53, protocol: UDP}");
  slice(endpoint("10.1.0.2"), "{name: dns-tcp, port: 53}, {name: dns, port: 54}");
  EXPECT_EQ(resolve(),
            "default/web:dns UDP IPv4 53\n  cluster-ip 10.96.0.1:53 -> 10.1.0.1:53\n"
            "default/web:dns-tcp TCP IPv4 53\n  cluster-ip 10.96.0.1:53 -> 10.1.0.2:53\n");
}

// ---- beyond the list ---------------------------------------------------------------------------

TEST_F(Conformance, AnAddressThatAServiceHasTwiceIsOneFrontend) {
  objects_ =
      "{apiVersion: v1, kind: Service, metadata: {name: web}, status: {loadBalancer: {ingress: [{ip: "
      "198.51.100.1}]}},"
      " spec: {type: LoadBalancer, clusterIP: 10.96.0.1, externalIPs: [198.51.100.1, 198.51.100.1], ports: "
      "[{port: 80}]}}\n";
  EXPECT_EQ(resolve(),
            "default/web TCP IPv4 80\n  cluster-ip 10.96.0.1:80 -> reject\n  load-balancer 198.51.100.1:80 -> "
            "reject\n");
}

TEST_F(Conformance, WeightsComeFromTheSlicesAnnotation) {
  web();
  slice(endpoint("10.1.0.1"), "{port: 8080}", "addressType: IPv4", "annotations: {maglane.dev/weight: '3'}");
  slice(endpoint("10.1.0.2"), "{port: 8080}", "addressType: IPv4",
        "annotations: {maglane.dev/weight: '100'}");
  slice(endpoint("10.1.0.3"));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080 weight 3, 10.1.0.2:8080 weight 100, 10.1.0.3:8080");
  EXPECT_THAT(complaints_, IsEmpty());
}

TEST_F(Conformance, ABadWeightIsComplainedOfAndCountsAsOne) {
  web();
  for (const char* weight : {"0", "101", "x", "1.5", "-1"})
    slice(endpoint(fmt::format("10.1.0.{}", slices_ + 1)), "{port: 8080}", "addressType: IPv4",
          fmt::format("annotations: {{maglane.dev/weight: '{}'}}", weight));
  EXPECT_EQ(cluster_ip(), "10.1.0.1:8080, 10.1.0.2:8080, 10.1.0.3:8080, 10.1.0.4:8080, 10.1.0.5:8080");
  ASSERT_EQ(complaints_.size(), 5U);
  EXPECT_EQ(complaints_[1].where, "EndpointSlice default/web-2");
  EXPECT_EQ(
      complaints_[1].message,
      "metadata.annotations.maglane.dev/weight: \"101\" is not a weight (expected 1 to 100); it counts as 1");
}

// What the health check port of the only service counts, as "port: IPv4 n, IPv6 n".
class HealthChecks : public Conformance {
 protected:
  std::string check() {
    ManifestSet set;
    set.put("f", decode_manifest(objects_, "f"));
    Resolver resolver;
    const auto& service = *resolver.resolve(set.model(), node_, nullptr).begin()->second;
    if (!service.health_check) return "none";
    std::string text = std::to_string(service.health_check->port);
    for (const auto& [family, count] : service.health_check->local_endpoints)
      text += fmt::format(" {} {}", to_string(family), count);
    return text;
  }
  void balancer(const std::string& more) {
    service("clusterIP: 10.96.0.1, ports: [{name: a, port: 80}, {name: b, port: 81}], healthCheckNodePort: 30500, " +
            more);
  }
};

TEST_F(HealthChecks, Point28_OnlyLoadBalancersOfPolicyLocal) {
  balancer("type: LoadBalancer, externalTrafficPolicy: Local");
  EXPECT_EQ(check(), "30500 IPv4 0");
  objects_.clear();
  balancer("type: LoadBalancer");
  EXPECT_EQ(check(), "none");
  objects_.clear();
  balancer("type: NodePort, externalTrafficPolicy: Local");
  EXPECT_EQ(check(), "none");
}

TEST_F(HealthChecks, Point28_ReadyEndpointsHereEachAddressOnce) {
  balancer("type: LoadBalancer, externalTrafficPolicy: Local");
  const std::string ports = "{name: a, port: 8080}, {name: b, port: 8081}";
  slice(endpoint("10.1.0.1", here_) + "," + endpoint("10.1.0.2", here_) + "," + endpoint("10.1.1.1", there_) + "," +
            endpoint("10.1.0.3", here_ + unready_) + "," + endpoint("10.1.0.4", here_ + terminating_),
        ports);
  EXPECT_EQ(check(), "30500 IPv4 2");
}

TEST_F(HealthChecks, Point28_FamiliesAreCountedApart) {
  service(
      "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30500, clusterIP: 10.96.0.1, "
      "clusterIPs: [10.96.0.1, 'fd00::1'], ports: [{port: 80}]");
  slice(endpoint("10.1.0.1", here_));
  slice(endpoint("fd00::5", there_), "{port: 8080}", "addressType: IPv6");
  EXPECT_EQ(check(), "30500 IPv4 1 IPv6 0");
}

}  // namespace
}  // namespace maglane
