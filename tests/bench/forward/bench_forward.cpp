// SPDX-License-Identifier: Apache-2.0
//
// The traffic of the forwarding benchmark, between two network namespaces that forward.py has
// made. Prints its figures as one JSON object.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "tests/bench/forward/kinds.h"

namespace maglane::bench {
namespace {

void add_common(CLI::App* app, auto& options) {
  app->add_option("--client", options.client, "Network namespace of the client")->required();
  app->add_option("--backend", options.backend, "Network namespace of the endpoints")->required();
  app->add_option("--target", options.target, "Address that the client uses")->required();
  app->add_option("--port", options.port, "Port that the client uses")->required();
  app->add_option("--endpoint-port", options.endpoint_port, "Port of the endpoints")->capture_default_str();
  app->add_option("--seconds", options.seconds)->check(CLI::Range(0.05, 3600.0))->capture_default_str();
}

}  // namespace
}  // namespace maglane::bench

int main(int argc, char** argv) {
  using namespace maglane::bench;
  UdpOptions udp;
  TcpOptions tcp;
  CLI::App app("Traffic for the forwarding benchmark; tools/bench forward runs it");
  app.require_subcommand(1);
  CLI::App* udp_command = app.add_subcommand("udp", "64-byte frames, as many as can be");
  add_common(udp_command, udp);
  udp_command->add_option("--source", udp.source, "Address of the client")->required();
  udp_command->add_option("--target-mac", udp.target_mac, "Of the node's device")->required();
  udp_command->add_option("--endpoints", udp.endpoints, "A /24 network, by its first address")->required();
  udp_command->add_option("--flows", udp.flows)->check(CLI::Range(1, 60000))->capture_default_str();
  udp_command->add_flag("--sink-at-tc", udp.sink_at_tc, "Take the frames off at tc, not at XDP");
  auto* redirect = udp_command->add_option("--redirect-at", udp.redirect_at, "Forward by a program alone, in this network namespace");
  udp_command->add_option("--redirect-from", udp.redirect_from, "The device there that frames come in by")->needs(redirect);
  udp_command->add_option("--redirect-to", udp.redirect_to, "The one that they leave by")->needs(redirect);
  udp_command->add_option("--redirect-mac", udp.redirect_mac, "Whom they are for behind it")->needs(redirect);
  CLI::App* tcp_command = app.add_subcommand("tcp", "Connect, request, close");
  add_common(tcp_command, tcp);
  tcp_command->add_option("--source", tcp.sources, "Addresses of the client")->required();
  tcp_command->add_option("--connections", tcp.connections, "At a time")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (udp_command->parsed()) {
    const UdpResult result = run_udp(udp);
    fmt::print("{{\"sent_mpps\": {:.4f}, \"mpps\": {:.4f}, \"looked_at\": {}, \"wrong\": {}}}\n",
               result.sent_mpps, result.mpps, result.looked_at, result.wrong);
  } else {
    const TcpResult result = run_tcp(tcp);
    fmt::print(
        "{{\"per_second\": {:.0f}, \"p50_us\": {:.1f}, \"p99_us\": {:.1f}, \"connections\": {}, \"seconds\": {:.3f}, "
        "\"failed\": {}, \"wrong\": {}}}\n",
        result.per_second, result.p50_us, result.p99_us, result.connections, result.elapsed, result.failed, result.wrong);
  }
  return 0;
}
