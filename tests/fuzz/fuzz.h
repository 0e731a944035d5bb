// What every fuzz target demands of the readers: a result that holds together, or an Error(input).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ultrasr::fuzz {

/// Ten storages of 512 bytes are in every wrapped file, called "0" to "9".
inline constexpr int storage_count = 10;
inline std::string storage_bytes(int index) {
    return std::string(512, static_cast<char>('0' + index));
}

/// Parses a checkpoint and touches every byte that a tensor claims; anything but an Error(input)
/// ends the run.
void read(std::string_view bytes);

inline std::string_view text(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

}  // namespace ultrasr::fuzz
