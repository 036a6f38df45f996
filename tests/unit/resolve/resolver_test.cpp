// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "agent/resolve/resolve.h"
#include "tests/unit/resolve/scenario.h"

namespace maglane {
namespace {

constexpr int kServices = 4, kSlices = 8;

std::shared_ptr<const v1::Service> make_service(int number) {
  auto service = std::make_shared<v1::Service>();
  auto& spec = *service->mutable_spec();
  service->mutable_metadata()->set_namespace_("default");
  service->mutable_metadata()->set_name(fmt::format("s{}", number));
  spec.set_cluster_ip(
      *rc::gen::element<std::string>("None", fmt::format("10.96.0.{}", number + 1), "10.96.1.1"));
  spec.set_type(*rc::gen::element<std::string>("", "NodePort", "ExternalName"));
  spec.set_internal_traffic_policy(*rc::gen::element<std::string>("", "Local"));
  spec.set_external_traffic_policy(*rc::gen::element<std::string>("", "Local"));
  for (const char* name : {"a", "b"}) {
    auto& port = *spec.add_ports();
    port.set_name(name);
    port.set_port(*rc::gen::inRange(80, 82));
    port.set_node_port(*rc::gen::element(0, 30080));
    port.set_protocol(*rc::gen::element<std::string>("TCP", "UDP", "SCTP"));
  }
  return service;
}

std::shared_ptr<const v1::EndpointSlice> make_slice(int number) {
  auto slice = std::make_shared<v1::EndpointSlice>();
  auto& metadata = *slice->mutable_metadata();
  metadata.set_namespace_("default");
  metadata.set_name(fmt::format("e{}", number));
  (*metadata.mutable_labels())["kubernetes.io/service-name"] =
      fmt::format("s{}", *rc::gen::inRange(0, kServices));
  if (*rc::gen::inRange(0, 4) == 0)
    (*metadata.mutable_annotations())["maglane.dev/weight"] = *rc::gen::element<std::string>("2", "x");
  slice->set_address_type("IPv4");
  for (int i = *rc::gen::inRange(0, 4); i > 0; --i) {
    auto& endpoint = *slice->add_endpoints();
    endpoint.add_addresses(fmt::format("10.1.0.{}", *rc::gen::inRange(1, 6)));
    endpoint.set_node_name(*rc::gen::element<std::string>("", "node-a", "node-b"));
    endpoint.mutable_conditions()->set_ready(*rc::gen::arbitrary<bool>());
    endpoint.mutable_conditions()->set_serving(*rc::gen::arbitrary<bool>());
    endpoint.mutable_conditions()->set_terminating(*rc::gen::arbitrary<bool>());
    if (*rc::gen::arbitrary<bool>())
      endpoint.mutable_hints()->add_for_zones()->set_name(*rc::gen::element<std::string>("z1", "z2"));
  }
  for (const char* name : {"a", "b"}) {
    auto& port = *slice->add_ports();
    port.set_name(name);
    port.set_port(8080);
  }
  return slice;
}

// What a change may have touched: services named so, or all of them.
struct Touched {
  std::set<std::string> services;
  bool all = false;
};

void touch_owner(const ClusterModel& model, const ObjectKey& slice, Touched& touched) {
  const auto found = model.slices.find(slice);
  if (found != model.slices.end())
    touched.services.insert(found->second->metadata().labels().at("kubernetes.io/service-name"));
}

Touched change(ClusterModel& model, NodeContext& node) {
  Touched touched;
  const int number = *rc::gen::inRange(0, kServices);
  const ObjectKey service{"default", fmt::format("s{}", number)};
  const int slice_number = *rc::gen::inRange(0, kSlices);
  const ObjectKey slice{"default", fmt::format("e{}", slice_number)};
  switch (*rc::gen::inRange(0, 9)) {
    case 0:
    case 1:
      model.services[service] = make_service(number);
      touched.services.insert(service.name);
      break;
    case 2:
      model.services.erase(service);
      touched.services.insert(service.name);
      break;
    case 3:
    case 4:
    case 5:
      touch_owner(model, slice, touched);
      model.slices[slice] = make_slice(slice_number);
      touch_owner(model, slice, touched);
      break;
    case 6:
      touch_owner(model, slice, touched);
      model.slices.erase(slice);
      break;
    case 7:
      node.zone = *rc::gen::element<std::string>("z1", "z2");
      touched.all = true;
      break;
    case 8: {
      auto object = std::make_shared<v1::Node>();
      auto& address = *object->mutable_status()->add_addresses();
      address.set_type("InternalIP");
      address.set_address(*rc::gen::element<std::string>("192.0.2.1", "192.0.2.2"));
      model.nodes["node-a"] = object;
      touched.all = true;
      break;
    }
  }
  return touched;
}

RC_GTEST_PROP(Resolver, ChangedStepByStepIsResolvedAnew, ()) {
  ClusterModel model;
  NodeContext node{"node-a", "z1", {}, {}, {}};
  Resolver resolver;
  ResolvedCluster before;
  for (int steps = *rc::gen::inRange(1, 30); steps > 0; --steps) {
    Touched touched;
    for (int i = *rc::gen::inRange(0, 3); i > 0; --i) {
      const Touched more = change(model, node);
      touched.services.insert(more.services.begin(), more.services.end());
      touched.all = touched.all || more.all;
    }
    std::vector<Complaint> complaints, anew_complaints;
    const ResolvedCluster now = resolver.resolve(model, node, &complaints);
    const ResolvedCluster anew = Resolver().resolve(model, node, &anew_complaints);
    RC_ASSERT(test::describe(now) == test::describe(anew));
    RC_ASSERT(now.size() == anew.size());
    RC_ASSERT(complaints == anew_complaints);
    for (const auto& [key, service] : now) {
      const auto old = before.find(key);
      if (old == before.end()) continue;
      // The same pointer exactly where it is the same answer.
      RC_ASSERT((old->second == service) == equal(*old->second, *service));
      if (!touched.all && !touched.services.contains(key.name)) RC_ASSERT(old->second == service);
    }
    before = now;
  }
}

RC_GTEST_PROP(Resolver, AnswersDoNotDependOnTheOrderOfEndpoints, ()) {
  ClusterModel model;
  for (int i = 0; i < kServices; ++i) model.services[{"default", fmt::format("s{}", i)}] = make_service(i);
  for (int i = 0; i < kSlices; ++i) model.slices[{"default", fmt::format("e{}", i)}] = make_slice(i);
  const NodeContext node{"node-a", "z1", {IpAddress::parse("192.0.2.1").value()}, {}, {}};
  const std::string expected = test::describe(Resolver().resolve(model, node, nullptr));
  for (auto& [key, slice] : model.slices) {
    auto turned = std::make_shared<v1::EndpointSlice>(*slice);
    std::set<std::string> addresses;
    for (const auto& endpoint : slice->endpoints()) addresses.insert(endpoint.addresses(0));
    // Within one slice the earlier of two entries for one address counts.
    if (static_cast<int>(addresses.size()) == slice->endpoints_size())
      std::reverse(turned->mutable_endpoints()->begin(), turned->mutable_endpoints()->end());
    slice = turned;
  }
  RC_ASSERT(test::describe(Resolver().resolve(model, node, nullptr)) == expected);
}

std::shared_ptr<const v1::Service> plain_service(const char* address) {
  auto service = std::make_shared<v1::Service>();
  service->mutable_metadata()->set_namespace_("default");
  service->mutable_metadata()->set_name("web");
  service->mutable_spec()->set_cluster_ip(address);
  service->mutable_spec()->add_ports()->set_port(80);
  return service;
}

std::shared_ptr<const v1::EndpointSlice> plain_slice(bool ready, const char* service) {
  auto slice = std::make_shared<v1::EndpointSlice>();
  slice->mutable_metadata()->set_namespace_("default");
  slice->mutable_metadata()->set_name("web-1");
  (*slice->mutable_metadata()->mutable_labels())["kubernetes.io/service-name"] = service;
  slice->set_address_type("IPv4");
  slice->add_ports()->set_port(8080);
  slice->add_endpoints()->add_addresses("10.1.0.1");
  slice->mutable_endpoints(0)->mutable_conditions()->set_ready(ready);
  return slice;
}

TEST(ResolverChanges, TellWhatIsNew) {
  const ServiceKey web{"default", "web"};
  const NodeContext node{"node-a", "", {}, {}, {}};
  Resolver resolver;
  ClusterModel model;
  const auto resolve = [&] {
    resolver.resolve(model, node, nullptr);
    return resolver.changes();
  };
  model.services[web] = plain_service("10.96.0.1");
  model.slices[{"default", "web-1"}] = plain_slice(true, "web");
  ResolveChanges changes = resolve();
  EXPECT_EQ(changes.services, 1U);
  ASSERT_EQ(changes.slices.size(), 1U);
  EXPECT_EQ(changes.slices[0].service, web);
  EXPECT_EQ(changes.slices[0].slice, model.slices.begin()->second);
  EXPECT_EQ(changes.resolved, std::set<ServiceKey>{web});

  changes = resolve();
  EXPECT_EQ(changes.services + changes.slices.size() + changes.resolved.size(), 0U);

  // No frontend reaches another endpoint by this, but the counts differ.
  model.slices[{"default", "web-1"}] = plain_slice(false, "web");
  changes = resolve();
  EXPECT_EQ(changes.services, 0U);
  EXPECT_EQ(changes.slices.size(), 1U);
  EXPECT_EQ(changes.resolved, std::set<ServiceKey>{web});

  model.slices.clear();
  changes = resolve();
  ASSERT_EQ(changes.slices.size(), 1U);
  EXPECT_EQ(changes.slices[0].slice, nullptr);
  EXPECT_EQ(changes.slices[0].service, web);

  model.services.clear();
  changes = resolve();
  EXPECT_EQ(changes.services, 1U);
  EXPECT_EQ(changes.resolved, std::set<ServiceKey>{web});
}

TEST(ResolverChanges, EndpointsAreCountedByCondition) {
  ClusterModel model;
  auto slice = std::make_shared<v1::EndpointSlice>(*plain_slice(true, "web"));
  const auto add = [&](const char* address, const char* where, bool ready, bool serving) {
    auto& endpoint = *slice->add_endpoints();
    endpoint.add_addresses(address);
    endpoint.set_node_name(where);
    endpoint.mutable_conditions()->set_ready(ready);
    endpoint.mutable_conditions()->set_serving(serving);
    endpoint.mutable_conditions()->set_terminating(!ready);
  };
  add("10.1.0.2", "node-a", true, true);
  add("10.1.0.3", "node-a", false, true);
  add("10.1.0.4", "node-a", false, false);
  add("10.1.0.5", "node-b", false, false);
  model.services[{"default", "web"}] = plain_service("10.96.0.1");
  model.slices[{"default", "web-1"}] = slice;
  Resolver resolver;
  const auto& cluster = resolver.resolve(model, {"node-a", "", {}, {}, {}}, nullptr);
  const EndpointCounts counts = cluster.begin()->second->ports[0].endpoints;
  EXPECT_EQ(counts, (EndpointCounts{2, 1, 2, 1}));
}

}  // namespace
}  // namespace maglane
