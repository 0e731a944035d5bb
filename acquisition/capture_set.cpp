#include "acquisition/capture_set.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <set>
#include <system_error>
#include <utility>

#include "data/base/error.h"
#include "data/file.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr double same_focal = 0.01;  // frames at one position of the ring, as EXIF rounds it
constexpr double wide_end = 1.1;     // up to here a focal length counts as the wide end

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

bool is_raw_name(const fs::path& path) {
    const std::string extension = lower(path.extension().string());
    return is_shot_file(path) && extension != ".jpg" && extension != ".jpeg" && extension != ".png";
}

/// Files that nobody misses: hidden, temporary, written by cameras and developers beside pictures.
bool is_sidecar(const fs::path& path) {
    const std::string name = lower(path.filename().string());
    static constexpr std::array<std::string_view, 12> tails{".tmp", ".xmp",  ".nksc", ".thm",
                                                            ".pp3", ".dop",  ".arp",  ".cos",
                                                            ".on1", ".json", ".db",   ".ini"};
    return name.starts_with(".") || name == "scenes.csv" ||
           std::any_of(tails.begin(), tails.end(),
                       [&](std::string_view tail) { return name.ends_with(tail); });
}

/// A folder's own entries.
struct Listing {
    std::vector<fs::path> files, folders;  ///< natural order, hidden ones left out
    std::string fault;                     ///< why it could not be read to its end
};

bool path_less(const fs::path& a, const fs::path& b) {
    return natural_less(a.string(), b.string());
}

Listing list(const fs::path& folder) {
    Listing listing;
    std::error_code code;
    for (fs::directory_iterator at(folder, code), end; !code && at != end; at.increment(code)) {
        if (at->path().filename().string().starts_with(".")) continue;
        std::error_code ignored;
        (at->is_directory(ignored) ? listing.folders : listing.files).push_back(at->path());
    }
    if (code) listing.fault = code.message();
    std::sort(listing.files.begin(), listing.files.end(), path_less);
    std::sort(listing.folders.begin(), listing.folders.end(), path_less);
    return listing;
}

// ---- From files to shots ----

/// Reads files and remembers what was left out.
class ShotReader {
  public:
    ShotReader(const fs::path& root, const GroupingOptions& options)
        : root_(root), options_(options) {}

    std::string relative(const fs::path& path) const {
        return path.lexically_relative(root_).generic_string();
    }

    /// The shots among the files of one folder, in their order; of RAW and JPEG with one stem one.
    std::vector<Shot> read(const std::vector<fs::path>& files, std::vector<SkippedFile>& skipped) {
        std::map<std::string, std::vector<fs::path>> stems;
        std::vector<std::string> order;
        for (const fs::path& file : files) {
            if (!is_shot_file(file)) {
                if (!is_sidecar(file)) skip(skipped, file, "not_an_image", "");
                continue;
            }
            auto& same = stems[file.stem().string()];
            if (same.empty()) order.push_back(file.stem().string());
            same.push_back(file);
        }
        std::vector<Shot> shots;
        for (const std::string& stem : order) read_stem(stems[stem], shots, skipped);
        return shots;
    }

    /// Throws for the names in options.focal_mm that no file had.
    void check_focal_names() const {
        for (const auto& [name, mm] : options_.focal_mm) {
            require(mm > 0, "the focal length of {} must be above 0, got {}", name, mm);
            require(named_.contains(name), "{} holds no file {}, for which a focal length is given",
                    root_.string(), name);
        }
    }

    static void skip(std::vector<SkippedFile>& skipped, const std::string& name,
                     std::string_view what, std::string_view why) {
        skipped.push_back({name, why.empty() ? fmt::format("{}: {}", what, name)
                                             : fmt::format("{}: {} ({})", what, name, why)});
    }
    void skip(std::vector<SkippedFile>& skipped, const fs::path& path, std::string_view what,
              std::string_view why) const {
        skip(skipped, relative(path), what, why);
    }

  private:
    /// RAW wins, or JPEG where options say so; the loser counts only when the winner is broken.
    void read_stem(std::vector<fs::path> same, std::vector<Shot>& shots,
                   std::vector<SkippedFile>& skipped) {
        std::stable_sort(same.begin(), same.end(), [&](const fs::path& a, const fs::path& b) {
            return options_.prefer_jpeg ? is_raw_name(a) < is_raw_name(b)
                                        : is_raw_name(a) > is_raw_name(b);
        });
        std::optional<fs::path> winner;
        for (const fs::path& file : same) {
            const auto focal = focal_of(file);
            if (winner && is_raw_name(file) != is_raw_name(*winner)) {
                skip(skipped, file, "superseded", "by " + winner->filename().string());
                continue;
            }
            if (auto shot = read_one(file, skipped)) {
                shot->focal_override_mm = focal;
                shots.push_back(std::move(*shot));
                winner = file;
            }
        }
    }

    std::optional<Shot> read_one(const fs::path& file, std::vector<SkippedFile>& skipped) const {
        try {
            if (!kind_of_file(file)) {
                skip(skipped, file, "not_an_image", "");
                return std::nullopt;
            }
            return read_shot(file);
        } catch (const Error& error) {
            skip(skipped, file, "unreadable", reason_of(error, file));
        } catch (const std::exception& error) {  // a library's own
            skip(skipped, file, "unreadable", error.what());
        }
        return std::nullopt;
    }

    /// The sentence without the path, which would name the machine's folders.
    static std::string reason_of(const Error& error, const fs::path& file) {
        std::string text = error.sentence();
        const std::size_t at = text.find(file.string());
        if (at != std::string::npos) {
            text.replace(at, file.string().size(), file.filename().string());
        }
        return text;
    }

    std::optional<double> focal_of(const fs::path& file) {
        for (const std::string& name : {relative(file), file.filename().string()}) {
            const auto at = options_.focal_mm.find(name);
            if (at == options_.focal_mm.end()) continue;
            named_.insert(name);
            return at->second;
        }
        return std::nullopt;
    }

    fs::path root_;
    const GroupingOptions& options_;
    std::set<std::string> named_;
};

bool earlier(const Shot& a, const Shot& b) {
    const double ta = a.exif.taken_s.value_or(INFINITY), tb = b.exif.taken_s.value_or(INFINITY);
    return ta != tb ? ta < tb : natural_less(a.name(), b.name());
}

/// Sorts the shots and notes what is odd about them.
void finish(CaptureScene& scene) {
    std::stable_sort(scene.shots.begin(), scene.shots.end(), earlier);
    std::set<int> orientations;
    for (const Shot& shot : scene.shots) {
        orientations.insert(shot.exif.orientation.value_or(1));
        if (shot.colour == ColourSpace::unknown) {
            scene.notes.push_back("colour_profile_unknown: " + shot.name());
        }
    }
    if (orientations.size() > 1) scene.notes.emplace_back("orientation_differs");
}

/// Gives scenes whose name was taken before a tail `_2`, `_3`, ...
void make_names_unique(std::vector<CaptureScene>& scenes) {
    std::set<std::string> first, taken;
    for (const CaptureScene& scene : scenes) first.insert(scene.name);
    for (CaptureScene& scene : scenes) {
        if (taken.insert(scene.name).second) continue;
        int n = 2;
        std::string name;
        do {
            name = fmt::format("{}_{}", scene.name, n++);
        } while (first.contains(name) || taken.contains(name));
        taken.insert(name);
        scene.name = name;
        scene.notes.emplace_back("duplicate_scene_name");
    }
}

// ---- By folders ----

bool holds_shots(const Listing& listing) {
    return std::any_of(listing.files.begin(), listing.files.end(),
                       [](const fs::path& file) { return is_shot_file(file); });
}

/// The scenes in the folders below, depth first. A link back to a folder above is not followed.
void collect_folders(const std::vector<fs::path>& folders, ShotReader& reader, CaptureSet& set,
                     std::set<fs::path>& seen) {
    for (const fs::path& folder : folders) {
        std::error_code code;
        const fs::path real = fs::canonical(folder, code);
        if (code || !seen.insert(real).second) continue;
        const Listing listing = list(folder);
        if (!listing.fault.empty()) reader.skip(set.skipped, folder, "unreadable", listing.fault);
        if (holds_shots(listing)) {
            CaptureScene scene;
            scene.name = folder.filename().string();
            scene.shots = reader.read(listing.files, scene.skipped);
            set.scenes.push_back(std::move(scene));
        }
        collect_folders(listing.folders, reader, set, seen);
    }
}

// ---- By scenes.csv ----

std::string trimmed(std::string text) {
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
    std::size_t at = 0;
    while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) ++at;
    return text.substr(at);
}

/// One line's fields; double quotes may enclose a field, "" inside them is one.
std::vector<std::string> fields_of(std::string_view line) {
    std::vector<std::string> fields(1);
    bool quoted = false;
    for (std::size_t i = 0; i < line.size(); ++i) {
        const char c = line[i];
        if (c == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"') {
            fields.back() += '"';
            ++i;
        } else if (c == '"') {
            quoted = !quoted;
        } else if (c == ',' && !quoted) {
            fields.emplace_back();
        } else {
            fields.back() += c;
        }
    }
    for (std::string& field : fields) field = trimmed(std::move(field));
    return fields;
}

struct TableRow {
    std::string scene;
    std::string role;
};

/// file -> scene and role. throws Error(input).
std::map<std::string, TableRow> read_table(const fs::path& path) {
    std::string text = read_file(path);
    if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
    std::map<std::string, TableRow> rows;
    std::vector<std::string> header;
    std::size_t number = 0;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        const auto fields = fields_of(std::string_view(text).substr(at, end - at));
        at = end + 1;
        ++number;
        if (fields.size() == 1 && fields[0].empty()) continue;
        if (header.empty()) {
            header = fields;
            for (const std::string& name : header) {
                require(name == "file" || name == "scene" || name == "role",
                        "{} line {}: unknown column \"{}\"; known: file, scene, role",
                        path.string(), number, name);
            }
            continue;
        }
        require(fields.size() <= header.size(), "{} line {} has {} fields instead of {}",
                path.string(), number, fields.size(), header.size());
        std::string file;
        TableRow row;
        for (std::size_t i = 0; i < fields.size(); ++i) {
            (header[i] == "file" ? file : header[i] == "scene" ? row.scene : row.role) = fields[i];
        }
        require(!file.empty(), "{} line {} names no file", path.string(), number);
        require(row.role.empty() || row.role == "wide" || row.role == "tele" || row.role == "skip",
                "{} line {}: unknown role \"{}\"; known: wide, tele, skip", path.string(), number,
                row.role);
        require(row.role == "skip" || (!row.scene.empty() && !row.scene.starts_with(".") &&
                                       row.scene.find('/') == std::string::npos),
                "{} line {}: \"{}\" is no name of a scene", path.string(), number, row.scene);
        require(rows.emplace(file, row).second, "{} line {} names {} a second time", path.string(),
                number, file);
    }
    require(std::find(header.begin(), header.end(), "file") != header.end() &&
                std::find(header.begin(), header.end(), "scene") != header.end(),
            "{} needs a first line file,scene,role", path.string());
    return rows;
}

void group_by_table(const fs::path& table, const Listing& listing, ShotReader& reader,
                    CaptureSet& set) {
    const auto rows = read_table(table);
    std::map<std::string, std::vector<fs::path>> files;
    std::set<std::string> there;
    for (const fs::path& file : listing.files) {
        const std::string name = file.filename().string();
        there.insert(name);
        const auto row = rows.find(name);
        if (row != rows.end()) {
            if (row->second.role != "skip") files[row->second.scene].push_back(file);
        } else if (is_shot_file(file)) {
            reader.skip(set.skipped, file, "no_scene", "not in scenes.csv");
        } else if (!is_sidecar(file)) {
            reader.skip(set.skipped, file, "not_an_image", "");
        }
    }
    for (const auto& [name, row] : rows) {
        require(there.contains(name), "{} names {}, which is not in its folder", table.string(),
                name);
    }
    for (const auto& [name, members] : files) {
        CaptureScene scene;
        scene.name = name;
        scene.shots = reader.read(members, scene.skipped);
        for (Shot& shot : scene.shots) {
            const std::string& role = rows.at(shot.name()).role;
            if (role == "wide") shot.role = ShotRole::wide;
            if (role == "tele") shot.role = ShotRole::tele;
        }
        set.scenes.push_back(std::move(scene));
    }
}

// ---- By time ----

std::optional<double> any_focal(const Shot& shot) {
    const auto mm = shot.focal_mm();
    return mm ? mm : shot.exif.focal_length_35mm;
}

/// True at each shot that begins a scene. `shots` in order of time.
std::vector<bool> scene_starts(const std::vector<Shot>& shots, double gap_s) {
    const std::size_t n = shots.size();
    double shortest = INFINITY;
    for (const Shot& shot : shots)
        shortest = std::min(shortest, any_focal(shot).value_or(INFINITY));
    const auto is_wide = [&](std::size_t i) {
        const auto focal = any_focal(shots[i]);
        return focal && *focal <= wide_end * shortest;
    };
    const auto pause_before = [&](std::size_t i) {
        return *shots[i].exif.taken_s - *shots[i - 1].exif.taken_s;
    };

    std::vector<bool> starts(n, false);
    bool had_wide = false, had_tele = false;
    for (std::size_t i = 0; i < n; ++i) {
        if (i == 0 || pause_before(i) > gap_s) {
            starts[i] = true;
            had_wide = had_tele = false;
        } else if (is_wide(i) && had_wide && had_tele) {
            // A run of wide frames behind a whole series: up to the next tele frame or pause
            std::size_t end = i + 1;
            while (end < n && is_wide(end) && pause_before(end) <= gap_s) ++end;
            const bool another_series = end < n && pause_before(end) <= gap_s;
            if (another_series) {
                // Its first frames may still check the tripod: cut at the longest pause
                std::size_t cut = i;
                for (std::size_t k = i + 1; k < end; ++k) {
                    if (pause_before(k) > pause_before(cut)) cut = k;
                }
                starts[cut] = true;
                had_tele = false;
            }
            i = end - 1;
            continue;
        }
        (is_wide(i) ? had_wide : had_tele) = true;
    }
    return starts;
}

void group_by_time(const fs::path& root, const Listing& listing, ShotReader& reader, double gap_s,
                   CaptureSet& set) {
    std::vector<Shot> shots = reader.read(listing.files, set.skipped);
    const auto timed = [](const Shot& shot) { return shot.exif.taken_s.has_value(); };
    if (shots.empty()) return;
    if (std::none_of(shots.begin(), shots.end(), timed)) {
        CaptureScene scene;
        scene.name = fs::canonical(root).filename().string();
        if (scene.name.empty()) scene.name = "scene";
        scene.shots = std::move(shots);
        scene.notes.emplace_back("no_time");
        set.scenes.push_back(std::move(scene));
        return;
    }
    const auto untimed = std::stable_partition(shots.begin(), shots.end(), timed);
    for (auto shot = untimed; shot != shots.end(); ++shot) {
        reader.skip(set.skipped, shot->path, "no_time",
                    "EXIF holds no DateTimeOriginal; group by sub-folders or scenes.csv");
    }
    shots.erase(untimed, shots.end());
    std::stable_sort(shots.begin(), shots.end(), earlier);
    const auto starts = scene_starts(shots, gap_s);
    for (std::size_t i = 0; i < shots.size(); ++i) {
        if (starts[i]) {
            set.scenes.emplace_back();
            set.scenes.back().name = shots[i].path.stem().string();
        }
        set.scenes.back().shots.push_back(std::move(shots[i]));
    }
}

}  // namespace

bool natural_less(std::string_view a, std::string_view b) {
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    std::size_t i = 0, j = 0;
    while (i < a.size() && j < b.size()) {
        if (digit(a[i]) && digit(b[j])) {
            // Compare two numbers: without leading zeros the longer one is greater
            std::size_t p = i, q = j;
            while (p < a.size() && digit(a[p])) ++p;
            while (q < b.size() && digit(b[q])) ++q;
            std::size_t first_a = i, first_b = j;
            while (first_a + 1 < p && a[first_a] == '0') ++first_a;
            while (first_b + 1 < q && b[first_b] == '0') ++first_b;
            const auto left = a.substr(first_a, p - first_a),
                       right = b.substr(first_b, q - first_b);
            if (left.size() != right.size()) return left.size() < right.size();
            if (left != right) return left < right;
            i = p;
            j = q;
        } else {
            if (a[i] != b[j]) {
                return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
            }
            ++i;
            ++j;
        }
    }
    if (i < a.size() || j < b.size()) return i == a.size();
    return a < b;  // equal but for leading zeros
}

CaptureSet find_capture_set(const fs::path& folder, const GroupingOptions& options) {
    require(fs::is_directory(folder), "{} is no folder; give the folder of the captures",
            folder.string());
    const Listing listing = list(folder);
    require(listing.fault.empty(), "cannot read the folder {}: {}", folder.string(), listing.fault);
    ShotReader reader(folder, options);
    CaptureSet set;
    std::set<fs::path> seen{fs::canonical(folder)};
    collect_folders(listing.folders, reader, set, seen);
    const fs::path table = folder / "scenes.csv";
    if (!set.scenes.empty()) {
        for (const fs::path& file : listing.files) {
            if (is_shot_file(file)) {
                reader.skip(set.skipped, file, "no_scene", "it lies beside the scenes' folders");
            } else if (!is_sidecar(file)) {
                reader.skip(set.skipped, file, "not_an_image", "");
            }
        }
        if (fs::exists(table)) {
            reader.skip(set.skipped, table, "no_scene", "sub-folders hold the scenes");
        }
    } else if (fs::exists(table)) {
        group_by_table(table, listing, reader, set);
    } else {
        group_by_time(folder, listing, reader, options.gap_s, set);
    }
    reader.check_focal_names();
    make_names_unique(set.scenes);
    for (CaptureScene& scene : set.scenes) finish(scene);
    std::stable_sort(
        set.scenes.begin(), set.scenes.end(),
        [](const CaptureScene& a, const CaptureScene& b) { return natural_less(a.name, b.name); });
    return set;
}

std::optional<double> focal_ratio(const Shot& tele, const Shot& wide) {
    if (tele.focal_mm() && wide.focal_mm()) return *tele.focal_mm() / *wide.focal_mm();
    const auto &t = tele.exif.focal_length_35mm, &w = wide.exif.focal_length_35mm;
    if (t && w) return *t / *w;
    return std::nullopt;
}

SceneRoles assign_roles(const CaptureScene& scene, const std::vector<double>& scales) {
    SceneRoles roles;
    // Choose the measure that more shots have
    std::size_t with_mm = 0, with_35 = 0;
    for (const Shot& shot : scene.shots) {
        with_mm += shot.focal_mm().has_value();
        with_35 += shot.exif.focal_length_35mm.has_value();
    }
    std::vector<std::optional<double>> focal;
    for (std::size_t i = 0; i < scene.shots.size(); ++i) {
        const Shot& shot = scene.shots[i];
        focal.push_back(with_mm >= with_35 ? shot.focal_mm() : shot.exif.focal_length_35mm);
        if (!focal[i]) roles.no_focal.push_back(i);
    }

    // The wide frames: those named so, else the shortest focal length
    double shortest = INFINITY;
    bool named = false;
    for (std::size_t i = 0; i < focal.size(); ++i) {
        named = named || scene.shots[i].role == ShotRole::wide;
    }
    for (std::size_t i = 0; i < focal.size(); ++i) {
        const ShotRole role = scene.shots[i].role;
        if (named ? role == ShotRole::wide : role != ShotRole::tele) {
            shortest = std::min(shortest, focal[i].value_or(INFINITY));
        }
    }
    std::vector<bool> is_wide(focal.size(), false);
    for (std::size_t i = 0; i < focal.size(); ++i) {
        const ShotRole role = scene.shots[i].role;
        is_wide[i] =
            named ? role == ShotRole::wide
                  : role != ShotRole::tele && focal[i] && *focal[i] <= (1 + same_focal) * shortest;
        if (is_wide[i]) roles.wide.push_back(i);
    }

    // For each scale the focal length that fits best, then all frames at it
    for (const double s : scales) {
        std::vector<std::size_t>& chosen = roles.tele[s];
        const auto deviation = [&](std::size_t i) {
            return is_wide[i] || !focal[i] ? INFINITY : std::abs(*focal[i] / shortest / s - 1);
        };
        double least = INFINITY;
        for (std::size_t i = 0; i < focal.size(); ++i) least = std::min(least, deviation(i));
        if (!(least <= 0.10 + 1e-9)) continue;
        std::optional<std::size_t> best;
        const auto rank = [&](std::size_t i) {  // long enough before too short, then by fit
            const bool short_of = *focal[i] / shortest < s * (1 - 1e-9);
            return std::pair{short_of, deviation(i)};
        };
        for (std::size_t i = 0; i < focal.size(); ++i) {
            if (deviation(i) > std::min(least + 0.03, 0.10) + 1e-9) continue;
            if (!best || rank(i) < rank(*best)) best = i;
        }
        for (std::size_t i = 0; i < focal.size(); ++i) {
            if (std::isfinite(deviation(i)) &&
                std::abs(*focal[i] / *focal[*best] - 1) <= same_focal) {
                chosen.push_back(i);
            }
        }
        std::stable_sort(chosen.begin(), chosen.end(),
                         [&](std::size_t a, std::size_t b) { return rank(a) < rank(b); });
    }
    return roles;
}

}  // namespace ultrasr
