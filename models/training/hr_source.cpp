#include "models/training/hr_source.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/base/log.h"
#include "data/file.h"
#include "data/hdf5_attributes.h"
#include "data/hdf5_handle.h"
#include "data/pair_store.h"
#include "degradation/shard_file.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

struct InShard {
    std::shared_ptr<const ShardFile> shard;
    std::size_t index;
};
struct InStore {
    std::shared_ptr<const PairStore> store;
    std::size_t index;  ///< of its entries
};

/// Where a picture lies.
struct Item {
    std::string name;
    std::variant<fs::path, InShard, InStore> place;
};

/// Pictures of 8 bits: that is what degradation starts from, and twice as many fit into memory.
cv::Mat high_bytes(const cv::Mat& rgb) {
    if (rgb.depth() == CV_8U) return rgb;
    cv::Mat out(rgb.size(), CV_8UC3);
    for (int y = 0; y < rgb.rows; ++y) {
        const auto* from = rgb.ptr<std::uint16_t>(y);
        std::transform(from, from + 3 * std::ptrdiff_t{rgb.cols}, out.ptr<std::uint8_t>(y),
                       [](std::uint16_t v) { return static_cast<std::uint8_t>(v >> 8); });
    }
    return out;
}

bool is_hdf5(const fs::path& path) {
    constexpr std::string_view signature = "\x89HDF\r\n\x1a\n";
    std::ifstream file(path, std::ios::binary);
    std::array<char, signature.size()> head{};
    file.read(head.data(), head.size());
    return std::string_view(head.data(), head.size()) == signature;
}

/// The attribute `format` of an HDF5 file; empty without one.
std::string format_of(const fs::path& path) {
    const auto lock = enter_hdf5();
    const Hdf5Handle file = open_hdf5_file(path.string());
    if (!file.ok()) return {};
    const std::optional<Json> format = attribute_value(file.get(), "format");
    return format && format->is_string() ? format->get<std::string>() : std::string();
}

void add_hdf5(const fs::path& path, std::vector<Item>& to) {
    const std::string format = format_of(path);
    if (format == "ultrasr-degrade") {
        const auto shard = std::make_shared<const ShardFile>(path);
        const auto& pictures = shard->pictures();
        require(std::find(pictures.begin(), pictures.end(), "gt") != pictures.end(),
                "{} holds no gt; make it with --save gt", path.string());
        require(!shard->ids().empty(), "{} holds no picture", path.string());
        for (std::size_t i = 0; i < shard->ids().size(); ++i) {
            to.push_back({shard->ids()[i], InShard{shard, i}});
        }
    } else if (format == "ultrasr-pairs") {
        const auto store = std::make_shared<const PairStore>(path);
        for (std::size_t i = 0; i < store->entries().size(); ++i) {
            const PairStore::Entry& entry = store->entries()[i];
            to.push_back(
                {fmt::format("{}/x{}", entry.scene, entry.scale.ratio), InStore{store, i}});
        }
    } else {
        fail(Fault::input,
             "{} is HDF5, but neither of ultrasr-degrade nor of ultrasr-register, or broken",
             path.string());
    }
}

/// The HDF5 files directly in a folder, by name.
std::vector<fs::path> hdf5_files(const fs::path& folder) {
    std::vector<fs::path> files;
    std::error_code code;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, code)) {
        std::error_code unknown;
        if (entry.is_regular_file(unknown) && is_hdf5(entry.path())) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    return files;
}

void add_pictures(const fs::path& root, std::vector<Item>& to) {
    for (SourceFile& file : list_sources(root).files) {
        to.push_back({std::move(file.name), std::move(file.path)});
    }
}

void add_folder(const fs::path& folder, std::vector<Item>& to) {
    const std::vector<fs::path> stores = hdf5_files(folder);
    const std::size_t before = to.size();
    try {
        add_pictures(folder, to);
    } catch (const Error&) {
        if (stores.empty()) throw;
    }
    if (to.size() > before) return;
    for (const fs::path& store : stores) add_hdf5(store, to);
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blank = " \t\r";
    const std::size_t begin = text.find_first_not_of(blank);
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(blank) - begin + 1);
}

void add_list(const fs::path& list, std::vector<Item>& to) {
    const std::string text = read_file(list);
    std::string_view rest = text;
    if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);  // some editors' mark
    const std::size_t before = to.size();
    for (int line = 1; !rest.empty(); ++line) {
        const std::size_t end = std::min(rest.find('\n'), rest.size());
        const std::string_view word = trimmed(rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
        if (word.empty() || word.starts_with('#')) continue;
        fs::path path = list.parent_path() / word;  // an absolute one stays what it is
        std::error_code code;
        require(fs::is_regular_file(path, code), "{}, line {}: {} is {}", list.string(), line,
                path.string(),
                fs::exists(path, code) ? "no file; name the pictures one by one" : "missing");
        to.push_back({std::string(word), std::move(path)});
    }
    require(to.size() > before, "{} names no picture; write one path a line", list.string());
}

void add_root(const fs::path& root, std::vector<Item>& to) {
    std::error_code code;
    require(fs::exists(root, code),
            "{} is missing; name a folder of pictures, a list of them (.txt) or an HDF5 file",
            root.string());
    if (fs::is_directory(root, code)) return add_folder(root, to);
    if (is_hdf5(root)) return add_hdf5(root, to);
    if (root.extension() == ".txt") return add_list(root, to);
    add_pictures(root, to);
}

/// A decoded picture, or why it is not used.
struct Found {
    cv::Mat rgb;
    std::string reason;
};

Found read_item(const Item& item, const HrOptions& options) {
    // A small picture under `error` is told apart from a broken one here, not by the reader
    const SmallPolicy small =
        options.small == SmallPolicy::error ? SmallPolicy::skip : options.small;
    Found found;
    if (const auto* path = std::get_if<fs::path>(&item.place)) {
        SourceOptions how;
        how.decode.keep_16_bits = false;
        how.small = small;
        SourcePicture picture = read_source({*path, item.name}, options.min_side, how);
        found = {std::move(picture.rgb), std::move(picture.skipped)};
    } else {
        cv::Mat rgb;
        if (const auto* in = std::get_if<InShard>(&item.place)) {
            rgb = in->shard->read("gt", in->index);
        } else {
            const InStore& store = std::get<InStore>(item.place);
            rgb = high_bytes(store.store->read_hr(store.store->entries()[store.index]));
        }
        if (small == SmallPolicy::skip && std::min(rgb.rows, rgb.cols) < options.min_side) {
            found.reason = fmt::format("{} x {} is smaller than the patch of {}", rgb.cols,
                                       rgb.rows, options.min_side);
        } else {
            found.rgb = enlarged(rgb, options.min_side, small);
        }
    }
    return found;
}

}  // namespace

struct HrSource::State {
    HrOptions options;
    std::vector<Item> items;
    std::string identity;

    mutable std::mutex mutex;  ///< of what follows; not held while decoding
    std::vector<bool> unusable;
    std::string first_reason;
    std::unordered_map<std::size_t, cv::Mat> cache;
    std::size_t unusable_count = 0, decoded = 0, cached_bytes = 0;
};

HrSource::HrSource(const HrOptions& options) : state_(std::make_unique<State>()) {
    state_->options = options;
    if (options.roots.empty()) {
        fail(Fault::usage,
             "no pictures to train on: name a folder of pictures, a list of them (.txt) or an HDF5 "
             "file");
    }
    for (const fs::path& root : options.roots) add_root(root, state_->items);
    std::string names;
    for (const Item& item : state_->items) names += item.name + '\n';
    state_->identity = sha256(names);
    state_->unusable.resize(state_->items.size());
}

HrSource::~HrSource() = default;
HrSource::HrSource(HrSource&&) noexcept = default;
HrSource& HrSource::operator=(HrSource&&) noexcept = default;

std::size_t HrSource::size() const { return state_->items.size(); }
const std::string& HrSource::name(std::size_t i) const { return state_->items.at(i).name; }
const std::string& HrSource::identity() const { return state_->identity; }

cv::Mat HrSource::get(std::size_t i) const {
    State& s = *state_;
    const Item& item = s.items.at(i);
    {
        const std::scoped_lock lock(s.mutex);
        if (s.unusable[i]) return {};
        if (const auto at = s.cache.find(i); at != s.cache.end()) return at->second;
    }

    // Decode; what is wrong with the picture itself makes it unusable, all else is an error
    Found found;
    bool broken = false;
    try {
        found = read_item(item, s.options);
    } catch (const Error& error) {
        if (error.fault() != Fault::input) throw;
        found.reason = error.sentence();
        broken = true;
    }
    if (!found.reason.empty() && !broken && s.options.small == SmallPolicy::error) {
        fail(Fault::input,
             "{}: {}; leave it out, choose a smaller patch, or let small pictures be skipped, "
             "padded or enlarged",
             item.name, found.reason);
    }

    // Remember
    const std::scoped_lock lock(s.mutex);
    if (!found.reason.empty()) {
        if (!s.unusable[i]) {
            s.unusable[i] = true;
            if (s.unusable_count++ == 0) s.first_reason = item.name + ": " + found.reason;
            warn("{}: {}; trained without it, remove it from the pictures to be rid of this line",
                 item.name, found.reason);
        }
        return {};
    }
    ++s.decoded;
    const std::size_t bytes = found.rgb.total() * found.rgb.elemSize();
    if (bytes <= s.options.cache_bytes - s.cached_bytes && s.cache.emplace(i, found.rgb).second) {
        s.cached_bytes += bytes;
    }
    return found.rgb;
}

std::size_t HrSource::unusable() const {
    const std::scoped_lock lock(state_->mutex);
    return state_->unusable_count;
}

std::string HrSource::first_reason() const {
    const std::scoped_lock lock(state_->mutex);
    return state_->first_reason;
}

std::size_t HrSource::decoded() const {
    const std::scoped_lock lock(state_->mutex);
    return state_->decoded;
}

std::size_t HrSource::cached_bytes() const {
    const std::scoped_lock lock(state_->mutex);
    return state_->cached_bytes;
}

}  // namespace ultrasr
