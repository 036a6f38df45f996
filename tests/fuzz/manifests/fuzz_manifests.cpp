// SPDX-License-Identifier: Apache-2.0
//
// Any bytes as a manifest file, beside a good one, then resolved: must neither crash nor
// break what later stages rely on. The first byte says whether it is read as JSON.
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "agent/resolve/resolve.h"
#include "agent/source/manifest_set.h"

namespace {

using namespace maglane;

constexpr std::string_view kGood = R"(apiVersion: v1
kind: Service
metadata: {name: good}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
)";

void require(bool holds) {
  if (!holds) std::abort();
}

void check(const ResolvedCluster& cluster) {
  for (const auto& [key, service] : cluster) {
    require(service != nullptr && service->key == key && !key.name.empty() && key.name.size() < 64);
    for (const auto& port : service->ports) {
      std::set<std::pair<IpAddress, uint16_t>> seen;
      for (const auto& frontend : port.frontends) {
        require(frontend.port != 0 && frontend.address.family() == port.key.family);
        require(seen.emplace(frontend.address, frontend.port).second);
        require(frontend.for_outside != nullptr && frontend.for_pods != nullptr);
        for (const auto& endpoint : frontend.for_pods->endpoints)
          require(endpoint.port != 0 && endpoint.weight != 0 && endpoint.address.family() == port.key.family);
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string name = data[0] == '{' ? "fuzz.json" : "fuzz.yaml";
  ManifestSet set;
  set.put("a-good.yaml", decode_manifest(kGood, "a-good.yaml"));
  DecodedFile decoded = decode_manifest(text, name);
  require(decoded.parsed || (decoded.objects.empty() && decoded.complaints.size() == 1));
  for (const auto& complaint : decoded.complaints) require(complaint.message.find('\n') == std::string::npos);
  set.put(name, std::move(decoded));

  NodeContext node{
      "node-a", "z1", {IpAddress::parse("192.0.2.1").value(), IpAddress::parse("fd00::1").value()}, {}, {}};
  Resolver resolver;
  check(resolver.resolve(set.model(), node, nullptr));
  require(resolver.resolve(set.model(), node, nullptr).contains({"default", "good"}));
  set.remove(name);
  require(resolver.resolve(set.model(), node, nullptr).size() == 1);
  return 0;
}
