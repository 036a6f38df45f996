// SPDX-License-Identifier: Apache-2.0
#include "agent/control/handlers.h"

#include <gtest/gtest.h>

#include <limits>

namespace maglane {
namespace {

const auto kNotCancelled = [] { return false; };

class Handlers : public testing::Test {
 protected:
  std::optional<ControlHandlers::Refusal> get(double wait, v1::Status* reply) {
    v1::GetStatusRequest request;
    request.set_wait_seconds(wait);
    return handlers_.get_status(request, kNotCancelled, reply);
  }

  StatusBoard board_;
  ResyncQueue resyncs_;
  Result<v1::Status> maps_ = v1::Status();
  ControlHandlers handlers_{board_, resyncs_, [this] { return maps_; }};
};

TEST_F(Handlers, StatusJoinsTheBoardAndTheMaps) {
  board_.update([](v1::Status& s) { s.set_node_name("node-a"); });
  maps_->set_services(3);
  maps_->set_frontends(8);
  maps_->set_backends(5);
  maps_->set_node_name("not from here");
  maps_->add_maps()->set_name("flows4");
  v1::Status reply;
  EXPECT_FALSE(get(0, &reply));
  EXPECT_EQ(reply.node_name(), "node-a");
  EXPECT_EQ(reply.services(), 3U);
  EXPECT_EQ(reply.frontends(), 8U);
  EXPECT_EQ(reply.backends(), 5U);
  ASSERT_EQ(reply.maps_size(), 1);
  EXPECT_EQ(reply.maps(0).name(), "flows4");
}

TEST_F(Handlers, MapsThatCannotBeReadAreAProblem) {
  board_.update([](v1::Status& s) { s.add_problems()->set_where("here"); });
  maps_ = Error{"gone"};
  v1::Status reply;
  EXPECT_FALSE(get(0, &reply));
  ASSERT_EQ(reply.problems_size(), 2);
  EXPECT_EQ(reply.problems(1).where(), "maps");
  EXPECT_EQ(reply.problems(1).message(), "gone");
}

TEST_F(Handlers, WaitsAreBounded) {
  v1::Status reply;
  for (double wait : {-1.0, 3601.0, 1e300, std::numeric_limits<double>::infinity(),
                      std::numeric_limits<double>::quiet_NaN()}) {
    auto refusal = get(wait, &reply);
    ASSERT_TRUE(refusal) << wait;
    EXPECT_TRUE(refusal->bad_request);
    EXPECT_NE(refusal->message.find("say 0 to 3600"), std::string::npos);
  }
  EXPECT_FALSE(get(0.01, &reply));
  board_.set_synced();
  EXPECT_FALSE(get(3600, &reply)) << "synced: at once";
  EXPECT_TRUE(reply.synced());
}

TEST_F(Handlers, ResyncOfAnEndingAgent) {
  resyncs_.shut_down();
  v1::ResyncReply reply;
  auto refusal = handlers_.resync({}, kNotCancelled, &reply);
  ASSERT_TRUE(refusal);
  EXPECT_FALSE(refusal->bad_request);
}

}  // namespace
}  // namespace maglane
