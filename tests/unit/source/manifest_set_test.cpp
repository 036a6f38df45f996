// SPDX-License-Identifier: Apache-2.0
#include "agent/source/manifest_set.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace maglane {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string service_document(const std::string& name, const std::string& cluster_ip) {
  return fmt::format(
      "{{apiVersion: v1, kind: Service, metadata: {{name: {}}}, spec: {{clusterIP: {}}}}}\n---\n", name,
      cluster_ip);
}

class ManifestSetTest : public ::testing::Test {
 protected:
  void put(const std::string& file, const std::string& text) { set_.put(file, decode_manifest(text, file)); }
  std::shared_ptr<const v1::Service> find(const std::string& name) {
    const auto& services = set_.model().services;
    const auto found = services.find({"default", name});
    return found == services.end() ? nullptr : found->second;
  }
  std::string ip(const std::string& name) {
    const auto found = find(name);
    return found == nullptr ? "" : found->spec().cluster_ip();
  }
  std::vector<std::string> complaints() {
    std::vector<std::string> lines;
    for (const auto& complaint : set_.model().complaints)
      lines.push_back(complaint.where + ": " + complaint.message);
    return lines;
  }

  ManifestSet set_;
};

TEST_F(ManifestSetTest, UnchangedObjectsKeepTheirPointers) {
  put("a", service_document("x", "10.0.0.1") + service_document("y", "10.0.0.2"));
  const auto x = find("x"), y = find("y");
  put("a", "# a comment more\n" + service_document("y", "10.0.0.3") + service_document("x", "10.0.0.1"));
  EXPECT_EQ(find("x"), x);
  EXPECT_NE(find("y"), y);
  EXPECT_EQ(ip("y"), "10.0.0.3");
}

TEST_F(ManifestSetTest, AnObjectThatMovesToAnotherFileKeepsItsPointer) {
  put("a", service_document("x", "10.0.0.1"));
  const auto x = find("x");
  put("b", service_document("x", "10.0.0.1"));
  set_.remove("a");
  EXPECT_EQ(find("x"), x);
  EXPECT_THAT(complaints(), IsEmpty());
}

TEST_F(ManifestSetTest, AFileThatNoLongerParsesKeepsAllItsObjectsUntilMended) {
  put("a", service_document("x", "10.0.0.1") + service_document("y", "10.0.0.2"));
  put("b", service_document("z", "10.0.0.3"));
  const auto x = find("x");
  put("a", "{");
  put("b", service_document("z", "10.0.0.4"));
  EXPECT_EQ(find("x"), x);
  EXPECT_EQ(ip("y"), "10.0.0.2");
  EXPECT_EQ(ip("z"), "10.0.0.4");
  EXPECT_EQ(complaints().size(), 1U);
  put("a", service_document("x", "10.0.0.9"));
  EXPECT_EQ(ip("x"), "10.0.0.9");
  EXPECT_EQ(find("y"), nullptr);
  EXPECT_THAT(complaints(), IsEmpty());
}

TEST_F(ManifestSetTest, AnObjectRefusedAloneKeepsItsOwnLastGoodState) {
  put("a", service_document("x", "10.0.0.1") + service_document("y", "10.0.0.2"));
  const auto x = find("x");
  put("a", service_document("x", "bad") + service_document("y", "10.0.0.3") + service_document("new", "bad"));
  EXPECT_EQ(find("x"), x);
  EXPECT_EQ(ip("y"), "10.0.0.3");
  EXPECT_EQ(find("new"), nullptr);
  EXPECT_EQ(complaints().size(), 2U);
  // It is still that object's last good state after another refusal, and gone with it.
  put("a", service_document("x", "worse"));
  EXPECT_EQ(find("x"), x);
  EXPECT_EQ(find("y"), nullptr);
  put("a", "");
  EXPECT_EQ(find("x"), nullptr);
  EXPECT_THAT(complaints(), IsEmpty());
}

TEST_F(ManifestSetTest, OneObjectInTwoFilesIsTakenFromTheFirstByName) {
  put("b.yaml", service_document("x", "10.0.0.2"));
  EXPECT_EQ(ip("x"), "10.0.0.2");
  put("c.yaml", service_document("x", "10.0.0.3"));
  EXPECT_EQ(ip("x"), "10.0.0.2");
  EXPECT_THAT(
      complaints(),
      ElementsAre(
          "c.yaml:1: Service default/x is in b.yaml as well, which is in force: the first file by name"));
  put("a.yaml", service_document("x", "10.0.0.1"));
  EXPECT_EQ(ip("x"), "10.0.0.1");
  EXPECT_EQ(complaints().size(), 2U);
  set_.remove("a.yaml");
  EXPECT_EQ(ip("x"), "10.0.0.2");
  put("b.yaml", "");
  EXPECT_EQ(ip("x"), "10.0.0.3");
  EXPECT_THAT(complaints(), IsEmpty());
  set_.remove("c.yaml");
  EXPECT_EQ(find("x"), nullptr);
}

TEST_F(ManifestSetTest, AFileThatCannotBeReadKeepsItsObjects) {
  put("a", service_document("x", "10.0.0.1"));
  set_.keep("a", {"a", "cannot be opened"});
  EXPECT_EQ(ip("x"), "10.0.0.1");
  EXPECT_THAT(complaints(), ElementsAre("a: cannot be opened"));
  set_.remove("a");
  set_.remove("never there");
  EXPECT_EQ(find("x"), nullptr);
  EXPECT_THAT(complaints(), IsEmpty());
}

}  // namespace
}  // namespace maglane
