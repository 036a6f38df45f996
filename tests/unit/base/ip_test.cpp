// SPDX-License-Identifier: Apache-2.0
#include "agent/base/ip.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "agent/base/quote.h"

namespace maglane {
namespace {

IpAddress ip(const char* text) {
  return IpAddress::parse(text).value();
}
Cidr cidr(const char* text) {
  return Cidr::parse(text).value();
}

TEST(IpAddress, ReadsAndWritesBothFamilies) {
  EXPECT_EQ(ip("10.0.0.1").family(), Family::ipv4);
  EXPECT_EQ(ip("10.0.0.1").to_string(), "10.0.0.1");
  EXPECT_EQ(ip("FD00:0:0::1").family(), Family::ipv6);
  EXPECT_EQ(ip("FD00:0:0::1").to_string(), "fd00::1");
  EXPECT_EQ(ip("10.0.0.1").with_port(80), "10.0.0.1:80");
  EXPECT_EQ(ip("fd00::1").with_port(80), "[fd00::1]:80");
}

TEST(IpAddress, RefusesWhatIsNone) {
  for (const char* text :
       {"", "x", "10.0.0", "10.0.0.256", "010.0.0.1", "10.0.0.1 ", "10.0.0.1/8", "::1%lo", "1:2:3"})
    EXPECT_FALSE(IpAddress::parse(text).ok()) << text;
  EXPECT_FALSE(IpAddress::parse(std::string_view("10.0.0.1\0", 9)).ok());
  EXPECT_EQ(IpAddress::parse("x").error().message,
            "\"x\" is not an IP address (expected such as 10.0.0.1 or fd00::1)");
}

TEST(IpAddress, IsInNetworkByteOrder) {
  uint32_t be[4];
  ip("1.2.3.4").to_be(be);
  const auto* bytes = reinterpret_cast<const uint8_t*>(be);
  EXPECT_EQ(bytes[0], 1);
  EXPECT_EQ(bytes[3], 4);
  EXPECT_EQ(be[1] | be[2] | be[3], 0U);
  // What stands behind an IPv4 address in the ABI field is not part of it.
  be[3] = 7;
  EXPECT_EQ(IpAddress::from_be(Family::ipv4, be), ip("1.2.3.4"));
}

TEST(IpAddress, KnowsItsKind) {
  EXPECT_TRUE(ip("0.0.0.0").is_unspecified() && ip("::").is_unspecified());
  EXPECT_TRUE(ip("127.9.9.9").is_loopback() && ip("::1").is_loopback());
  EXPECT_FALSE(ip("128.0.0.1").is_loopback() || ip("::2").is_loopback() || ip("1::1").is_loopback());
  EXPECT_TRUE(ip("224.0.0.1").is_multicast() && ip("239.1.1.1").is_multicast() &&
              ip("ff02::1").is_multicast());
  EXPECT_FALSE(ip("240.0.0.1").is_multicast() || ip("fe80::1").is_multicast());
  EXPECT_TRUE(ip("169.254.1.1").is_link_local() && ip("fe80::1").is_link_local() &&
              ip("febf::1").is_link_local());
  EXPECT_FALSE(ip("169.253.1.1").is_link_local() || ip("fec0::1").is_link_local());
  EXPECT_TRUE(ip("::ffff:10.0.0.1").is_ipv4_mapped());
  EXPECT_FALSE(ip("::fffe:10.0.0.1").is_ipv4_mapped() || ip("10.0.0.1").is_ipv4_mapped());
}

TEST(IpAddress, SortsIpv4First) {
  EXPECT_LT(ip("255.0.0.1"), ip("::1"));
}

RC_GTEST_PROP(IpAddress, SurvivesTextAndAbi, ()) {
  const auto family = *rc::gen::element(Family::ipv4, Family::ipv6);
  uint32_t be[4] = {*rc::gen::arbitrary<uint32_t>(), 0, 0, 0};
  if (family == Family::ipv6)
    for (auto& word : be) word = *rc::gen::arbitrary<uint32_t>();
  const auto address = IpAddress::from_be(family, be);
  RC_ASSERT(IpAddress::parse(address.to_string()).value() == address);
  uint32_t again[4];
  address.to_be(again);
  RC_ASSERT(IpAddress::from_be(family, again) == address);
}

TEST(Cidr, ReadsWritesAndContains) {
  EXPECT_EQ(cidr("10.0.0.0/8").to_string(), "10.0.0.0/8");
  EXPECT_TRUE(cidr("10.0.0.0/8").contains(ip("10.255.0.1")));
  EXPECT_FALSE(cidr("10.0.0.0/8").contains(ip("11.0.0.1")));
  EXPECT_TRUE(cidr("10.1.2.128/25").contains(ip("10.1.2.129")));
  EXPECT_FALSE(cidr("10.1.2.128/25").contains(ip("10.1.2.127")));
  EXPECT_TRUE(cidr("0.0.0.0/0").contains(ip("1.2.3.4")));
  EXPECT_FALSE(cidr("0.0.0.0/0").contains(ip("::1")));
  EXPECT_TRUE(cidr("fd00::/47").contains(ip("fd00:0:1::1")));
  EXPECT_FALSE(cidr("fd00::/47").contains(ip("fd00:0:2::1")));
  EXPECT_EQ(cidr("10.0.0.1").length(), 32U);
  EXPECT_EQ(cidr("fd00::1").length(), 128U);
}

TEST(Cidr, RefusesWhatIsNone) {
  for (const char* text :
       {"", "/8", "10.0.0.0/", "10.0.0.0/33", "fd00::/129", "10.0.0.0/-1", "10.0.0.0/8x", "10/8"})
    EXPECT_FALSE(Cidr::parse(text).ok()) << text;
  EXPECT_EQ(Cidr::parse("10.0.0.1/8").error().message,
            "\"10.0.0.1/8\" has host bits set; did you mean 10.0.0.0/8?");
  EXPECT_EQ(Cidr::parse("10.0.0.1/8", true)->to_string(), "10.0.0.0/8");
}

TEST(Cidr, MaskInNetworkByteOrder) {
  uint32_t be[4];
  cidr("10.0.0.0/12").mask_be(be);
  const auto* bytes = reinterpret_cast<const uint8_t*>(be);
  EXPECT_EQ(bytes[0], 0xff);
  EXPECT_EQ(bytes[1], 0xf0);
  EXPECT_EQ(be[1] | be[2] | be[3], 0U);
}

TEST(Quoted, IsFitForOneLine) {
  EXPECT_EQ(in_quotes("web"), "\"web\"");
  EXPECT_EQ(in_quotes("a\"b\\c\n\x1b[2J"), "\"a\\\"b\\\\c\\x0a\\x1b[2J\"");
  EXPECT_EQ(in_quotes("ü"), "\"ü\"");
  EXPECT_EQ(in_quotes(std::string(81, 'x')), "\"" + std::string(80, 'x') + "...\"");
  EXPECT_EQ(in_quotes(std::string(79, 'x') + "ü"), "\"" + std::string(79, 'x') + "...\"");
}

}  // namespace
}  // namespace maglane
