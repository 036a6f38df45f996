// SPDX-License-Identifier: Apache-2.0
#include "tests/packets/data_plane.h"

namespace maglane::test {

std::unique_ptr<DataPlane> make_plane(const Network& network) {
  return make_kernel_data_plane(network);
}

}  // namespace maglane::test
