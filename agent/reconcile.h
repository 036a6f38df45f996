// SPDX-License-Identifier: Apache-2.0
//
// Keeps the kernel in line with the cluster and with the node's network: the one place that
// calls source -> resolve -> plan -> diff -> kernel, and the one that tries again.
//
//   epoll says source_fd() / network_fd() is readable  ->  on_source() / on_network()
//   next_due() has passed                              ->  run_due()
//
// Start-up is an ordinary update, against what the pinned maps hold. Programs are attached
// (or swapped) after the first update is in the maps, so no packet meets an empty data plane.
// For use by one thread; everyone else reads the StatusBoard.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "agent/config.h"
#include "agent/control/status_board.h"
#include "agent/health/monitor.h"
#include "agent/health/servers.h"
#include "agent/kernel/attach.h"
#include "agent/kernel/bpffs.h"
#include "agent/kernel/carry_over.h"
#include "agent/kernel/loader.h"
#include "agent/kernel/maps.h"
#include "agent/kernel/netlink.h"
#include "agent/kernel/pod_namespaces.h"
#include "agent/kernel/socket_hooks.h"
#include "agent/masquerade.h"
#include "agent/node_network.h"
#include "agent/plan/operation.h"
#include "agent/plan/planner.h"
#include "agent/resolve/resolve.h"
#include "agent/source/manifest_dir.h"
#include "agent/source/masq_config.h"

namespace maglane {

class Reconciler {
 public:
  using Clock = std::chrono::steady_clock;

  // Loads the data plane and opens everything; programs nothing yet. `board` must outlive it.
  static Result<std::unique_ptr<Reconciler>> start(const Config& config, StatusBoard& board);

  int source_fd() const { return source_.fd(); }
  int network_fd() const { return network_.fd(); }
  int masq_fd() const { return masq_file_ ? masq_file_->fd() : -1; }  // -1: no file is followed
  void on_source();
  void on_network();
  void on_masq_file();
  Clock::time_point next_due() const;
  void run_due();

  // Reads the source again, compares the maps with the plan, repairs, attaches anew. Returns how
  // many operations that took.
  Result<uint32_t> resync();

  // For the status. Thread-safe.
  void describe_health(v1::Status& status) const;

  // The first full update is in the kernel, and packets meet it.
  bool synced() const { return synced_; }

 private:
  using Due = std::optional<Clock::time_point>;
  // Doubles from try to try.
  struct Backoff {
    std::chrono::milliseconds next{100};
    std::chrono::milliseconds step();
    void reset() { *this = {}; }
  };

  Reconciler(const Config& config, StatusBoard& board, ManifestDir source, NetlinkWatch network, Bpffs bpffs,
             std::shared_ptr<const DataPlane> data_plane, PinnedMaps maps);

  void read_source();
  Result<uint32_t> update();
  Result<uint32_t> bring_maps_to(const ResolvedCluster& cluster, std::vector<Complaint>& complaints);
  Status apply(std::span<const Operation> operations);
  void settle_network();
  void look_at_network();
  Status write_node_state();
  uint32_t shared_hops() const;  // enum shared_hops
  void carry_flows_over();
  Status write_masquerade();
  void look_at_ports();
  void attach();
  void expire();
  void look_after_sockets(std::span<const Operation> operations);
  void end_stale_sockets();
  void keep_flow_bits() { flow_bits_due_ = flow_bits_.run(Clock::now()); }
  Status start_health();
  void listen();
  void log_attachments(const std::vector<Attachment>& before);
  void publish();
  const v1::Node* own_node() const;
  NodeContext node_context() const;

  Config config_;
  DataPlaneOptions options_;
  StatusBoard& board_;
  ManifestDir source_;
  const ClusterModel* model_ = nullptr;  // null until the source was read once
  NetlinkWatch network_;
  NodeNetwork view_;
  std::unique_ptr<MasqFile> masq_file_;   // of --masq-config
  std::optional<MasqConfig> masq_config_;  // its last good state
  std::optional<std::set<Cidr>> masquerade_ranges_;  // as they are in the map
  PortShortageLog port_shortage_log_;
  Bpffs bpffs_;
  std::shared_ptr<const DataPlane> data_plane_;
  PinnedMaps maps_;
  CarryOver carry_over_;  // until all programs in place are ours
  FlowBits flow_bits_;
  Attacher attacher_;
  SocketHooks socket_hooks_;
  PodNamespaces pod_namespaces_;

  Resolver resolver_;
  std::unique_ptr<Planner> planner_;  // from the first update on
  std::optional<Plan> plan_;          // what the maps hold; nothing: they are to be read

  // UDP sockets to be ended, once more after a while: a connect that was under way when they were
  // looked for is found then.
  std::map<uint64_t, abi::socket_peer> stale_sockets_;

  unsigned network_changes_ = 0;  // NetworkChange bits not yet acted on
  bool epoch_due_ = true;         // much may have changed while no agent was there
  bool retry_xdp_ = true;
  bool synced_ = false;
  bool node_endpoints_ = false;  // there are some, or were
  Due update_due_, network_due_, attach_due_, housekeeping_due_, listen_due_;
  Due flow_bits_due_;  // from when all programs in place are ours
  Clock::time_point expiry_due_;
  Backoff update_backoff_, attach_backoff_, listen_backoff_;

  // What is wrong at present, by where it was found.
  std::vector<Complaint> program_complaints_, carry_over_complaints_, host_complaints_, model_complaints_,
      kernel_complaints_, attach_complaints_, expiry_complaints_, socket_complaints_, pod_complaints_,
      masquerade_complaints_, listen_complaints_;
  std::set<Complaint> published_;
  std::vector<v1::Event> events_;

  std::unique_ptr<HealthMonitor> health_;
  std::unique_ptr<HealthServers> servers_;  // answer from health_: end first
};

}  // namespace maglane
