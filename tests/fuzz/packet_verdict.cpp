// SPDX-License-Identifier: Apache-2.0
// Any frame from the wire meets verdict.h, as NFQUEUE and both eBPF programs call it: it ends in one of the fates, and
// with the lease over nothing is taken or passed on by a rule.
#include "judges.hpp"

#include <stead/base/assert.hpp>

#include <array>
#include <cstring>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace stead::shim::test;
    static const auto judges = [] {
        std::array<std::unique_ptr<Judge>, 4> made;
        for (unsigned i = 0; i < made.size(); ++i) {
            State state;
            state.delivery = i % 2 == 0 ? stead::shim::Delivery::directed : stead::shim::Delivery::invisible;
            state.lease = i / 2 == 0;
            made[i] = direct_judge(state);
        }
        return made;
    }();
    if (size < 2) {
        return 0; // no back end sees a frame of no bytes
    }
    Bytes frame;
    frame.assign(data + 1, data + size);
    const unsigned which = data[0] % judges.size();
    const auto outcome = judges[which]->judge(frame);
    STEAD_ASSERT(which < 2 || outcome.fate == Fate::drop || outcome.fate == Fate::pass);
    return 0;
}
