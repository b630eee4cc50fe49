// SPDX-License-Identifier: Apache-2.0
// The record on disk, as it is and with a checksum that fits: what is sound can be written again.
#include <stead/base/assert.hpp>
#include <stead/mirror/codec.hpp>

#include <boost/crc.hpp>

namespace {

void decode(std::string_view bytes) {
    using namespace stead::mirror;
    if (const auto record = decode_record(bytes)) {
        const auto back = decode_record(encode(record->first, record->second));
        STEAD_ASSERT(back && *back == *record);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string bytes{reinterpret_cast<const char*>(data), size};
    decode(bytes);
    bytes.resize(stead::mirror::record_bytes - 4);
    boost::crc_optimal<32, 0x1edc6f41, 0xffffffff, 0xffffffff, true, true> crc;
    crc.process_bytes(bytes.data(), bytes.size());
    for (int shift = 24; shift >= 0; shift -= 8) {
        bytes.push_back(static_cast<char>(crc.checksum() >> shift & 0xff));
    }
    decode(bytes);
    return 0;
}
