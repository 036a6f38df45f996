// SPDX-License-Identifier: Apache-2.0
#include "tests/packets/data_plane.h"

namespace maglane::test {

DataPlane& data_plane() {
  static const std::unique_ptr<DataPlane> plane = make_kernel_data_plane();
  return *plane;
}

}  // namespace maglane::test
