#include "data/pair_dataset.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <map>
#include <optional>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/file.h"
#include "data/image_io.h"
#include "data/pair_store.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

std::string stem_of(const fs::path& path) { return path.stem().string(); }

std::string join(const std::vector<std::string>& parts, std::string_view separator = ", ") {
    std::string text;
    for (const std::string& part : parts)
        text += (text.empty() ? "" : std::string(separator)) + part;
    return text;
}

/// "_x12", "_LR4", "_HR8": a word and a number.
bool is_numbered_tail(std::string_view tail) {
    for (const std::string_view word : {"_x", "_X", "_LR", "_HR"}) {
        if (!tail.starts_with(word) || tail.size() == word.size()) continue;
        const auto digits = tail.substr(word.size());
        if (std::all_of(digits.begin(), digits.end(),
                        [](unsigned char c) { return std::isdigit(c); })) {
            return true;
        }
    }
    return false;
}

/// The stem without one known tail; the stem itself when it has none.
std::string without_tail(const std::string& stem, std::string_view label) {
    const std::size_t at = stem.rfind('_');
    if (at != std::string::npos && at > 0) {
        const std::string_view tail = std::string_view(stem).substr(at);
        static constexpr std::array<std::string_view, 9> words{
            "_out", "_BSRGAN", "_SR", "_sr", "_LR", "_lr", "_HR", "_hr", "_rlt"};
        if (std::find(words.begin(), words.end(), tail) != words.end() || is_numbered_tail(tail)) {
            return stem.substr(0, at);
        }
    }
    const std::string own = "_" + std::string(label);
    if (own.size() > 1 && stem.size() > own.size() && stem.ends_with(own)) {
        return stem.substr(0, stem.size() - own.size());
    }
    return stem;
}

/// The scale that a pair's sizes speak for: a whole number when one fits within one LR pixel.
double scale_of_sizes(PixelSize lr, PixelSize hr) {
    const double x = static_cast<double>(hr.width) / lr.width;
    const double y = static_cast<double>(hr.height) / lr.height;
    const double whole = std::round(std::sqrt(x * y));
    const bool fits = std::abs(hr.width - whole * lr.width) <= whole &&
                      std::abs(hr.height - whole * lr.height) <= whole;
    return fits && whole >= 1 ? whole : std::round(100 * std::sqrt(x * y)) / 100;
}

/// Throws for a pair whose sizes do not fit the set's scale.
void check_sizes(const PairSet& set, const ImagePair& pair) {
    // LR sides are rounded: 3024 x 2008 at x14 is 216 x 143
    const double s = set.scale.ratio;
    const auto [lr_width, lr_height] = pair.lr_size;
    const auto [hr_width, hr_height] = pair.hr_size;
    require(std::abs(hr_width - s * lr_width) <= s && std::abs(hr_height - s * lr_height) <= s,
            "pair {} of {}: LR {} x {} and HR {} x {} do not fit scale x{}", pair.stem, set.name,
            lr_width, lr_height, hr_width, hr_height, s);
}

/// Pairs an LR with an HR folder and checks every pair's sizes.
PairSet pair_folders(const std::string& name, const fs::path& lr, const fs::path& hr,
                     std::optional<double> declared) {
    const auto lr_files = list_images(lr);
    const auto hr_files = list_images(hr);
    require(!lr_files.empty(), "{} holds no pictures", lr.string());
    require(!hr_files.empty(), "{} holds no pictures", hr.string());
    std::vector<std::string> stems;
    for (const fs::path& file : hr_files) stems.push_back(stem_of(file));
    for (std::size_t i = 1; i < stems.size(); ++i) {
        require(stems[i] != stems[i - 1], "{} holds {} twice: {} and {}; remove one", hr.string(),
                stems[i], hr_files[i - 1].filename().string(), hr_files[i].filename().string());
    }
    StemMatch match = match_stems(stems, lr_files, fmt::format("LR picture in {}", lr.string()));
    require(match.extra.empty(), "{} in {} has no partner in {}",
            match.extra.empty() ? "" : match.extra.front().filename().string(), lr.string(),
            hr.string());

    PairSet set{name, {}, {}};
    for (std::size_t i = 0; i < stems.size(); ++i) {
        set.pairs.push_back({stems[i], match.files[i], hr_files[i], read_image_size(match.files[i]),
                             read_image_size(hr_files[i])});
    }
    const ImagePair& first = set.pairs.front();
    set.scale.ratio = declared.value_or(scale_of_sizes(first.lr_size, first.hr_size));
    for (const ImagePair& pair : set.pairs) check_sizes(set, pair);
    return set;
}

/// The sets of a pair store, one a scale, in ascending order.
std::vector<PairSet> sets_in_store(const fs::path& file, const std::string& name,
                                   std::optional<double> declared) {
    std::map<Scale, PairSet> sets;
    const PairStore store(file);
    for (const PairStore::Entry& entry : store.entries()) {
        PairSet& set = sets[entry.scale];
        set.name = name;
        set.scale = entry.scale;
        const fs::path group = file / entry.group;
        set.pairs.push_back(
            {entry.scene, group / "lr", group / "hr", entry.lr_size, entry.hr_size});
        check_sizes(set, set.pairs.back());
        require(!declared || entry.scale.ratio == *declared,
                "{} holds scale x{}, its set.json says x{}; leave \"scale\" out", file.string(),
                entry.scale.ratio, declared.value_or(0));
    }
    std::vector<PairSet> sorted;
    for (auto& [scale, set] : sets) sorted.push_back(std::move(set));
    return sorted;
}

bool is_store(const fs::path& path) { return path.extension() == ".h5"; }

/// The store file above a path such as set.h5/pier/x8/lr, with the group; nothing for a file.
std::optional<std::pair<fs::path, std::string>> inside_store(const fs::path& path) {
    for (fs::path above = path.parent_path(); above != above.parent_path();
         above = above.parent_path()) {
        if (is_store(above) && fs::is_regular_file(above)) {
            return std::pair{above, path.lexically_relative(above).generic_string()};
        }
    }
    return std::nullopt;
}

/// The LR and HR folders directly below `folder`, if it has both.
std::optional<std::pair<fs::path, fs::path>> lr_and_hr_below(const fs::path& folder) {
    for (const auto& [lr, hr] : {std::pair{"LR", "HR"}, std::pair{"test_LR", "test_HR"}}) {
        const bool has_lr = fs::is_directory(folder / lr);
        const bool has_hr = fs::is_directory(folder / hr);
        if (has_lr && has_hr) return std::pair{folder / lr, folder / hr};
        require(has_lr == has_hr, "{} has {} but not {}", folder.string(), has_lr ? lr : hr,
                has_lr ? hr : lr);
    }
    return std::nullopt;
}

/// 8 for a folder named "x8".
std::optional<double> scale_in_name(const std::string& name) {
    if (name.size() < 2 || name.front() != 'x') return std::nullopt;
    std::size_t used = 0;
    try {
        const double value = std::stod(name.substr(1), &used);
        if (used == name.size() - 1 && value >= 1) return value;
    } catch (const std::exception&) {  // not a number: an ordinary name
    }
    return std::nullopt;
}

std::vector<PairSet> sets_in_folder(const fs::path& folder, const std::string& name,
                                    std::optional<double> declared) {
    if (const auto both = lr_and_hr_below(folder)) {
        const std::string last = folder.filename().string();
        return {pair_folders(name, both->first, both->second,
                             declared ? declared : scale_in_name(last))};
    }
    std::vector<PairSet> sets;
    std::vector<std::string> seen;
    for (const auto& entry : fs::directory_iterator(folder)) {
        const std::string below = entry.path().filename().string();
        seen.push_back(below);
        const auto scale = scale_in_name(below);
        if (!entry.is_directory() || !scale) continue;
        const auto both = lr_and_hr_below(entry.path());
        require(both.has_value(), "{} needs the folders LR and HR", entry.path().string());
        sets.push_back(pair_folders(name, both->first, both->second, scale));
    }
    std::sort(seen.begin(), seen.end());
    if (seen.size() > 8) seen.resize(8);
    require(!sets.empty(), "{} holds neither LR and HR nor x8/LR and x8/HR; found: {}",
            folder.string(), seen.empty() ? "nothing" : join(seen));
    std::sort(sets.begin(), sets.end(),
              [](const PairSet& a, const PairSet& b) { return a.scale < b.scale; });
    return sets;
}

std::vector<PairSet> sets_in_json(const fs::path& file) {
    const Json root = parse_json(read_file(file), file.string());
    require(root.is_object() && root.contains("sets") && root["sets"].is_array(),
            "{} needs a list \"sets\"", file.string());
    const auto text = [&](const Json& entry, const char* key) {
        require(entry.contains(key) && entry[key].is_string(), "{}: a set needs the text \"{}\"",
                file.string(), key);
        return entry[key].get<std::string>();
    };
    std::vector<PairSet> sets;
    for (const Json& entry : root["sets"]) {
        require(entry.is_object(), "{}: every set is an object", file.string());
        for (const auto& [key, value] : entry.items()) {
            require(key == "name" || key == "path" || key == "lr" || key == "hr" || key == "scale",
                    "{}: unknown key \"{}\"; known: name, path, lr, hr, scale", file.string(), key);
        }
        std::optional<double> scale;
        if (entry.contains("scale")) {
            require(entry["scale"].is_number() && entry["scale"].get<double>() >= 1,
                    "{}: \"scale\" is a number of at least 1", file.string());
            scale = entry["scale"].get<double>();
        }
        const std::string name = text(entry, "name");
        if (entry.contains("path")) {
            const fs::path path = file.parent_path() / text(entry, "path");
            for (PairSet& set : is_store(path) && fs::is_regular_file(path)
                                    ? sets_in_store(path, name, scale)
                                    : sets_in_folder(path, name, scale)) {
                sets.push_back(std::move(set));
            }
        } else {
            sets.push_back(pair_folders(name, file.parent_path() / text(entry, "lr"),
                                        file.parent_path() / text(entry, "hr"), scale));
        }
    }
    require(!sets.empty(), "{} names no set", file.string());
    return sets;
}

/// The name a folder gives its set; "x8" alone says nothing, so its parent's is taken.
std::string name_of_folder(const fs::path& folder) {
    fs::path path = fs::weakly_canonical(folder);
    if (path.filename().empty()) path = path.parent_path();
    if (scale_in_name(path.filename().string())) path = path.parent_path();
    return path.filename().string();
}

}  // namespace

StemMatch match_stems(const std::vector<std::string>& stems,
                      const std::vector<fs::path>& candidates, std::string_view what,
                      std::string_view label) {
    // Index the candidates by whole and by shortened stem
    std::map<std::string, std::vector<std::size_t>> whole, shortened;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        const std::string stem = stem_of(candidates[i]);
        whole[stem].push_back(i);
        shortened[without_tail(stem, label)].push_back(i);
    }
    const auto found = [](const auto& index, const std::string& key) {
        const auto at = index.find(key);
        return at == index.end() ? std::vector<std::size_t>{} : at->second;
    };

    StemMatch match;
    std::vector<bool> used(candidates.size(), false);
    for (const std::string& stem : stems) {
        auto fits = found(whole, stem);
        if (fits.empty()) fits = found(shortened, stem);
        if (fits.empty()) fits = found(shortened, without_tail(stem, label));
        require(!fits.empty(), "no {} fits {}; names must agree up to a tail such as _x4 or _SR",
                what, stem);
        std::vector<std::string> names;
        for (const std::size_t i : fits) names.push_back(candidates[i].filename().string());
        require(fits.size() == 1, "more than one {} fits {}: {}; remove all but one", what, stem,
                join(names));
        require(!used[fits.front()], "{} fits {} and an earlier name; rename one", names.front(),
                stem);
        used[fits.front()] = true;
        match.files.push_back(candidates[fits.front()]);
    }
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        if (!used[i]) match.extra.push_back(candidates[i]);
    }
    return match;
}

std::vector<PairSet> find_pair_sets(std::string_view spec) {
    // Split PATH@NAME; an "@" inside an existing path belongs to the path
    fs::path path{std::string(spec)};
    std::string name;
    const std::size_t at = spec.rfind('@');
    if (at != std::string_view::npos && !fs::exists(path)) {
        path = std::string(spec.substr(0, at));
        name = spec.substr(at + 1);
        require(!name.empty() && name.find('/') == std::string::npos,
                "{}: the name behind @ must be a word", spec);
    }
    require(fs::exists(path), "no such set: {}", path.string());
    if (fs::is_regular_file(path)) {
        if (is_store(path)) {
            return sets_in_store(path, name.empty() ? path.stem().string() : name, std::nullopt);
        }
        require(path.extension() == ".json",
                "{} is neither a folder nor a set.json nor a .h5 file; name a folder with LR and "
                "HR",
                path.string());
        require(name.empty(), "{}: sets of a set.json carry their own names", spec);
        return sets_in_json(path);
    }
    return sets_in_folder(path, name.empty() ? name_of_folder(path) : name, std::nullopt);
}

DecodedImage read_picture(const fs::path& path) {
    const auto inside = inside_store(path);
    if (!inside) return read_image(path);
    cv::Mat rgb = read_stored_picture(inside->first, inside->second);
    DecodedImage decoded;
    if (rgb.depth() == CV_16U) {
        decoded.origin.bits = 16;
        cv::Mat high(rgb.rows, rgb.cols, CV_8UC3);
        for (int y = 0; y < rgb.rows; ++y) {
            const auto* from = rgb.ptr<std::uint16_t>(y);
            unsigned char* to = high.ptr(y);
            for (int i = 0; i < 3 * rgb.cols; ++i) to[i] = static_cast<unsigned char>(from[i] >> 8);
        }
        rgb = high;
    }
    decoded.image = image_of_rgb8(rgb);
    return decoded;
}

std::string hash_of_set(const PairSet& set) {
    std::string lines;
    for (const ImagePair& pair : set.pairs) {
        for (const fs::path& file : {pair.lr, pair.hr}) {
            const auto inside = inside_store(file);
            if (!inside) {
                lines += fmt::format("{} {}\n", sha256_of_file(file), file.filename().string());
                continue;
            }
            const cv::Mat rgb = read_stored_picture(inside->first, inside->second);
            const std::string_view pixels(reinterpret_cast<const char*>(rgb.data),
                                          rgb.total() * rgb.elemSize());
            lines += fmt::format("{} {} {} {}x{}x{}\n", sha256(pixels), pair.stem,
                                 file.filename().string(), rgb.cols, rgb.rows, rgb.elemSize());
        }
    }
    return sha256(lines);
}

}  // namespace ultrasr
