// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/plan/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "agent/plan/recovery.h"

namespace maglane::test {

namespace {

struct Applier {
  MapContents& contents;

  void operator()(const PutService& put) const { contents.services[put.id] = put.info; }
  void operator()(const PutBackend& put) const { contents.backends[put.id] = put.backend; }
  void operator()(const WriteTable& write) const {
    const size_t end = write.offset + write.backend_ids->size();
    if (contents.maglev.size() < end) contents.maglev.resize(end);
    std::copy(write.backend_ids->begin(), write.backend_ids->end(), contents.maglev.begin() + write.offset);
  }
  void operator()(const SetVipBit& set) const {
    contents.vip_words.resize(abi::VIP_WORDS);
    const uint64_t mask = 1ULL << (set.bit % 64);
    uint64_t& word = contents.vip_words[set.bit / 64];
    word = set.value ? word | mask : word & ~mask;
  }
  void operator()(const PutFrontend& put) const { contents.frontends[put.key] = put.frontend; }
  void operator()(const DeleteFrontend& del) const { contents.frontends.erase(del.key); }
  void operator()(const PutSourceRange& put) const { contents.source_ranges.insert(put.key); }
  void operator()(const DeleteSourceRange& del) const { contents.source_ranges.erase(del.key); }
  void operator()(const ForgetEndpoint& forget) const { contents.udp_endpoints.erase(forget.endpoint); }
  void operator()(const DeleteBackend& del) const { contents.backends.erase(del.id); }
  void operator()(const DeleteService& del) const { contents.services.erase(del.id); }
};

std::string name_of(const abi::backend& backend) {
  uint32_t be[4];
  std::copy(std::begin(backend.addr_be), std::end(backend.addr_be), be);
  return IpAddress::from_be(static_cast<Family>(backend.family), be)
             .with_port(__builtin_bswap16(backend.port_be)) +
         (backend.protocol == 6 ? " TCP" : " UDP");
}

std::string name_of(const abi::service_info& info) {
  return fmt::format("{}/{}:{} {} {}", info.namespace_name, info.name, info.port_name, info.protocol,
                     info.family);
}

Meaning read_table(const MapContents& contents, const abi::table_ref& ref, std::string& problem) {
  Meaning meaning;
  if (ref.size == 0) {
    meaning.verdict = ref.offset == abi::EMPTY_DROP ? "drop" : "reject";
    return meaning;
  }
  if (ref.offset % abi::MAGLEV_LINE_ENTRIES != 0) problem = "a table is not on a line";
  if (static_cast<uint64_t>(ref.offset) + ref.size > contents.maglev.size()) {
    problem = "a table is out of bounds";
    return meaning;
  }
  std::map<uint32_t, uint32_t> counts;
  for (uint32_t i = 0; i < ref.size; ++i) ++counts[contents.maglev[ref.offset + i]];
  for (const auto& [id, count] : counts) {
    const auto backend = contents.backends.find(id);
    if (backend == contents.backends.end())
      problem = fmt::format("table {}+{} names backend {}, which is not there", ref.offset, ref.size, id);
    else
      meaning.entries[name_of(backend->second)] = count;
  }
  return meaning;
}

bool vip_bit(const MapContents& contents, uint32_t bit) {
  return !contents.vip_words.empty() && (contents.vip_words[bit / 64] >> (bit % 64) & 1);
}

std::set<std::pair<uint32_t, uint32_t>> tables_of(const MapContents& contents) {
  std::set<std::pair<uint32_t, uint32_t>> tables;
  for (const auto& [key, frontend] : contents.frontends)
    for (const abi::table_ref& ref : frontend.tables)
      if (ref.size > 0) tables.emplace(ref.offset, ref.size);
  return tables;
}

// Rules that concern packets which already hold an old frontend.
std::string check_reuse(const Operation& operation, const MapContents& before,
                        const std::set<std::pair<uint32_t, uint32_t>>& tables_before) {
  if (const auto* put = std::get_if<PutBackend>(&operation)) {
    const auto old = before.backends.find(put->id);
    if (old != before.backends.end() && name_of(old->second) != name_of(put->backend))
      return fmt::format("backend id {} changes its meaning", put->id);
  }
  if (const auto* put = std::get_if<PutService>(&operation)) {
    const auto old = before.services.find(put->id);
    if (old != before.services.end() && std::strcmp(old->second.name, put->info.name) != 0)
      return fmt::format("service id {} changes its meaning", put->id);
  }
  if (const auto* write = std::get_if<WriteTable>(&operation)) {
    const uint32_t end = write->offset + static_cast<uint32_t>(write->backend_ids->size());
    for (const auto& [offset, size] : tables_before)
      if (write->offset < offset + size && offset < end)
        return fmt::format("a table at {} is written over one at {} in use", write->offset, offset);
  }
  return "";
}

std::string check_state(const MapContents& now, const Meanings& before, const Meanings& after) {
  std::string problem;
  const Meanings meanings = meaning_of(now, problem);
  if (!problem.empty()) return problem;
  for (const auto& [key, meaning] : meanings) {
    const auto old = before.find(key), next = after.find(key);
    const bool is_old = old != before.end() && old->second == meaning;
    const bool is_new = next != after.end() && next->second == meaning;
    if (!is_old && !is_new) return "a frontend means neither what it did nor what it will";
  }
  for (const auto& [key, meaning] : after)
    if (before.contains(key) && !meanings.contains(key)) return "a frontend that stays is absent";
  return "";
}

}  // namespace

void apply(const Operation& operation, MapContents& contents) {
  std::visit(Applier{contents}, operation);
}

void apply_all(const std::vector<Operation>& operations, MapContents& contents) {
  for (const Operation& operation : operations) apply(operation, contents);
}

Meanings meaning_of(const MapContents& contents, std::string& problem) {
  Meanings meanings;
  for (const auto& [key, frontend] : contents.frontends) {
    if (!vip_bit(contents, abi::vip_hash(key.addr_be))) problem = "a frontend's VIP bit is not set";
    FrontendMeaning& meaning = meanings[key];
    meaning.type = frontend.type;
    if (frontend.type == abi::FRONTEND_ADDRESS) continue;
    const auto service = contents.services.find(frontend.service_id);
    if (service == contents.services.end())
      problem = fmt::format("a frontend names service {}, which is not there", frontend.service_id);
    else
      meaning.service = name_of(service->second);
    for (int i = 0; i < abi::SOURCE_CLASSES; ++i)
      meaning.tables[i] = read_table(contents, frontend.tables[i], problem);
  }
  return meanings;
}

std::string check_prefixes(const std::vector<Operation>& operations, MapContents& contents) {
  std::string problem;
  const MapContents start = contents;
  const auto tables_before = tables_of(contents);
  const Meanings before = meaning_of(contents, problem);
  MapContents end = contents;
  apply_all(operations, end);
  const Meanings after = meaning_of(end, problem);
  if (!problem.empty()) return "before or after: " + problem;
  for (const Operation& operation : operations) {
    problem = check_reuse(operation, start, tables_before);
    apply(operation, contents);
    if (problem.empty()) problem = check_state(contents, before, after);
    if (!problem.empty()) return fmt::format("after \"{}\": {}", to_string(operation), problem);
  }
  return "";
}

namespace {

struct Wanted {
  const ResolvedService* service;
  const ResolvedServicePort* port;
  const ResolvedFrontend* frontend;
};

bool comes_first(const Wanted& a, const Wanted& b) {
  const auto rank = [](const Wanted& w) {
    return std::make_tuple(w.service->created.empty(), w.service->created, w.port->key);
  };
  return rank(a) < rank(b);
}

std::map<abi::frontend_key, Wanted, FrontendKeyLess> wanted_frontends(const ResolvedCluster& cluster) {
  std::map<abi::frontend_key, Wanted, FrontendKeyLess> wanted;
  for (const auto& [key, service] : cluster)
    for (const auto& port : service->ports)
      for (const auto& frontend : port.frontends) {
        const Wanted mine{service.get(), &port, &frontend};
        const auto [it, fresh] = wanted.emplace(
            make_key(frontend.address, frontend.port, static_cast<uint8_t>(port.key.protocol)), mine);
        if (!fresh && comes_first(mine, it->second)) it->second = mine;
      }
  return wanted;
}

std::string check_shares(const Meaning& meaning, const EndpointSet& set, Protocol protocol) {
  double weights = 0;
  size_t count = 0;
  for (const auto& one : set.endpoints) {
    weights += one.weight;
    count += one.weight > 0;
  }
  if (count == 0) {
    const char* verdict = set.when_empty == EmptyVerdict::drop ? "drop" : "reject";
    return meaning.verdict == verdict ? "" : "the wrong verdict for an empty set";
  }
  double total = 0;
  for (const auto& [name, entries] : meaning.entries) total += entries;
  if (meaning.entries.size() != count) return "the wrong endpoints";
  if (count > 1 && total < 100.0 * static_cast<double>(count)) return "a table too small";
  for (const auto& one : set.endpoints) {
    if (one.weight == 0) continue;
    const auto found =
        meaning.entries.find(one.address.with_port(one.port) + " " + std::string(to_string(protocol)));
    if (found == meaning.entries.end()) return "an endpoint is missing";
    const double ideal = total * one.weight / weights;
    if (found->second < ideal - 1 || found->second > ideal + 1) return "an endpoint's share is wrong";
  }
  return "";
}

std::string name_of(const ServicePortKey& key) {
  return fmt::format("{}:{} {} {}", key.service.to_string(), key.port_name, static_cast<int>(key.protocol),
                     static_cast<int>(key.family));
}

std::string check_services(const MapContents& contents, const ResolvedCluster& cluster) {
  std::map<std::string, uint16_t> there, wanted;
  for (const auto& [id, info] : contents.services)
    if (!there.emplace(name_of(info), info.port).second) return "a service twice";
  for (const auto& [key, service] : cluster)
    for (const auto& port : service->ports) wanted[name_of(port.key)] = port.port;
  return there == wanted ? "" : "the services are not those of the cluster";
}

std::string check_backends(const MapContents& contents, const std::map<std::string, bool>& wanted) {
  std::map<std::string, bool> there;
  for (const auto& [id, backend] : contents.backends)
    if (!there.emplace(name_of(backend), backend.flags & abi::BACKEND_LOCAL).second) return "a backend twice";
  return there == wanted ? "" : "the backends are not those of the endpoints";
}

std::string check_addresses(const MapContents& contents,
                            const std::map<abi::frontend_key, Wanted, FrontendKeyLess>& wanted) {
  std::map<abi::frontend_key, bool, FrontendKeyLess> addresses;  // false: of the node
  std::set<uint32_t> bits;
  for (const auto& [frontend_key, one] : wanted) {
    abi::frontend_key key = frontend_key;
    key.port_be = 0;
    key.protocol = 0;
    bits.insert(abi::vip_hash(key.addr_be));
    const bool virtual_address = one.frontend->type != FrontendType::node_port;
    const auto [it, fresh] = addresses.emplace(key, virtual_address);
    if (!fresh) it->second = it->second && virtual_address;
  }
  for (const auto& [key, entry] : addresses)
    if (contents.frontends.contains(key) != entry) return "an address entry is missing or too many";
  for (const auto& [key, frontend] : contents.frontends)
    if (key.protocol == 0 && !addresses.contains(key)) return "an address entry of no frontend";
  for (uint32_t bit = 0; bit < abi::VIP_WORDS * 64; ++bit)
    if (vip_bit(contents, bit) != bits.contains(bit)) return fmt::format("VIP bit {} is wrong", bit);
  return "";
}

}  // namespace

std::string check_against_cluster(const MapContents& contents, const ResolvedCluster& cluster) {
  std::string problem;
  const Meanings meanings = meaning_of(contents, problem);
  if (!problem.empty()) return problem;
  const auto wanted = wanted_frontends(cluster);
  std::map<std::string, bool> backends;
  for (const auto& [key, one] : wanted) {
    const auto found = meanings.find(key);
    if (found == meanings.end()) return "a frontend is missing";
    const ServicePortKey& port = one.port->key;
    if (found->second.service != name_of(port)) return "a frontend belongs to the wrong service";
    const EndpointSet* sets[] = {one.frontend->for_outside.get(), one.frontend->for_pods.get()};
    for (int i = 0; i < abi::SOURCE_CLASSES; ++i) {
      problem = check_shares(found->second.tables[i], *sets[i], port.protocol);
      if (!problem.empty()) return problem;
      for (const auto& e : sets[i]->endpoints)
        if (e.weight > 0)
          backends[e.address.with_port(e.port) + " " + std::string(to_string(port.protocol))] |= e.local;
    }
  }
  for (const auto& [key, meaning] : meanings)
    if (key.protocol != 0 && !wanted.contains(key)) return "a frontend too many";
  problem = check_services(contents, cluster);
  if (problem.empty()) problem = check_backends(contents, backends);
  return problem.empty() ? check_addresses(contents, wanted) : problem;
}

}  // namespace maglane::test
