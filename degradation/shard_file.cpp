#include "degradation/shard_file.h"

#include <algorithm>
#include <array>
#include <map>
#include <system_error>

#include "data/base/error.h"
#include "data/file.h"
#include "data/hdf5_attributes.h"
#include "data/hdf5_handle.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

constexpr char format_name[] = "ultrasr-degrade";
constexpr int format_version = 1;

[[noreturn]] void fail_to_write(const fs::path& path, std::string_view why) {
    fail(Fault::storage, "cannot write {}: {}; free space or choose another folder", path.string(),
         why);
}
[[noreturn]] void fail_broken(const fs::path& path, std::string_view what) {
    fail(Fault::input, "{} is no shard of ultrasr-degrade or a broken one ({}); make it again",
         path.string(), what);
}

Hdf5Handle make_dataset(hid_t file, const std::string& name, hid_t type,
                        std::vector<hsize_t> dims) {
    const auto rank = static_cast<int>(dims.size());
    const Hdf5Handle space(H5Screate_simple(rank, dims.data(), nullptr), H5Sclose);
    const Hdf5Handle create(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_obj_track_times(create.get(), false);
    if (rank > 1) {
        dims[0] = 1;
        H5Pset_chunk(create.get(), rank, dims.data());
        H5Pset_fletcher32(create.get());
    }
    Hdf5Handle set(
        H5Dcreate2(file, name.c_str(), type, space.get(), H5P_DEFAULT, create.get(), H5P_DEFAULT),
        H5Dclose);
    check_hdf5(set.get());
    return set;
}

/// Selects picture i, writes or reads it.
template <class Transfer>
void picture_at(hid_t set, std::size_t i, const cv::Mat& rgb, Transfer&& transfer) {
    const std::array<hsize_t, 4> start{i, 0, 0, 0};
    const std::array<hsize_t, 4> count{1, static_cast<hsize_t>(rgb.rows),
                                       static_cast<hsize_t>(rgb.cols), 3};
    const Hdf5Handle there(H5Dget_space(set), H5Sclose);
    const Hdf5Handle here(H5Screate_simple(4, count.data(), nullptr), H5Sclose);
    check_hdf5(H5Sselect_hyperslab(there.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(),
                                   nullptr));
    check_hdf5(transfer(here.get(), there.get()));
}

void write_texts(hid_t file, const std::string& name, const std::vector<std::string>& texts) {
    const Hdf5Handle type = hdf5_text_type();
    const Hdf5Handle set = make_dataset(file, name, type.get(), {texts.size()});
    std::vector<const char*> pointers;
    for (const std::string& text : texts) pointers.push_back(text.c_str());
    check_hdf5(H5Dwrite(set.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()));
}

std::vector<std::string> read_texts(hid_t file, const std::string& name) {
    const Hdf5Handle set(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose);
    check_hdf5(set.get());
    const Hdf5Handle space(H5Dget_space(set.get()), H5Sclose);
    const hssize_t n = H5Sget_simple_extent_npoints(space.get());
    check_hdf5(n);
    const Hdf5Handle type = hdf5_text_type();
    std::vector<char*> pointers(static_cast<std::size_t>(n));
    check_hdf5(H5Dread(set.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()));
    std::vector<std::string> texts;
    for (const char* text : pointers) texts.emplace_back(text ? text : "");
    H5Dvlen_reclaim(type.get(), space.get(), H5P_DEFAULT, pointers.data());
    return texts;
}

class Writer {
  public:
    Writer(hid_t file, std::size_t count) : file_(file), count_(count) {}

    void add(std::size_t i, const ShardItem& item) {
        for (const auto& [name, rgb] : item.pictures) {
            auto [at, is_new] = sets_.try_emplace(name);
            if (is_new) {
                require(i == 0, "picture {} has '{}', the first of its shard has not", item.id,
                        name);
                at->second.size = rgb.size();
                at->second.set = make_dataset(
                    file_, name, H5T_NATIVE_UINT8,
                    {count_, static_cast<hsize_t>(rgb.rows), static_cast<hsize_t>(rgb.cols), 3});
            }
            require(rgb.size() == at->second.size,
                    "picture {} has '{}' of {} x {}, the first of its shard of {} x {}; HDF5 "
                    "shards need one size, so give --patch",
                    item.id, name, rgb.cols, rgb.rows, at->second.size.width,
                    at->second.size.height);
            const cv::Mat whole = rgb.isContinuous() ? rgb : rgb.clone();
            picture_at(at->second.set.get(), i, whole, [&](hid_t here, hid_t there) {
                return H5Dwrite(at->second.set.get(), H5T_NATIVE_UINT8, here, there, H5P_DEFAULT,
                                whole.data);
            });
        }
        require(item.pictures.size() == sets_.size(), "picture {} lacks pictures of its shard",
                item.id);
        ids_.push_back(item.id);
        records_.push_back(item.record);
    }

    void finish() {
        sets_.clear();
        write_texts(file_, "id", ids_);
        write_texts(file_, "record", records_);
    }

  private:
    struct Set {
        Hdf5Handle set;
        cv::Size size;
    };
    hid_t file_;
    std::size_t count_;
    std::map<std::string, Set> sets_;
    std::vector<std::string> ids_, records_;
};

}  // namespace

void write_shard(const fs::path& path, std::size_t count, const std::string& options,
                 const std::function<ShardItem(std::size_t)>& item) {
    if (path.has_parent_path()) make_folders(path.parent_path());
    TemporaryFile temporary(path);
    try {
        const auto lock = enter_hdf5();
        Hdf5Handle file = create_hdf5_file(temporary.path().string());
        put_attribute(file.get(), "format", format_name);
        put_attribute(file.get(), "version", format_version);
        put_attribute(file.get(), "options", options);
        Writer writer(file.get(), count);
        for (std::size_t i = 0; i < count; ++i) writer.add(i, item(i));
        writer.finish();
        check_hdf5(H5Fflush(file.get(), H5F_SCOPE_GLOBAL));
        check_hdf5(file.reset());
    } catch (const Hdf5Failure& failure) {
        fail_to_write(path, failure.what());
    }
    if (const int code = temporary.become(path)) {
        fail_to_write(path, std::generic_category().message(code));
    }
}

ShardFile::ShardFile(const fs::path& path) : path_(path) {
    require(fs::is_regular_file(path), "cannot read {}: it is not a regular file", path.string());
    const auto lock = enter_hdf5();
    try {
        const Hdf5Handle file = open_hdf5_file(path.string());
        check_hdf5(file.get());
        const auto format = attribute_value(file.get(), "format");
        if (!format || *format != format_name) fail_broken(path, "it says so nowhere");
        const auto version = attribute_value(file.get(), "version");
        require(version == Json(format_version),
                "{} is a shard of version {}, this program reads {}; take a newer program",
                path.string(), version ? version->dump() : "none", format_version);
        ids_ = read_texts(file.get(), "id");
        const auto visit = [](hid_t, const char* name, const H5L_info_t*, void* to) -> herr_t {
            const std::string word = name;
            if (word != "id" && word != "record") {
                static_cast<std::vector<std::string>*>(to)->push_back(word);
            }
            return 0;
        };
        check_hdf5(H5Literate(file.get(), H5_INDEX_NAME, H5_ITER_INC, nullptr, visit, &pictures_));
    } catch (const Hdf5Failure& failure) {
        fail_broken(path, failure.what());
    }
}

cv::Mat ShardFile::read(const std::string& picture, std::size_t i) const {
    const auto lock = enter_hdf5();
    try {
        const Hdf5Handle file = open_hdf5_file(path_.string());
        check_hdf5(file.get());
        const Hdf5Handle set(H5Dopen2(file.get(), picture.c_str(), H5P_DEFAULT), H5Dclose);
        check_hdf5(set.get());
        const Hdf5Handle space(H5Dget_space(set.get()), H5Sclose);
        std::array<hsize_t, H5S_MAX_RANK> dims{};
        const int rank = H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr);
        if (rank != 4 || dims[3] != 3 || i >= dims[0] || dims[1] > 65536 || dims[2] > 65536) {
            fail_broken(path_, picture + " has no pictures' shape, or too few");
        }
        cv::Mat rgb(static_cast<int>(dims[1]), static_cast<int>(dims[2]), CV_8UC3);
        picture_at(set.get(), i, rgb, [&](hid_t here, hid_t there) {
            return H5Dread(set.get(), H5T_NATIVE_UINT8, here, there, H5P_DEFAULT, rgb.data);
        });
        return rgb;
    } catch (const Hdf5Failure& failure) {
        fail_broken(path_, failure.what());
    }
}

std::string ShardFile::record(std::size_t i) const {
    const auto lock = enter_hdf5();
    try {
        const Hdf5Handle file = open_hdf5_file(path_.string());
        check_hdf5(file.get());
        const std::vector<std::string> records = read_texts(file.get(), "record");
        if (i >= records.size()) fail_broken(path_, "it has too few records");
        return records[i];
    } catch (const Hdf5Failure& failure) {
        fail_broken(path_, failure.what());
    }
}

}  // namespace ultrasr
