// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "tests/contract/lab.h"

namespace maglane::test {
namespace {

std::string trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(" \t\r") - first + 1));
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(trim(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return parts;
}

std::optional<uint16_t> port_of(std::string_view text) {
  uint16_t port = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (failure != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return port;
}

// "name:80", "10.0.0.1:80", "[fd00::1]:80", or without a port.
struct HostAndPort {
  std::string host;
  std::optional<uint16_t> port;
};

Result<HostAndPort> host_and_port(const std::string& text) {
  size_t colon = text.rfind(':');
  std::string host = text;
  if (text.starts_with("[")) {
    const size_t end = text.find(']');
    if (end == std::string::npos) return Error{fmt::format("\"{}\": no ]", text)};
    host = text.substr(1, end - 1);
    if (end + 1 == text.size()) return HostAndPort{host, std::nullopt};
    colon = end + 1;
  } else if (colon == std::string::npos) {
    return HostAndPort{host, std::nullopt};
  } else {
    host = text.substr(0, colon);
  }
  const auto port = port_of(std::string_view(text).substr(colon + 1));
  if (!port) return Error{fmt::format("\"{}\": no port", text)};
  return HostAndPort{host, port};
}

Result<std::set<Protocol>> protocols_of(const std::string& text) {
  std::set<Protocol> protocols;
  for (const std::string& name : split(text, ',')) {
    if (name == "tcp")
      protocols.insert(Protocol::tcp);
    else if (name == "udp")
      protocols.insert(Protocol::udp);
    else if (name == "sctp")
      protocols.insert(Protocol::sctp);
    else
      return Error{fmt::format("no protocol \"{}\" (tcp, udp, sctp)", name)};
  }
  return protocols;
}

constexpr uint16_t kServerPort = 8080;  // of the lab's pods

Status parse_endpoints(const std::string& text, TraceExpectation& expected) {
  for (const std::string& name : split(text, ',')) {
    const auto endpoint = host_and_port(name);
    if (!endpoint) return endpoint.error();
    expected.endpoints.emplace(name, endpoint->port.value_or(kServerPort));
  }
  return ok_status();
}

Status parse_masquerade(const std::string& text, TraceExpectation& expected) {
  if (text.empty()) return ok_status();
  if (text == "[masq]") {
    expected.all_masqueraded = true;
    return ok_status();
  }
  if (!text.starts_with("[masq:") || !text.ends_with("]"))
    return Error{fmt::format("\"{}\" is neither [masq] nor [masq: ENDPOINTS]", text)};
  for (const std::string& name : split(std::string_view(text).substr(6, text.size() - 7), ',')) {
    if (!expected.endpoints.contains(name)) return Error{fmt::format("{} is not among the endpoints", name)};
    expected.masqueraded.insert(name);
  }
  return ok_status();
}

Result<TraceExpectation> parse_expectation(std::string text) {
  using Kind = TraceExpectation::Kind;
  TraceExpectation expected;
  if (const size_t as = text.rfind(" AS "); as != std::string::npos) {
    expected.name = trim(text.substr(as + 4));
    text = trim(text.substr(0, as));
  }
  if (text.starts_with("ONE OF ")) {
    expected.one_of = true;
    text = trim(text.substr(7));
  }
  static const std::map<std::string, Kind> words = {
      {"DROP", Kind::drop}, {"REJECT", Kind::reject}, {"PASS", Kind::pass}, {"SAME", Kind::same}};
  if (const auto word = words.find(text); word != words.end()) {
    expected.kind = word->second;
    return expected;
  }
  const size_t end = text.find('}');
  if (!text.starts_with("{") || end == std::string::npos)
    return Error{fmt::format("\"{}\" is none of {{ENDPOINTS}}, DROP, REJECT, PASS, SAME", text)};
  if (auto status = parse_endpoints(text.substr(1, end - 1), expected); !status) return status.error();
  if (auto status = parse_masquerade(trim(text.substr(end + 1)), expected); !status) return status.error();
  return expected;
}

// SOURCE [via NODE] DESTINATION:PORT/PROTOCOLS, after an optional #CONNECTION.
Status parse_packet(const std::string& text, TraceLine& line) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  if (!words.empty() && words[0].starts_with("#")) {
    line.connection = words[0].substr(1);
    words.erase(words.begin());
  }
  if (words.size() == 4 && words[1] == "via") {
    line.via = words[2];
    words.erase(words.begin() + 1, words.begin() + 3);
  }
  if (words.size() != 2) return Error{"expected [#CONNECTION] SOURCE [via NODE] DESTINATION:PORT/PROTOCOLS"};
  line.source = words[0];
  const size_t slash = words[1].rfind('/');
  if (slash == std::string::npos) return Error{"no protocol"};
  const auto to = host_and_port(words[1].substr(0, slash));
  const auto protocols = protocols_of(words[1].substr(slash + 1));
  if (!to || !to->port) return to ? Error{"no port"} : to.error();
  if (!protocols) return protocols.error();
  line.destination = to->host;
  line.port = *to->port;
  line.protocols = *protocols;
  return ok_status();
}

class Parser {
 public:
  Parser(TraceFile& file, std::string root) : file_(file), root_(std::move(root)) {}

  Status line(int number, const std::string& text) {
    number_ = number;
    if (text.starts_with("== ")) return heading(trim(text.substr(3)));
    if (text.starts_with("-- ")) return part(trim(text.substr(3)));
    if (objects_) {
      *objects_ += text + "\n";
      return ok_status();
    }
    const std::string bare = trim(text);
    // A comment; not the name of a connection.
    if (bare.empty() || bare == "#" || bare.starts_with("# ")) return ok_status();
    if (in_ == In::names) return name(bare);
    if (in_ == In::options) {
      file_.options.push_back(bare);
      return ok_status();
    }
    if (in_ == In::lines) return trace(bare);
    return Error{"text before the first section"};
  }

  Status finish() {
    for (const TraceCase& one : file_.cases)
      for (const TraceStep& step : one.steps)
        for (const TraceLine& line : step.lines)
          for (const std::string& used : names_of(line))
            if (!file_.address(used, Family::ipv4) && !file_.address(used, Family::ipv6))
              return Error{fmt::format("{}: there is no host or name {}", line.number, used)};
    return file_.cases.empty() ? Status(Error{"no case"}) : ok_status();
  }

 private:
  enum class In { nothing, names, options, lines };

  static std::vector<std::string> names_of(const TraceLine& line) {
    std::vector<std::string> names = {line.source, line.destination};
    if (!line.via.empty()) names.push_back(line.via);
    for (const auto& [name, port] : line.expected.endpoints) names.push_back(host_and_port(name)->host);
    return names;
  }

  Status heading(const std::string& text) {
    objects_ = nullptr;
    in_ = In::nothing;
    if (text == "names" || text == "options") {
      in_ = text == "names" ? In::names : In::options;
      return ok_status();
    }
    if (text.starts_with("objects ")) return begin_objects(text.substr(8), file_.objects);
    if (!text.starts_with("[")) return Error{"expected objects NAME, names, options or [POINTS] TITLE"};
    return begin_case(text);
  }

  Status begin_case(const std::string& text) {
    const size_t end = text.find(']');
    if (end == std::string::npos) return Error{"no ] after the points"};
    TraceCase one{number_, trim(text.substr(end + 1)), {}, {}};
    for (const std::string& point : split(std::string_view(text).substr(1, end - 1), ',')) {
      const auto value = port_of(point);
      if (!value) return Error{fmt::format("\"{}\" is no point's number", point)};
      one.points.insert(*value);
    }
    one.steps.emplace_back();
    file_.cases.push_back(one);
    in_ = In::lines;
    return ok_status();
  }

  // Within a case: objects that change, then lines again. A change after lines begins a step.
  Status part(const std::string& text) {
    objects_ = nullptr;
    if (file_.cases.empty() || in_ != In::lines) return Error{"not within a case"};
    auto& steps = file_.cases.back().steps;
    if (text == "traces") return ok_status();
    if (!steps.back().lines.empty()) steps.emplace_back();
    if (text.starts_with("objects ")) return begin_objects(text.substr(8), steps.back().objects);
    if (!text.starts_with("remove ")) return Error{"expected objects NAME, remove NAME or traces"};
    steps.back().objects[trim(text.substr(7))] = "";
    return ok_status();
  }

  // "NAME" with the text that follows, or "NAME = PATH".
  Status begin_objects(const std::string& text, std::map<std::string, std::string>& into) {
    const auto parts = split(text, '=');
    std::string& content = into[parts[0]];
    content.clear();
    if (parts.size() == 1) {
      objects_ = &content;
      return ok_status();
    }
    std::ifstream in(root_ + "/" + parts[1]);
    if (!in) return Error{fmt::format("cannot read {}", parts[1])};
    content.assign(std::istreambuf_iterator<char>(in), {});
    return ok_status();
  }

  Status name(const std::string& text) {
    const auto parts = split(text, '=');
    if (parts.size() != 2) return Error{"expected NAME = ADDRESS[, ADDRESS]"};
    for (const std::string& one : split(parts[1], ',')) {
      const auto address = IpAddress::parse(one);
      if (!address) return address.error();
      Named& named = file_.names[parts[0]];
      (address->family() == Family::ipv4 ? named.ipv4 : named.ipv6) = *address;
    }
    return ok_status();
  }

  Status trace(const std::string& text) {
    const size_t arrow = text.find(" -> ");
    if (arrow == std::string::npos) return Error{"no ->"};
    TraceLine line;
    line.number = number_;
    line.text = text;
    if (auto status = parse_packet(text.substr(0, arrow), line); !status) return status;
    auto expected = parse_expectation(trim(text.substr(arrow + 4)));
    if (!expected) return expected.error();
    line.expected = *expected;
    if (line.expected.kind == TraceExpectation::Kind::same && line.connection.empty() && line.expected.name.empty())
      return Error{"SAME is for a #CONNECTION, or AS a name"};
    file_.cases.back().steps.back().lines.push_back(line);
    return ok_status();
  }

  TraceFile& file_;
  std::string root_;
  int number_ = 0;
  In in_ = In::nothing;
  std::string* objects_ = nullptr;
};

}  // namespace

std::string TraceCase::id() const {
  std::string id;
  for (const char c : title) {
    if (std::isalnum(static_cast<unsigned char>(c)))
      id += c;
    else if (!id.empty() && id.back() != '_')
      id += '_';
  }
  return id;
}

std::optional<IpAddress> TraceFile::address(const std::string& text, Family family) const {
  if (const auto named = names.find(text); named != names.end()) return named->second.of(family);
  const auto literal = IpAddress::parse(text);
  if (literal && literal->family() == family) return *literal;
  return std::nullopt;
}

Result<TraceFile> parse_trace(std::string_view text, const std::string& name, const std::string& root) {
  TraceFile file;
  file.name = name;
  for (const LabHost& host : lab_hosts()) file.names[host.name] = {host.ipv4, host.ipv6};
  Parser parser(file, root);
  std::istringstream lines{std::string(text)};
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (auto status = parser.line(number, line); !status)
      return status.error().in(fmt::format("{}:{}", name, number));
  }
  if (auto status = parser.finish(); !status) return status.error().in(name);
  return file;
}

Result<TraceFile> read_trace(const std::string& path, const std::string& root) {
  std::ifstream in(path);
  if (!in) return Error{fmt::format("cannot read {}", path)};
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  return parse_trace(text, std::filesystem::path(path).stem().string(), root);
}

std::vector<TraceFile> all_traces(const std::string& directory, const std::string& root) {
  std::set<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (entry.path().extension() == ".trace") paths.insert(entry.path().string());
  std::vector<TraceFile> files;
  for (const std::string& path : paths) {
    auto file = read_trace(path, root);
    if (!file) {
      std::cerr << file.error().message << "\n";
      std::exit(1);
    }
    files.push_back(std::move(*file));
  }
  return files;
}

}  // namespace maglane::test
