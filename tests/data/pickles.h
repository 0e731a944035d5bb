// Pickles written by hand, for tests.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/data/zip_file.h"

namespace ultrasr::test {

/// BINUNICODE.
inline std::string text(std::string_view value) {
    return "X" + little(value.size(), 4) + std::string(value);
}

/// LONG1 of eight bytes.
inline std::string number(std::int64_t value) {
    return std::string("\x8a\x08") + little(static_cast<std::uint64_t>(value), 8);
}

inline std::string tuple(const std::vector<std::int64_t>& values) {
    std::string out = "(";
    for (const std::int64_t v : values) out += number(v);
    return out + "t";
}

/// The persistent id of a storage.
inline std::string storage(std::string_view key, std::string_view type, std::int64_t count) {
    return "(" + text("storage") + "c" + std::string(type) + "\n" + text(key) + text("cpu") +
           number(count) + "tQ";
}

/// A call of torch._utils._rebuild_tensor_v2.
inline std::string tensor(const std::string& storage, std::int64_t offset,
                          const std::vector<std::int64_t>& size,
                          const std::vector<std::int64_t>& stride) {
    return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + tuple(size) +
           tuple(stride) + "\x89}tR";
}

/// A dictionary with these values, as a whole pickle.
inline std::string dict_pickle(const std::vector<std::pair<std::string, std::string>>& items) {
    std::string out = "\x80\x02}(";
    for (const auto& [key, value] : items) out += text(key) + value;
    return out + "u.";
}

/// A file of torch.save: data.pkl and storages "0", "1" ... .
inline std::string torch_file(const std::string& pickle,
                              const std::vector<std::string>& storages = {},
                              const ZipOptions& options = {}) {
    std::vector<std::pair<std::string, std::string>> entries{{"archive/data.pkl", pickle}};
    for (std::size_t i = 0; i < storages.size(); ++i) {
        entries.emplace_back("archive/data/" + std::to_string(i), storages[i]);
    }
    entries.emplace_back("archive/byteorder", "little");
    return zip_file(entries, options);
}

}  // namespace ultrasr::test
