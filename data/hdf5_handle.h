// HDF5's identifiers, errors and types, for the files of data/ that speak to it.
#pragma once
#include <hdf5.h>

#include <cstddef>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

namespace ultrasr {

/// HDF5 as Debian builds it serves one thread at a time: hold this around its calls. It also keeps
/// HDF5 from printing its errors, and from closing files at exit, where it loops for ever after a
/// full disk.
std::unique_lock<std::recursive_mutex> enter_hdf5();

/// An identifier that closes itself; negative = none.
class Hdf5Handle {
  public:
    using Close = herr_t (*)(hid_t);
    Hdf5Handle() = default;
    Hdf5Handle(hid_t id, Close close) : id_(id), close_(close) {}
    ~Hdf5Handle() { reset(); }
    Hdf5Handle(Hdf5Handle&& other) noexcept
        : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
    Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
        reset();
        id_ = std::exchange(other.id_, -1);
        close_ = other.close_;
        return *this;
    }
    Hdf5Handle(const Hdf5Handle&) = delete;
    Hdf5Handle& operator=(const Hdf5Handle&) = delete;

    hid_t get() const { return id_; }
    bool ok() const { return id_ >= 0; }
    /// Negative when the last of the data could not be written.
    herr_t reset() {
        if (id_ < 0) return 0;
        const auto lock = enter_hdf5();
        return close_(std::exchange(id_, -1));
    }

  private:
    hid_t id_ = -1;
    Close close_ = nullptr;
};

/// The deepest cause in HDF5's error stack: the system's words if it has any. The next call into
/// HDF5, a handle's closing too, forgets it.
std::string hdf5_reason();

/// What HDF5 gave as the reason; whoever knows the file's name makes an Error of it.
struct Hdf5Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Throws Hdf5Failure for a negative result.
void check_hdf5(long long result);

/// What HDF5 reads and writes here.
enum class Hdf5Sample { u8, u16, f16, f32 };

/// A new file in one format for all versions of HDF5 and without times: the same bytes for the same
/// contents. Under enter_hdf5(). throws Hdf5Failure
Hdf5Handle create_hdf5_file(const std::string& path);

/// A file to read; not ok() when it is no HDF5. Under enter_hdf5().
Hdf5Handle open_hdf5_file(const std::string& path);

std::size_t bytes_of(Hdf5Sample sample);
Hdf5Handle type_of(Hdf5Sample sample);  ///< f16 is IEEE 754 binary16, nameless in HDF5 1.10
Hdf5Handle hdf5_text_type();            ///< UTF-8 of any length
Hdf5Handle hdf5_bool_type();            ///< what h5py makes of a truth value

}  // namespace ultrasr
