#include "data/hdf5_handle.h"

#include <cstdint>
#include <cstring>

namespace ultrasr {

std::unique_lock<std::recursive_mutex> enter_hdf5() {
    static std::recursive_mutex mutex;
    std::unique_lock lock(mutex);
    static const bool once = H5dont_atexit() >= 0;
    static_cast<void>(once);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    return lock;
}

std::string hdf5_reason() {
    std::string reason;
    const auto visit = [](unsigned, const H5E_error2_t* error, void* found) -> herr_t {
        auto& text = *static_cast<std::string*>(found);
        const std::string words = error->desc ? error->desc : "";
        const std::size_t at = words.find("error message = '");
        if (at != std::string::npos) {
            const std::size_t begin = at + std::strlen("error message = '");
            text = words.substr(begin, words.find('\'', begin) - begin);
        } else if (text.empty()) {
            text = words;
        }
        return 0;
    };
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, visit, &reason);
    return reason.empty() ? "HDF5 gives no reason" : reason;
}

void check_hdf5(long long result) {
    if (result < 0) throw Hdf5Failure(hdf5_reason());
}

std::size_t bytes_of(Hdf5Sample sample) {
    return sample == Hdf5Sample::u8 ? 1 : sample == Hdf5Sample::f32 ? 4 : 2;
}

Hdf5Handle type_of(Hdf5Sample sample) {
    Hdf5Handle type(H5Tcopy(sample == Hdf5Sample::u8    ? H5T_STD_U8LE
                            : sample == Hdf5Sample::u16 ? H5T_STD_U16LE
                                                        : H5T_IEEE_F32LE),
                    H5Tclose);
    if (sample == Hdf5Sample::f16) {
        H5Tset_fields(type.get(), 15, 10, 5, 0, 10);
        H5Tset_size(type.get(), 2);
        H5Tset_ebias(type.get(), 15);
    }
    return type;
}

Hdf5Handle hdf5_text_type() {
    Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(type.get(), H5T_VARIABLE);
    H5Tset_cset(type.get(), H5T_CSET_UTF8);
    return type;
}

Hdf5Handle hdf5_bool_type() {
    Hdf5Handle type(H5Tenum_create(H5T_STD_I8LE), H5Tclose);
    const std::int8_t no = 0, yes = 1;
    H5Tenum_insert(type.get(), "FALSE", &no);
    H5Tenum_insert(type.get(), "TRUE", &yes);
    return type;
}

Hdf5Handle create_hdf5_file(const std::string& path) {
    const Hdf5Handle create(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
    const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    H5Pset_obj_track_times(create.get(), false);
    H5Pset_libver_bounds(access.get(), H5F_LIBVER_V18, H5F_LIBVER_V18);
    Hdf5Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, create.get(), access.get()), H5Fclose);
    check_hdf5(file.get());
    return file;
}

Hdf5Handle open_hdf5_file(const std::string& path) {
    const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 11, 0))
    H5Pset_file_locking(access.get(), false, true);  // some network disks have no locks
#endif
    return {H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose};
}

}  // namespace ultrasr
