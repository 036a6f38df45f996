// SPDX-License-Identifier: Apache-2.0
//
// Turns the resolved cluster into a plan: assigns ids that stay, shares Maglev tables and
// backends between whoever needs the same, settles who gets an address claimed twice.
// Pure: touches no map. An update costs what it changes.
//
//   Planner planner(limits, contents_of_the_pinned_maps);
//   for each resolved cluster:
//     PlanUpdate update = planner.update(cluster);
//     apply diff(previous plan, update.plan)        -- the first time diff(contents, plan)
//     wait for a grace period
//     planner.release_retired(update.plan.generation)
//
// For use by one thread, plans included.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "agent/base/complaint.h"
#include "agent/plan/allocator.h"
#include "agent/plan/contents.h"
#include "agent/plan/plan.h"
#include "agent/plan/recovery.h"
#include "agent/resolve/resolved.h"
#include "agent/source/model.h"

namespace maglane {

struct PlanUpdate {
  Plan plan;
  // All that is wrong at present, not only what is new.
  std::vector<Complaint> complaints;
  // What a cluster's own event list would say of it: addresses that two services claim.
  std::vector<v1::Event> events;
  // Something did not fit that may fit after release_retired(): update again then.
  bool retry_after_release = false;
};

class Planner {
 public:
  struct Stats {
    uint64_t services_planned = 0;
    uint64_t tables_built = 0;    // places given to tables that did not exist
    uint64_t tables_shared = 0;   // requests answered by a table that another frontend has
    uint64_t tables_adopted = 0;  // found in the recovered contents
  };

  // `recovered`: what a previous agent left, or nothing. Its ids are kept for whom they
  // were for and its tables where they are; what contradicts itself is ignored, and its
  // place not handed out before the first release.
  explicit Planner(const MapLimits& limits, const MapContents& recovered = {});
  ~Planner();
  Planner(const Planner&) = delete;
  Planner& operator=(const Planner&) = delete;

  // A service that cannot be planned (no room, a name too long) keeps its last good plan.
  PlanUpdate update(const ResolvedCluster& cluster);

  // The plan of this generation is in the kernel, and no program that runs has seen an older one.
  void release_retired(uint64_t generation);

  const Stats& stats() const { return stats_; }
  // Endpoints in the node's own network that the last plan has.
  uint32_t node_backends() const { return node_backends_; }
  uint32_t maglev_entries_used() const { return ranges_.used(); }

 private:
  struct ServiceState;
  struct Claim {
    ServiceState* state;
    const ResolvedServicePort* port;  // of state->claims
    bool before(const Claim& other) const;
  };
  struct BackendState {
    uint32_t id = 0;
    uint32_t holds = 0;
    uint32_t local_holds = 0;
    uint32_t node_holds = 0;
    uint64_t since = 0;  // generation
  };
  struct TableState {
    uint32_t holds = 0;
    uint64_t hash = 0;
    uint64_t since = 0;
  };
  struct AddressState {
    uint32_t slot = 0;
    uint32_t holds = 0;
    uint32_t node_holds = 0;  // by node port frontends
  };
  // The transaction in which one service is planned.
  struct Draft;

  // Claims on frontends (planner.cpp).
  void claim(ServiceState& state);
  void withdraw(ServiceState& state);
  void take_in(const ResolvedCluster& cluster);
  void forget(ServiceState& state);
  std::unique_ptr<ServiceState> new_state(const ServiceKey& key);
  const Claim* winner(const abi::frontend_key& key) const;

  // One service (planner.cpp).
  void replan(ServiceState& state);
  void adopt(ServiceState& state, Draft& draft);
  void keep_last_good(ServiceState& state);
  Status draft_service(ServiceState& state, Draft& draft);
  Result<uint32_t> draft_id(const ServicePlan* old_plan, const abi::service_info& info,
                            const ServicePortKey& key, Draft& draft);
  Status draft_frontend(const ResolvedServicePort& port, const ResolvedFrontend& frontend,
                        const abi::frontend_key& key, Draft& draft);
  Status draft_source_ranges(const ServicePlan* old_plan, const ServicePlan& new_plan);
  Status draft_port(ServiceState& state, const ResolvedServicePort& port, Draft& draft);
  Result<abi::table_ref> draft_table(const ResolvedServicePort& port, const EndpointSetPtr& set,
                                     Draft& draft);
  Status count_frontends(const ServicePlan* old_plan, const ServicePlan& new_plan, uint32_t& removed);
  void roll_back(Draft& draft);

  // What services share (holdings.cpp).
  Result<uint32_t> hold_backend(const ResolvedEndpoint& endpoint, Protocol protocol);
  void drop_backend(BackendHold hold);
  void set_backend_flag(uint32_t id, uint32_t flag, bool value);
  Result<uint32_t> hold_table(std::vector<TableMember> members);
  Status place_table(TablePlan& table);
  void drop_table(uint32_t slot);
  Result<uint32_t> hold_address(const abi::frontend_key& key, bool node_address);
  void drop_address(uint32_t slot, bool node_address);
  Status show_address(const AddressState& state, const abi::frontend_key& key);
  void hide_address(uint32_t slot);
  void count_vip_bit(const abi::frontend_key& key, int change);
  void drop_holdings(const ServicePlan& plan);
  void hold_recovered();
  void retire_unclaimed();
  bool anything_retired() const;

  Plan plan_;
  MaglevBuilder builder_;
  uint64_t generation_ = 0;
  uint32_t node_backends_ = 0;
  Stats stats_;

  RangeAllocator ranges_;
  IdAllocator backend_ids_;
  IdAllocator service_ids_;
  EntryBudget frontend_budget_;
  uint32_t source_range_limit_;
  uint32_t source_ranges_ = 0;  // of all plans in force
  std::unique_ptr<Recovered> recovered_;  // until the first update has taken what it needs

  std::map<ServiceKey, std::unique_ptr<ServiceState>> states_;
  std::vector<uint32_t> free_service_slots_;
  uint32_t next_service_slot_ = 0;
  struct ByKey {
    bool operator()(const ServiceState* a, const ServiceState* b) const;
  };
  std::set<ServiceState*, ByKey> dirty_;
  std::set<ServiceState*, ByKey> failed_;
  std::set<ServiceState*, ByKey> complaining_;
  std::vector<ServicePlanPtr> leaving_;  // whose holdings go once all new plans have theirs

  std::unordered_map<abi::frontend_key, std::vector<Claim>, KeyHash, KeyEqual> claims_;  // the first wins
  std::unordered_map<abi::frontend_key, BackendState, KeyHash, KeyEqual>
      backends_;                    // by address, port, protocol
  std::vector<TableState> tables_;  // by slot
  std::vector<uint32_t> free_table_slots_;
  std::unordered_multimap<uint64_t, uint32_t> table_by_hash_;
  std::unordered_map<abi::frontend_key, AddressState, KeyHash, KeyEqual> addresses_;  // port and protocol 0
  std::vector<abi::frontend_key> address_by_slot_;
  std::vector<uint32_t> free_address_slots_;
  std::unordered_map<uint32_t, uint32_t> vip_holds_;  // by bit
};

}  // namespace maglane
