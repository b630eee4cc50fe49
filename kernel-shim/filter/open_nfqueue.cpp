// SPDX-License-Identifier: Apache-2.0
#include "farm_model.hpp"

namespace stead::shim {

Result<std::unique_ptr<PacketFilter>> open_nfqueue(const FilterOptions&, const std::string& why) {
    return Error{Errc::unsupported, "farm filter", "the nfqueue back end is not in this build; it was asked for " + why};
}

} // namespace stead::shim
