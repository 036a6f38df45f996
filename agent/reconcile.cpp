// SPDX-License-Identifier: Apache-2.0
#include "agent/reconcile.h"

#include <fmt/format.h>
#include <malloc.h>
#include <spdlog/spdlog.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "agent/health/exposition.h"
#include "agent/host_checks.h"
#include "agent/inspect/inspector.h"
#include "agent/kernel/expiry.h"
#include "agent/kernel/grace.h"
#include "agent/kernel/sock_diag.h"
#include "agent/kernel/unfinished_swap.h"
#include "agent/plan/diff.h"

namespace maglane {
namespace {

// A burst of notifications, as when a link goes down with all its routes, is one change; yet
// flows should leave a next hop that is gone soon.
constexpr std::chrono::milliseconds kNetworkQuiet{10};
constexpr std::chrono::seconds kExpiryInterval{1};
constexpr std::chrono::minutes kHousekeepingInterval{1};
constexpr std::chrono::milliseconds kLongestBackoff{30000};

std::string kernel_release() {
  utsname name{};
  ::uname(&name);
  return name.release;
}

double milliseconds_since(Reconciler::Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Reconciler::Clock::now() - begin).count();
}

// How long each step of an update took, for the log at level debug.
class Steps {
 public:
  void end(const char* step) {
    text_ += fmt::format("{}{} {:.1f} ms", text_.empty() ? "" : ", ", step, milliseconds_since(begin_));
    begin_ = Reconciler::Clock::now();
  }
  const std::string& text() const { return text_; }

 private:
  Reconciler::Clock::time_point begin_ = Reconciler::Clock::now();
  std::string text_;
};

}  // namespace

std::chrono::milliseconds Reconciler::Backoff::step() {
  std::chrono::milliseconds now = next;
  next = std::min(next * 2, kLongestBackoff);
  return now;
}

Result<std::unique_ptr<Reconciler>> Reconciler::start(const Config& config, StatusBoard& board) {
  auto source = ManifestDir::open(config.manifests);
  if (!source) return source.error().in("--manifests");
  auto network = NetlinkWatch::open();
  if (!network) return network.error();
  // Before anything changes: a wrong file ends the start.
  auto masq_file = config.masq_config.empty() ? Result<std::unique_ptr<MasqFile>>(std::unique_ptr<MasqFile>())
                                              : MasqFile::open(config.masq_config);
  if (!masq_file) return masq_file.error().in("--masq-config");
  auto masq_config = *masq_file ? (*masq_file)->read() : Result<MasqConfig>(MasqConfig{});
  if (!masq_config) return masq_config.error().in("--masq-config");
  Bpffs bpffs(config.bpffs);
  if (auto s = bpffs.prepare(); !s) return s.error().in("--bpffs");
  if (auto s = settle_unfinished_swap(bpffs); !s) return s.error().in("--bpffs");
  auto data_plane = DataPlane::load(bpffs, data_plane_options(config));
  if (!data_plane) return data_plane.error();
  auto maps = PinnedMaps::open(config.bpffs);
  if (!maps) return maps.error();
  auto carry_over = CarryOver::open(bpffs);
  if (!carry_over) return carry_over.error();
  std::unique_ptr<Reconciler> reconciler(
      new Reconciler(config, board, std::move(*source), std::move(*network), std::move(bpffs),
                     std::make_shared<DataPlane>(std::move(*data_plane)), std::move(*maps)));
  reconciler->carry_over_ = std::move(*carry_over);
  reconciler->masq_file_ = std::move(*masq_file);
  if (reconciler->masq_file_) reconciler->masq_config_ = std::move(*masq_config);
  if (auto s = reconciler->start_health(); !s) return s.error();
  return reconciler;
}

Reconciler::Reconciler(const Config& config, StatusBoard& board, ManifestDir source, NetlinkWatch network,
                       Bpffs bpffs, std::shared_ptr<const DataPlane> data_plane, PinnedMaps maps)
    : config_(config),
      options_(data_plane_options(config)),
      board_(board),
      source_(std::move(source)),
      network_(std::move(network)),
      bpffs_(std::move(bpffs)),
      data_plane_(std::move(data_plane)),
      maps_(std::move(maps)),
      flow_bits_(maps_.flow_bits(config.flow_bits_interval)),
      attacher_(bpffs_, data_plane_, config.xdp, probe_tc_kind(*data_plane_)),
      socket_hooks_(bpffs_, data_plane_, config.socket_translation),
      pod_namespaces_(data_plane_),
      expiry_due_(Clock::now() + kExpiryInterval) {
  if (!data_plane_->refused().empty()) {
    program_complaints_ = {{"programs", fmt::format("those of version {} are not in use, the ones before them go on "
                                                    "with their options: {}",
                                                    MAGLANE_VERSION, data_plane_->refused())}};
  }
  look_at_ports();  // what was short before is no news
  host_complaints_ = check_host(config_, options_);
  housekeeping_due_ = Clock::now() + kHousekeepingInterval;
  board_.update([&](v1::Status& status) {
    status.set_version(MAGLANE_VERSION);
    status.set_node_name(config_.node_name);
    status.set_source("manifests in " + config_.manifests);
    status.set_pid(static_cast<uint32_t>(::getpid()));
    status.set_kernel(kernel_release());
  });
}

const v1::Node* Reconciler::own_node() const {
  if (!model_) return nullptr;
  auto node = model_->nodes.find(config_.node_name);
  return node == model_->nodes.end() ? nullptr : node->second.get();
}

NodeContext Reconciler::node_context() const {
  return {config_.node_name, "", view_.primary_addresses(), view_.local_addresses,
          config_.node_port_addresses};
}

// ---- when ----------------------------------------------------------------------

void Reconciler::on_source() {
  if (source_.on_readable()) health_->queued(Instant::now());
}

void Reconciler::on_network() {
  auto changes = network_.process();
  if (!changes) {
    spdlog::error("{}", changes.error().message);
    return;
  }
  network_changes_ |= *changes;
  if (network_changes_ != 0 && !network_due_) network_due_ = Clock::now() + kNetworkQuiet;
}

Reconciler::Clock::time_point Reconciler::next_due() const {
  Clock::time_point next = expiry_due_;
  for (const Due& due :
       {update_due_, network_due_, attach_due_, housekeeping_due_, flow_bits_due_, listen_due_}) {
    if (due) next = std::min(next, *due);
  }
  if (auto wait = source_.deadline()) next = std::min(next, Clock::now() + *wait);
  return next;
}

void Reconciler::run_due() {
  auto is_due = [](const Due& due) { return due && *due <= Clock::now(); };
  health_->alive(Instant::now());
  if (auto wait = source_.deadline(); wait && wait->count() <= 0) read_source();
  if (is_due(network_due_)) settle_network();
  if (is_due(update_due_)) (void)update();
  if (is_due(housekeeping_due_)) {
    housekeeping_due_ = Clock::now() + kHousekeepingInterval;
    host_complaints_ = check_host(config_, options_);
    retry_xdp_ = true;
    if (synced_) attach_due_ = Clock::now();
  }
  if (is_due(attach_due_)) attach();
  if (is_due(listen_due_)) {
    listen();
    publish();
  }
  if (expiry_due_ <= Clock::now()) expire();
  if (is_due(flow_bits_due_)) keep_flow_bits();
}

Result<uint32_t> Reconciler::resync() {
  source_.look_again();
  read_source();
  plan_.reset();
  auto operations = update();
  retry_xdp_ = true;
  if (operations) attach();
  return operations;
}

// ---- the cluster -----------------------------------------------------------------

// Until all was listed once, what is missing may merely not have been seen yet: to act on it
// would take away what a former agent left in force.
void Reconciler::read_source() {
  const ClusterModel& model = source_.read();
  if (source_.listed()) {
    model_ = &model;
    update_due_ = Clock::now();
  } else {
    model_complaints_ = model.complaints;
    publish();
  }
}

Result<uint32_t> Reconciler::update() {
  update_due_.reset();
  if (!model_) return Error{"the source was not read yet"};
  health_->queued(Instant::now());
  Clock::time_point begin = Clock::now();
  look_at_network();
  std::vector<Complaint> complaints = model_->complaints;
  health_->set_node(own_node());
  const ResolvedCluster& cluster = resolver_.resolve(*model_, node_context(), &complaints);
  health_->resolved(resolver_.changes());
  auto operations = bring_maps_to(cluster, complaints);
  model_complaints_ = std::move(complaints);
  kernel_complaints_.clear();
  if (!operations) {
    health_->failed(Clock::now() - begin);
    plan_.reset();  // how far it came is not known: compare with the maps themselves next time
    auto wait = update_backoff_.step();
    update_due_ = Clock::now() + wait;
    kernel_complaints_ = {{"update", operations.error().message}};
    spdlog::error("update failed, next try in {} ms: {}", wait.count(), operations.error().message);
    publish();
    return operations;
  }
  update_backoff_.reset();
  health_->applied(cluster, Clock::now() - begin, Instant::now());
  listen();
  board_.note_update(Clock::now() - begin);
  spdlog::info("update: {} changes for {} services in {:.1f} ms", *operations, cluster.size(),
               milliseconds_since(begin));
  if (synced_) {
    publish();
  } else {
    attach();
  }
  return operations;
}

Result<uint32_t> Reconciler::bring_maps_to(const ResolvedCluster& cluster,
                                           std::vector<Complaint>& complaints) {
  Steps steps;
  std::optional<MapContents> contents;
  if (!plan_) {
    auto read = maps_.read_contents(true);
    if (!read) return read.error();
    contents = std::move(*read);
  }
  if (!planner_) {
    MapLimits limits;
    // As they are: an older agent's stay in use if this one's programs were refused.
    limits.maglev_entries = data_plane_->entries("maglev") * abi::MAGLEV_LINE_ENTRIES;
    limits.frontends = options_.frontends;
    planner_ = std::make_unique<Planner>(limits, *contents);
  }
  steps.end("read maps");
  PlanUpdate next = planner_->update(cluster);
  steps.end("plan");
  complaints.insert(complaints.end(), next.complaints.begin(), next.complaints.end());
  events_ = next.events;
  // Before packets find such endpoints: their replies must be met where they leave.
  if (planner_->node_backends() > 0 && !std::exchange(node_endpoints_, true) && synced_) attach();
  std::vector<Operation> operations = plan_ ? diff(*plan_, next.plan) : diff(*contents, next.plan);
  contents.reset();
  steps.end("diff");
  if (auto s = write_node_state(); !s) return s.error();
  if (auto s = write_masquerade(); !s) return s.error();
  if (auto s = apply(operations); !s) return s.error();
  steps.end("apply");
  planner_->release_retired(next.plan.generation);
  plan_ = std::move(next.plan);
  if (next.retry_after_release) update_due_ = Clock::now();
  steps.end("release");
  spdlog::debug("{}", steps.text());
  return static_cast<uint32_t>(operations.size());
}

Status Reconciler::apply(std::span<const Operation> operations) {
  size_t cleanup = cleanup_begin(operations);
  if (auto s = maps_.apply(operations.first(cleanup)); !s) return s;
  if (!operations.empty()) {
    wait_grace_period();
    maps_.release_retired();
  }
  if (auto s = maps_.apply(operations.subspan(cleanup)); !s) return s;
  look_after_sockets(operations);
  return ok_status();
}

// What the node's UDP sockets know of endpoints that are gone is forgotten with their flows.
void Reconciler::look_after_sockets(std::span<const Operation> operations) {
  std::set<abi::service_endpoint, BytesLess> gone;
  for (const Operation& operation : operations)
    if (const auto* forget = std::get_if<ForgetEndpoint>(&operation)) gone.insert(forget->endpoint);
  if (gone.empty() || config_.socket_translation == SocketTranslation::off) return;
  auto connected = maps_.forget_sockets(gone);
  if (!connected) {
    spdlog::error("sockets: {}", connected.error().message);
    return;
  }
  stale_sockets_.merge(*connected);
  end_stale_sockets();
}

void Reconciler::end_stale_sockets() {
  socket_complaints_.clear();
  auto ended = end_udp_sockets(stale_sockets_);
  if (ended && *ended < stale_sockets_.size()) {
    auto of_pods = pod_namespaces_.end_udp_sockets(stale_sockets_);
    ended = of_pods ? Result<uint32_t>(*ended + *of_pods) : Result<uint32_t>(of_pods.error());
  }
  if (!ended) {
    socket_complaints_ = {{"sockets", fmt::format("UDP sockets stay connected to endpoints that are gone: {}",
                                                  ended.error().message)}};
  } else if (*ended > 0) {
    spdlog::info("sockets: {} UDP sockets were connected to endpoints that are gone", *ended);
  }
}

// ---- the network -----------------------------------------------------------------

void Reconciler::settle_network() {
  network_due_.reset();
  unsigned changes = std::exchange(network_changes_, 0);
  epoch_due_ |= (changes & CHANGED_NEXT_HOPS) != 0;
  NodeNetwork before = view_;
  look_at_network();
  if (!model_) return;  // the first update sees it, and then knows the Node object as well
  for (const Status& written : {write_node_state(), write_masquerade()}) {
    if (written) continue;
    spdlog::error("{}", written.error().message);
    network_due_ = Clock::now() + kExpiryInterval;
  }
  if (view_.devices != before.devices && synced_) attach_due_ = Clock::now();
  bool addresses = view_.local_addresses != before.local_addresses ||
                   view_.primary_addresses() != before.primary_addresses();
  if (addresses) update_due_ = Clock::now();
  if (view_ != before) publish();
}

void Reconciler::look_at_network() {
  view_ = view_network(network_.model(), config_, own_node(), view_);
}

// Of the node's state only what differs is written; a new epoch makes flows look their next
// hop up again.
Status Reconciler::write_node_state() {
  auto present = maps_.read_node_state();
  if (!present) return present.error();
  abi::node_state state = *present;
  uint32_t ipv4[4] = {};
  std::fill(std::begin(state.addr6_be), std::end(state.addr6_be), 0);
  if (view_.primary_ipv4) view_.primary_ipv4->to_be(ipv4);
  if (view_.primary_ipv6) view_.primary_ipv6->to_be(state.addr6_be);
  state.addr4_be = ipv4[0];
  std::memset(state.pod_cidrs, 0, sizeof state.pod_cidrs);
  for (size_t i = 0; i < view_.pod_cidrs.size() && i < abi::NODE_POD_CIDRS; ++i)
    state.pod_cidrs[i] = make_prefix(view_.pod_cidrs[i]);
  // What is no longer so is taken back at once; what is so is said with the next expiry.
  state.shared_hops &= shared_hops() | abi::STAMP_SLOT_MASK;
  state.network_model = static_cast<uint32_t>(config_.network_model);
  for (size_t i = 0; i < std::size(state.snat_port_min); ++i) {
    const bool there = i < config_.snat_ports.size();
    state.snat_port_min[i] = there ? config_.snat_ports[i].first : uint16_t{0};
    state.snat_port_count[i] =
        there ? static_cast<uint16_t>(config_.snat_ports[i].last - config_.snat_ports[i].first + 1) : uint16_t{0};
  }
  if (epoch_due_) state.epoch = state.epoch % abi::EPOCH_MAX + 1;
  if (std::memcmp(&state, &*present, sizeof state) == 0) return ok_status();
  if (auto s = maps_.write_node_state(state); !s) return s;
  epoch_due_ = false;
  return ok_status();
}

uint32_t Reconciler::shared_hops() const {
  uint32_t shared = 0;
  if (network_.model().next_hops_are_shared(Family::ipv4)) shared |= abi::SHARED_HOPS_IPV4;
  if (network_.model().next_hops_are_shared(Family::ipv6)) shared |= abi::SHARED_HOPS_IPV6;
  return shared;
}

// Flows of tables that had another size.
void Reconciler::carry_flows_over() {
  carry_over_complaints_.clear();
  auto carried = carry_over_.run(data_plane_->program("adopt"));
  if (!carried) {
    carry_over_complaints_ = {{"flows", carried.error().message}};
  } else if (carried->flows > 0 || carried->refused > 0) {
    spdlog::info("flows: {} carried over from tables of another size, {} did not fit", carried->flows,
                 carried->refused);
  }
}

// ---- masquerade --------------------------------------------------------------------

void Reconciler::on_masq_file() {
  if (!masq_file_->on_readable()) return;
  masquerade_complaints_.clear();
  auto read = masq_file_->read();
  if (!read) {
    masquerade_complaints_ = {
        {"--masq-config", read.error().message + "; what it said last stays in force"}};
  } else if (masq_config_ != *read) {
    masq_config_ = std::move(*read);
    spdlog::info("{}: {} ranges are not masqueraded", config_.masq_config, masq_config_->not_masqueraded.size());
  }
  if (auto s = write_masquerade(); !s) masquerade_complaints_.push_back({"masquerade", s.error().message});
  publish();
}

// Whom nobody masquerades to, and as whom pods leave. An update that fails writes the ranges again.
Status Reconciler::write_masquerade() {
  if (auto s = maps_.write_egress_addresses(view_.egress_addresses); !s) return s;
  if (config_.network_model == MasqueradeModel::none && masquerade_ranges_) return ok_status();
  std::set<Cidr> ranges = masquerade_ranges(config_, model_, masq_config_ ? &*masq_config_ : nullptr);
  // Before the source was read, what there is may hold more than is known here.
  if (!model_ || ranges == masquerade_ranges_) return ok_status();
  masquerade_ranges_.reset();
  if (auto s = maps_.write_masquerade_ranges(ranges); !s) return s;
  masquerade_ranges_ = std::move(ranges);
  return ok_status();
}

void Reconciler::look_at_ports() {
  auto shortages = maps_.read_port_shortages();
  if (!shortages) return;
  if (auto line = port_shortage_log_.look(*shortages, Clock::now())) spdlog::warn("{}", *line);
}

void Reconciler::attach() {
  attach_due_.reset();
  std::vector<Attachment> before = attacher_.attachments();
  if (!flow_bits_due_) flow_bits_.admit_all();
  attach_complaints_.clear();
  // Of the pods that this agent may serve so, before its programs are there.
  const bool pods = config_.socket_translation == SocketTranslation::all;
  pod_complaints_ = pod_namespaces_.update(pods ? view_.devices : std::vector<WantedDevice>{});
  // A device may have gone meanwhile; the network's news of that will come.
  for (const Status& attached :
       {attacher_.attach(view_.devices, std::exchange(retry_xdp_, false), node_endpoints_,
                        config_.network_model != MasqueradeModel::none),
        socket_hooks_.attach()}) {
    if (!attached) attach_complaints_.push_back({"attaching", attached.error().message});
  }
  log_attachments(before);
  if (attach_complaints_.empty()) {
    attach_backoff_.reset();
    if (carry_over_.needed()) {
      wait_grace_period();  // of programs that were just swapped: they changed the old tables
      carry_flows_over();
      // What an update has forgotten since the start was still there to be carried over: compare with all flows.
      plan_.reset();
      update_due_ = Clock::now();
    }
    // Copies that failed may do better when a new agent tries.
    if (carry_over_complaints_.empty()) {
      data_plane_->let_go_of_retired();
      carry_over_.finish();
    }
    if (!flow_bits_due_) flow_bits_due_ = Clock::now();
  } else {
    attach_due_ = Clock::now() + attach_backoff_.step();
  }
  publish();
  if (std::exchange(synced_, true)) return;
  board_.set_synced();
  expiry_due_ = Clock::now();  // flows were idle while there was no agent, and this one may not live long
  // To compare everything with the maps took much memory, and is not needed again.
  ::malloc_trim(0);
}

void Reconciler::log_attachments(const std::vector<Attachment>& before) {
  const std::vector<Attachment>& now = attacher_.attachments();
  for (const Attachment& a : now) {
    if (std::find(before.begin(), before.end(), a) != before.end()) continue;
    spdlog::info("{} {}: {} {}{}{}", to_string(a.role), a.device, to_string(a.hook), a.mode,
                 a.note.empty() ? "" : ": ", a.note);
  }
}

void Reconciler::expire() {
  // Not one interval after the last: a late run is not to shift the next.
  expiry_due_ = std::max(expiry_due_ + kExpiryInterval, Clock::now());
  bool failed_before = !expiry_complaints_.empty();
  expiry_complaints_.clear();
  for (const abi::family family : {abi::FAMILY_IPV4, abi::FAMILY_IPV6}) {
    auto result =
        run_expiry(data_plane_->program("expire"), family,
                   data_plane_->entries(family == abi::FAMILY_IPV4 ? "flows4" : "flows6"), shared_hops());
    if (!result) expiry_complaints_ = {{"expiry", result.error().message}};
    if (result) spdlog::trace("expiry: {} of {} flows removed", result->removed, result->examined);
  }
  if (!stale_sockets_.empty()) {
    end_stale_sockets();
    stale_sockets_.clear();
  }
  look_at_ports();
  if (failed_before == expiry_complaints_.empty()) publish();
}

// ---- health ------------------------------------------------------------------------

Status Reconciler::start_health() {
  std::vector<Family> families;
  if (options_.ipv4) families.push_back(Family::ipv4);
  if (options_.ipv6) families.push_back(Family::ipv6);
  const auto read = [bpffs = config_.bpffs]() -> Result<std::vector<prometheus::MetricFamily>> {
    auto inspector = inspect::Inspector::open(bpffs);
    if (!inspector) return inspector.error();
    return data_plane_families(*inspector);
  };
  const Instant now = Instant::now();
  health_ = std::make_unique<HealthMonitor>(
      std::move(families), std::chrono::seconds(config_.healthz_timeout), MAGLANE_VERSION, read, now);
  health_->queued(now);  // the first update
  auto servers = HealthServers::start(*health_, {config_.healthz_address, config_.metrics_address});
  if (!servers) return servers.error();
  servers_ = std::move(*servers);
  listen();
  publish();
  return ok_status();
}

// A port that is taken is no reason to end: whoever has it may go.
void Reconciler::listen() {
  listen_due_.reset();
  std::optional<std::vector<IpAddress>> addresses;
  if (!config_.node_port_addresses.empty() && model_)
    addresses = node_view(*model_, node_context()).node_port_addresses;
  listen_complaints_ = servers_->listen(addresses);
  if (listen_complaints_.empty()) {
    listen_backoff_.reset();
  } else {
    listen_due_ = Clock::now() + listen_backoff_.step();
  }
  const std::vector<Complaint> claims = health_->complaints();
  listen_complaints_.insert(listen_complaints_.end(), claims.begin(), claims.end());
}

void Reconciler::describe_health(v1::Status& status) const {
  v1::Health* health = status.mutable_health();
  health_->describe(Instant::now(), health);
  const auto text = [](const auto& address) { return address ? address->to_string() : ""; };
  health->set_healthz_address(text(config_.healthz_address));
  health->set_metrics_address(text(config_.metrics_address));
}

// ---- what is told ------------------------------------------------------------------

void Reconciler::publish() {
  std::set<Complaint> complaints;
  for (const auto* list :
       {&program_complaints_, &carry_over_complaints_, &host_complaints_, &view_.complaints, &model_complaints_,
        &kernel_complaints_, &attach_complaints_, &expiry_complaints_, &socket_complaints_, &pod_complaints_,
        &masquerade_complaints_, &listen_complaints_}) {
    complaints.insert(list->begin(), list->end());
  }
  for (const Complaint& c : complaints) {
    if (!published_.contains(c)) spdlog::warn("{}: {}", c.where, c.message);
  }
  for (const Complaint& c : published_) {
    if (!complaints.contains(c)) spdlog::info("no longer: {}: {}", c.where, c.message);
  }
  published_ = std::move(complaints);
  board_.update([&](v1::Status& status) {
    status.clear_problems();
    for (const Complaint& c : published_) {
      v1::Problem* problem = status.add_problems();
      problem->set_where(c.where);
      problem->set_message(c.message);
    }
    status.clear_events();
    for (const v1::Event& event : events_) *status.add_events() = event;
    status.clear_attachments();
    for (const Attachment& a : attacher_.attachments()) {
      v1::Attachment* attachment = status.add_attachments();
      attachment->set_device(a.device);
      attachment->set_role(std::string(to_string(a.role)));
      attachment->set_hook(std::string(to_string(a.hook)));
      attachment->set_mode(a.mode);
      attachment->set_note(a.note);
    }
    if (!socket_hooks_.where().empty()) {
      v1::Attachment* attachment = status.add_attachments();
      attachment->set_device(socket_hooks_.where());
      attachment->set_role("sockets");
      attachment->set_hook("cgroup");
      attachment->set_mode(std::string(to_string(socket_hooks_.wanted())));
    }
    status.set_node_address_ipv4(view_.primary_ipv4 ? view_.primary_ipv4->to_string() : "");
    status.set_node_address_ipv6(view_.primary_ipv6 ? view_.primary_ipv6->to_string() : "");
  });
}

}  // namespace maglane
