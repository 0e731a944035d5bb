#include "data/pair_store.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <system_error>
#include <utility>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "data/hdf5_attributes.h"
#include "data/hdf5_chunks.h"
#include "data/hdf5_handle.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr char format_name[] = "ultrasr-pairs";
constexpr int format_version = 1;
constexpr std::size_t max_values = std::size_t{3} << 30;  // a head that claims more is a lie

[[noreturn]] void fail_broken(const fs::path& path, std::string_view what) {
    fail(Fault::input, "{} is a broken pair store ({}); replace the file", path.string(), what);
}
[[noreturn]] void fail_to_write(const fs::path& path, std::string_view why) {
    fail(Fault::storage, "cannot write {}: {}; free space or choose another folder", path.string(),
         why);
}

std::vector<FilteredArray> filter_pair(const StoredPair& pair) {
    const auto sample = [](const cv::Mat& mat) {
        return mat.depth() == CV_8U ? Hdf5Sample::u8 : Hdf5Sample::u16;
    };
    std::vector<FilteredArray> arrays;
    arrays.push_back(filter_array("lr", pair.lr, sample(pair.lr)));
    arrays.push_back(filter_array("hr", pair.hr, sample(pair.hr)));
    if (!pair.weight.empty()) {
        cv::Mat half;
        cv::convertFp16(pair.weight, half);
        arrays.push_back(filter_array("weight", half, Hdf5Sample::f16));
    }
    if (!pair.shift.empty()) arrays.push_back(filter_array("shift", pair.shift, Hdf5Sample::f32));
    return arrays;
}

// ---- Reading ----

Hdf5Handle open_store(const fs::path& path) {
    require(fs::is_regular_file(path), "cannot read {}: it is not a regular file", path.string());
    Hdf5Handle file = open_hdf5_file(path.string());
    require(file.ok(), "{} is no HDF5 file or a broken one ({}); replace it", path.string(),
            hdf5_reason());
    return file;
}

std::vector<std::string> names_in(hid_t group) {
    std::vector<std::string> names;
    const auto visit = [](hid_t, const char* name, const H5L_info_t*, void* to) -> herr_t {
        static_cast<std::vector<std::string>*>(to)->emplace_back(name);
        return 0;
    };
    H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, visit, &names);
    return names;
}

/// 8 for "x8".
std::optional<double> scale_of_name(const std::string& name) {
    if (name.size() < 2 || name[0] != 'x') return std::nullopt;
    char* end = nullptr;
    const double value = std::strtod(name.c_str() + 1, &end);
    return *end == '\0' && value >= 1 && value < 1000 ? std::optional(value) : std::nullopt;
}

bool has_child(hid_t group, const char* name) { return H5Lexists(group, name, H5P_DEFAULT) > 0; }

/// A dataset's shape and type.
struct ArrayHead {
    Hdf5Handle set;
    PixelSize size;
    int channels = 1;
    H5T_class_t kind = H5T_NO_CLASS;
    std::size_t bytes = 0;  ///< of a value
};

ArrayHead open_array(const fs::path& path, hid_t group, const std::string& name) {
    ArrayHead head;
    head.set = {H5Dopen2(group, name.c_str(), H5P_DEFAULT), H5Dclose};
    if (!head.set.ok()) fail_broken(path, fmt::format("{} is missing", name));
    const Hdf5Handle space(H5Dget_space(head.set.get()), H5Sclose);
    const Hdf5Handle type(H5Dget_type(head.set.get()), H5Tclose);
    std::array<hsize_t, H5S_MAX_RANK> dims{};
    const int rank = H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr);
    const bool sound = (rank == 2 || rank == 3) && dims[0] > 0 && dims[1] > 0 &&
                       dims[0] <= 1U << 30 && dims[1] <= 1U << 30 &&
                       (rank == 2 || (dims[2] >= 1 && dims[2] <= 4)) &&
                       dims[0] * dims[1] <= max_values / 3;
    if (!sound) fail_broken(path, fmt::format("{} has no picture's shape", name));
    head.size = {static_cast<int>(dims[1]), static_cast<int>(dims[0])};
    head.channels = rank == 3 ? static_cast<int>(dims[2]) : 1;
    head.kind = H5Tget_class(type.get());
    head.bytes = H5Tget_size(type.get());
    return head;
}

ArrayHead open_picture(const fs::path& path, hid_t group, const std::string& name) {
    ArrayHead head = open_array(path, group, name);
    if (head.channels != 3 || head.kind != H5T_INTEGER || head.bytes > 2) {
        fail_broken(path, fmt::format("{} is not 8- or 16-bit RGB", name));
    }
    return head;
}

cv::Mat read_values(const fs::path& path, const ArrayHead& head, Hdf5Sample sample, int cv_type) {
    cv::Mat values(head.size.height, head.size.width, cv_type);
    const Hdf5Handle type = type_of(sample);
    if (H5Dread(head.set.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data) < 0) {
        fail_broken(path, hdf5_reason());
    }
    return values;
}

cv::Mat read_picture_of(const fs::path& path, hid_t file, const std::string& name) {
    const ArrayHead head = open_picture(path, file, name);
    return head.bytes == 1 ? read_values(path, head, Hdf5Sample::u8, CV_8UC3)
                           : read_values(path, head, Hdf5Sample::u16, CV_16UC3);
}

/// The pair in a group named like a scale. `scene` is what its place in the file says.
PairStore::Entry entry_of(const fs::path& path, hid_t file, const std::string& group,
                          std::string scene) {
    const Hdf5Handle place(H5Gopen2(file, group.c_str(), H5P_DEFAULT), H5Gclose);
    if (!place.ok()) fail_broken(path, fmt::format("{} is no group", group));
    if (scene.empty()) {
        const auto named = attribute_value(place.get(), "scene");
        scene = named && named->is_string() ? named->get<std::string>() : path.stem().string();
    }
    const ArrayHead lr = open_picture(path, file, group + "/lr");
    const ArrayHead hr = open_picture(path, file, group + "/hr");
    return {scene,
            {*scale_of_name(group.substr(group.rfind('/') + 1))},
            lr.size,
            hr.size,
            static_cast<int>(8 * lr.bytes),
            static_cast<int>(8 * hr.bytes),
            group};
}

// ---- Writing ----

/// A store in the making. Throws Error(storage); leaves nothing behind unless finish() is reached.
class StoreFile {
  public:
    explicit StoreFile(const fs::path& path) : path_(path), temporary_(path) {
        if (path.has_parent_path()) make_folders(path.parent_path());
        writing([&] {
            file_ = create_hdf5_file(temporary_.path().string());
            put_attribute(file_.get(), "format", format_name);
            put_attribute(file_.get(), "version", format_version);
        });
    }

    void add(const std::string& group, const StoredPair& pair) {
        const std::vector<FilteredArray> arrays = filter_pair(pair);
        writing([&] {
            const Hdf5Handle place = make_group(group);
            put_attributes(place.get(), pair.attributes);
            put_attribute(place.get(), "scene", pair.scene);
            put_attribute(place.get(), "scale", pair.scale.ratio);
            for (const FilteredArray& array : arrays) put_array(place.get(), array);
        });
    }

    /// Copies the pair in a group of another store, chunks as they are. (The attributes go by hand:
    /// HDF5 1.10.8 crashes when it copies more than eight of them with texts among them.)
    void copy(const fs::path& from, const std::string& group, const std::string& to) {
        const auto lock = enter_hdf5();
        const Hdf5Handle other = open_store(from);
        const Hdf5Handle source(H5Gopen2(other.get(), group.c_str(), H5P_DEFAULT), H5Gclose);
        if (!source.ok()) fail_broken(from, hdf5_reason());
        Json attributes = attributes_of(source.get());
        attributes["scene"] = to.substr(0, to.rfind('/'));
        writing([&] {
            const Hdf5Handle place = make_group(to);
            for (const char* name : {"lr", "hr", "weight", "shift"}) {
                if (!has_child(source.get(), name)) continue;
                const Hdf5Handle how(H5Pcreate(H5P_OBJECT_COPY), H5Pclose);
                H5Pset_copy_object(how.get(), H5O_COPY_WITHOUT_ATTR_FLAG);
                check_hdf5(H5Ocopy(source.get(), name, place.get(), name, how.get(), H5P_DEFAULT));
            }
            put_attributes(place.get(), attributes);
        });
    }

    /// Closes, syncs, renames.
    void finish() {
        writing([&] {
            check_hdf5(H5Fflush(file_.get(), H5F_SCOPE_GLOBAL));
            check_hdf5(file_.reset());
        });
        const int code = temporary_.become(path_);
        if (code != 0) fail_to_write(path_, std::generic_category().message(code));
    }

  private:
    /// Runs `action` under HDF5's lock; its failure is a fault of the disk.
    template <class Action>
    void writing(Action&& action) const {
        const auto lock = enter_hdf5();
        try {
            action();
        } catch (const Hdf5Failure& failure) {
            fail_to_write(path_, failure.what());
        }
    }

    /// Makes a group with those above it.
    Hdf5Handle make_group(const std::string& name) const {
        const Hdf5Handle create(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
        H5Pset_obj_track_times(create.get(), false);
        Hdf5Handle group;
        for (std::size_t at = 0; at != std::string::npos;) {
            at = name.find('/', at + 1);
            const std::string part = name.substr(0, at);
            const bool there = has_child(file_.get(), part.c_str());
            group = {there ? H5Gopen2(file_.get(), part.c_str(), H5P_DEFAULT)
                           : H5Gcreate2(file_.get(), part.c_str(), H5P_DEFAULT, create.get(),
                                        H5P_DEFAULT),
                     H5Gclose};
            check_hdf5(group.get());
        }
        return group;
    }

    fs::path path_;
    TemporaryFile temporary_;
    Hdf5Handle file_;
};

std::string group_name(Scale scale) { return fmt::format("x{:g}", scale.ratio); }

void check_pair(const StoredPair& pair) {
    const auto rgb = [](const cv::Mat& mat) {
        return !mat.empty() && (mat.type() == CV_8UC3 || mat.type() == CV_16UC3);
    };
    const char* wrong = nullptr;
    if (pair.scene.empty() || pair.scene == "." || pair.scene == ".." ||
        pair.scene.find('/') != std::string::npos) {
        wrong = "a scene's name is a word without /";
    } else if (!(pair.scale.ratio >= 1 && pair.scale.ratio < 1000)) {
        wrong = "a scale lies within 1 and 1000";
    } else if (!rgb(pair.lr) || !rgb(pair.hr)) {
        wrong = "LR and HR are 8- or 16-bit RGB";
    } else if (!pair.weight.empty() &&
               (pair.weight.type() != CV_32F || pair.weight.size() != pair.lr.size())) {
        wrong = "the weights are float32 of LR's size";
    } else if (!pair.shift.empty() && pair.shift.type() != CV_32FC2) {
        wrong = "the shifts are two float32 a block";
    } else if (!pair.attributes.is_object() || pair.attributes.contains("scene") ||
               pair.attributes.contains("scale")) {
        wrong = "the attributes are an object without scene and scale";
    }
    if (wrong) {
        fail(Fault::internal, "scene {} {} cannot be stored: {}", pair.scene,
             group_name(pair.scale), wrong);
    }
}

}  // namespace

struct PairStoreWriter::State {
    State(const fs::path& where, StoreLayout how) : path(where), layout(how), file(where) {}
    fs::path path;
    StoreLayout layout;
    StoreFile file;
    std::string first_scene;
    std::set<std::string> groups;
};

PairStoreWriter::PairStoreWriter(const fs::path& path, StoreLayout layout)
    : state_(std::make_unique<State>(path, layout)) {}
PairStoreWriter::~PairStoreWriter() = default;
PairStoreWriter::PairStoreWriter(PairStoreWriter&&) noexcept = default;

void PairStoreWriter::add(const StoredPair& pair) {
    check_pair(pair);
    const bool one_scene = state_->layout == StoreLayout::one_scene;
    if (state_->groups.empty()) state_->first_scene = pair.scene;
    if (one_scene && pair.scene != state_->first_scene) {
        fail(Fault::internal, "{} is to hold one scene, got {} and {}", state_->path.string(),
             state_->first_scene, pair.scene);
    }
    const std::string group = group_name(pair.scale);
    if (!state_->groups.insert(pair.scene + "/" + group).second) {
        fail(Fault::internal, "scene {} {} comes twice", pair.scene, group);
    }
    state_->file.add(one_scene ? group : pair.scene + "/" + group, pair);
}

void PairStoreWriter::commit() {
    if (state_->groups.empty())
        fail(Fault::internal, "{} would hold no pair", state_->path.string());
    state_->file.finish();
}

void write_pair_store(const fs::path& path, const std::vector<StoredPair>& pairs,
                      StoreLayout layout) {
    PairStoreWriter writer(path, layout);
    for (const StoredPair& pair : pairs) writer.add(pair);
    writer.commit();
}

void pack_pair_stores(const fs::path& path, const std::vector<fs::path>& stores) {
    require(!stores.empty(), "no store is given to pack into {}", path.string());
    // List first: nothing is written unless all of them fit together
    std::map<std::string, std::pair<fs::path, std::string>> from;
    for (const fs::path& store : stores) {
        const PairStore listing(store);
        for (const PairStore::Entry& entry : listing.entries()) {
            const std::string to = entry.scene + "/" + group_name(entry.scale);
            const auto [at, fresh] = from.emplace(to, std::pair{store, entry.group});
            require(fresh, "{} and {} both hold {}; leave one out", at->second.first.string(),
                    store.string(), to);
        }
    }
    StoreFile file(path);
    for (const auto& [to, source] : from) file.copy(source.first, source.second, to);
    file.finish();
}

cv::Mat read_stored_picture(const fs::path& path, const std::string& place) {
    const auto lock = enter_hdf5();
    const Hdf5Handle file = open_store(path);
    return read_picture_of(path, file.get(), place);
}

PairStore::PairStore(const fs::path& path) : path_(path) {
    const auto lock = enter_hdf5();
    const Hdf5Handle file = open_store(path);
    const auto format = attribute_value(file.get(), "format");
    require(format == Json(format_name),
            "{} is an HDF5 file, but no pair store of ultrasr-register", path.string());
    const auto version = attribute_value(file.get(), "version");
    require(version == Json(format_version),
            "{} is a pair store of version {}, this program reads {}; take a newer program",
            path.string(), version ? version->dump() : "none", format_version);
    for (const std::string& name : names_in(file.get())) {
        const Hdf5Handle group(H5Gopen2(file.get(), name.c_str(), H5P_DEFAULT), H5Gclose);
        if (!group.ok()) continue;
        if (scale_of_name(name) && has_child(group.get(), "lr")) {
            entries_.push_back(entry_of(path, file.get(), name, ""));
            continue;
        }
        for (const std::string& below : names_in(group.get())) {
            if (!scale_of_name(below)) continue;
            entries_.push_back(entry_of(path, file.get(), name + "/" + below, name));
        }
    }
    require(!entries_.empty(), "{} holds no pair", path.string());
    std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
        return a.scene != b.scene ? a.scene < b.scene : a.scale < b.scale;
    });
}

cv::Mat PairStore::read_lr(const Entry& entry) const {
    return read_stored_picture(path_, entry.group + "/lr");
}

cv::Mat PairStore::read_hr(const Entry& entry) const {
    return read_stored_picture(path_, entry.group + "/hr");
}

StoredPair PairStore::read(const Entry& entry) const {
    const auto lock = enter_hdf5();
    const Hdf5Handle file = open_store(path_);
    StoredPair pair;
    pair.scene = entry.scene;
    pair.scale = entry.scale;
    pair.lr = read_picture_of(path_, file.get(), entry.group + "/lr");
    pair.hr = read_picture_of(path_, file.get(), entry.group + "/hr");
    const Hdf5Handle group(H5Gopen2(file.get(), entry.group.c_str(), H5P_DEFAULT), H5Gclose);
    if (!group.ok()) fail_broken(path_, fmt::format("{} is missing", entry.group));
    if (has_child(group.get(), "weight")) {
        const ArrayHead head = open_array(path_, group.get(), "weight");
        if (head.channels != 1 || head.kind != H5T_FLOAT) fail_broken(path_, "weight is no float");
        pair.weight = read_values(path_, head, Hdf5Sample::f32, CV_32F);
    }
    if (has_child(group.get(), "shift")) {
        const ArrayHead head = open_array(path_, group.get(), "shift");
        if (head.channels != 2 || head.kind != H5T_FLOAT) {
            fail_broken(path_, "shift is not two floats a block");
        }
        pair.shift = read_values(path_, head, Hdf5Sample::f32, CV_32FC2);
    }
    pair.attributes = attributes_of(group.get());
    pair.attributes.erase("scene");
    pair.attributes.erase("scale");
    return pair;
}

}  // namespace ultrasr
