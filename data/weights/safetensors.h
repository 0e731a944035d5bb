// The safetensors container: named arrays behind a JSON head, read without copying.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ultrasr {

/// Element types that we read. The 8-bit floats of the format are refused.
enum class Dtype { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };

/// Bytes of one element.
std::size_t item_size(Dtype dtype);

/// The format's own word: F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL.
std::string_view dtype_name(Dtype dtype);

/// One array. `bytes` is row-major, little-endian, possibly not aligned to the element's size.
struct TensorView {
    std::string name;
    Dtype dtype = Dtype::f32;
    std::vector<std::int64_t> shape;  ///< empty: one element; a 0 in it: none
    std::span<const std::byte> bytes;
};

/// A file mapped read-only; the views point into the map. Whoever shortens the file while it is
/// mapped kills the program, so files are replaced by rename only.
class SafetensorsFile {
  public:
    /// Maps the file and checks all of its head: length at most 100 MB and inside the file, strict
    /// JSON without repeated keys, known types, sizes that equal shape times element size (without
    /// overflow), data inside the file and covering it exactly, without overlap, hole or tail.
    ///
    /// throws Error(input) that names the file, and the tensor where one is at fault
    /// Source: huggingface/safetensors, README "Format"; one_step_models.md 5.1.
    explicit SafetensorsFile(const std::filesystem::path& path);

    /// The same for bytes in memory, which live as long as the views, or as `holder` holds them.
    ///
    /// name  what they are, for messages; path() gives it too
    SafetensorsFile(std::span<const std::byte> bytes, std::string_view name,
                    std::shared_ptr<const void> holder = {});

    const std::filesystem::path& path() const { return path_; }

    /// In the order of their bytes in the file.
    const std::vector<TensorView>& tensors() const { return tensors_; }

    /// The tensor of that name, or null.
    const TensorView* find(std::string_view name) const;

    /// The free text pairs of `__metadata__`.
    const std::map<std::string, std::string>& metadata() const { return metadata_; }

    /// Holds the map alive for views that outlive this object.
    std::shared_ptr<const void> map() const { return map_; }

  private:
    void parse(std::span<const std::byte> bytes);

    std::filesystem::path path_;
    std::shared_ptr<const void> map_;
    std::vector<TensorView> tensors_;
    std::map<std::string, std::size_t, std::less<>> index_;
    std::map<std::string, std::string> metadata_;
};

/// A tensor that is yet to be written.
struct TensorHead {
    std::string name;
    Dtype dtype = Dtype::f32;
    std::vector<std::int64_t> shape;
};

/// Receives a tensor's bytes, row-major and little-endian, in pieces of any size.
using TakeBytes = std::function<void(std::span<const std::byte>)>;

/// Writes a file that SafetensorsFile reads, by temporary file and rename. Tensors are ordered by
/// falling element size, then name, so that all of them are aligned; same input, same bytes. None
/// of them need be in memory as a whole.
///
/// produce  called for each place in `tensors`, in the order of the file; hands over all its bytes
/// throws   Error(storage); Error(internal) when a name repeats or bytes do not fit the shape; what
///          `produce` throws. Nothing is left behind then.
void stream_safetensors(const std::filesystem::path& path, std::span<const TensorHead> tensors,
                        const std::function<void(std::size_t i, const TakeBytes& take)>& produce,
                        const std::map<std::string, std::string>& metadata = {});

/// The same for tensors that are there. Pages of mapped files are given back once written.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// Hands bytes over in pieces of some megabytes and gives pages of mapped files back behind it.
///
/// item  no element is cut: its size
void take_in_pieces(std::span<const std::byte> bytes, std::size_t item, const TakeBytes& take);

}  // namespace ultrasr
