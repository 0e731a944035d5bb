#include "data/weights/pickle_storage.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "data/base/error.h"
#include "data/weights/shown_name.h"

namespace ultrasr {
namespace {

constexpr std::size_t max_rank = 64;
constexpr std::uint64_t least_copies = std::uint64_t{64} << 20;

struct NamedType {
    std::string_view storage, dtype;  // torch.FloatStorage, torch.float32
    Dtype meaning;
};
constexpr std::array known_types{
    NamedType{"DoubleStorage", "float64", Dtype::f64},
    NamedType{"FloatStorage", "float32", Dtype::f32},
    NamedType{"HalfStorage", "float16", Dtype::f16},
    NamedType{"BFloat16Storage", "bfloat16", Dtype::bf16},
    NamedType{"LongStorage", "int64", Dtype::i64},
    NamedType{"IntStorage", "int32", Dtype::i32},
    NamedType{"ShortStorage", "int16", Dtype::i16},
    NamedType{"CharStorage", "int8", Dtype::i8},
    NamedType{"ByteStorage", "uint8", Dtype::u8},
    NamedType{"BoolStorage", "bool", Dtype::boolean},
};

/// Storages that we do not read but can skip, with the bytes of an element.
constexpr std::array skipped_types{
    std::pair<std::string_view, std::size_t>{"torch.ComplexFloatStorage", 8},
    std::pair<std::string_view, std::size_t>{"torch.ComplexDoubleStorage", 16},
    std::pair<std::string_view, std::size_t>{"torch.QInt8Storage", 1},
    std::pair<std::string_view, std::size_t>{"torch.QUInt8Storage", 1},
    std::pair<std::string_view, std::size_t>{"torch.QInt32Storage", 4},
};

/// A number that counts something: not negative.
std::uint64_t count_of(const Pickle& pickle, PickleRef ref, std::string_view what) {
    const PickleNode& n = pickle[ref];
    require(n.kind == PickleKind::integer && n.integer >= 0, "{} is no whole number from 0 up",
            what);
    return static_cast<std::uint64_t>(n.integer);
}

std::vector<std::int64_t> counts_of(const Pickle& pickle, PickleRef ref, std::string_view what) {
    const PickleNode& n = pickle[ref];
    require(n.kind == PickleKind::tuple || n.kind == PickleKind::list, "its {} is no tuple", what);
    require(n.items.size() <= max_rank, "it has {} dimensions, at most {} are read", n.items.size(),
            max_rank);
    std::vector<std::int64_t> counts;
    for (const PickleRef item : n.items) {
        counts.push_back(static_cast<std::int64_t>(count_of(pickle, item, what)));
    }
    return counts;
}

/// The type behind torch.FloatStorage, torch.cuda.FloatStorage or torch.float32.
std::optional<Dtype> dtype_of(const Pickle& pickle, PickleRef ref) {
    for (const NamedType& type : known_types) {
        if (pickle.is_global(ref, "torch", type.storage) ||
            pickle.is_global(ref, "torch.cuda", type.storage) ||
            pickle.is_global(ref, "torch", type.dtype)) {
            return type.meaning;
        }
    }
    return std::nullopt;
}

/// Product of sizes and element size; empty beyond 63 bits. A zero does not hide the others.
std::optional<std::uint64_t> bytes_of(const std::vector<std::int64_t>& shape, std::size_t item) {
    constexpr std::uint64_t limit = (std::uint64_t{1} << 63) - 1;
    std::uint64_t product = item;
    bool none = false;
    for (const std::int64_t n : shape) {
        const auto size = static_cast<std::uint64_t>(n);
        none = none || size == 0;
        if (size > 0 && product > limit / size) return std::nullopt;
        if (size > 0) product *= size;
    }
    return none ? 0 : product;
}

/// Index of the last element that sizes and strides reach, counted from the first; empty beyond
/// 63 bits. No size is 0.
std::optional<std::uint64_t> reach(const std::vector<std::int64_t>& shape,
                                   const std::vector<std::int64_t>& stride) {
    constexpr std::uint64_t limit = (std::uint64_t{1} << 63) - 1;
    std::uint64_t last = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) {
        const auto steps = static_cast<std::uint64_t>(shape[d] - 1);
        const auto step = static_cast<std::uint64_t>(stride[d]);
        if (steps == 0 || step == 0) continue;
        if (steps > limit / step || last > limit - steps * step) return std::nullopt;
        last += steps * step;
    }
    return last;
}

bool is_contiguous(const std::vector<std::int64_t>& shape,
                   const std::vector<std::int64_t>& stride) {
    std::int64_t expected = 1;
    for (std::size_t d = shape.size(); d-- > 0;) {
        if (shape[d] != 1 && stride[d] != expected) return false;
        expected *= shape[d];
    }
    return true;
}

/// Copies elements in row-major order; everything was checked to lie inside.
void gather(const std::byte* from, const std::vector<std::int64_t>& shape,
            const std::vector<std::int64_t>& stride, std::size_t item, std::byte* to,
            const std::byte* end) {
    std::vector<std::int64_t> index(shape.size(), 0);
    const auto width = static_cast<std::int64_t>(item);
    for (; to != end; to += item) {
        std::memcpy(to, from, item);
        // Step to the next element like an odometer
        for (std::size_t d = shape.size(); d-- > 0;) {
            if (++index[d] < shape[d]) {
                from += stride[d] * width;
                break;
            }
            from -= (shape[d] - 1) * stride[d] * width;
            index[d] = 0;
        }
    }
}

}  // namespace

PickledStorage read_storage_id(const Pickle& pickle, PickleRef ref) {
    // Find the parts of the tuple
    const PickleNode& id = pickle[pickle[ref].items[0]];
    require(id.kind == PickleKind::tuple && (id.items.size() == 5 || id.items.size() == 6) &&
                pickle[id.items[0]].kind == PickleKind::text &&
                pickle[id.items[0]].text == "storage",
            "it refers to something that is no storage");
    PickledStorage storage;

    // Its type
    storage.typed = !pickle.is_global(id.items[1], "torch.storage", "UntypedStorage") &&
                    !pickle.is_global(id.items[1], "torch", "UntypedStorage");
    storage.type = pickle.global_name(id.items[1]);
    if (storage.typed) storage.dtype = dtype_of(pickle, id.items[1]);
    storage.unit = !storage.typed ? 1 : storage.dtype ? item_size(*storage.dtype) : 0;
    for (const auto& [type, unit] : skipped_types) {
        if (storage.type == type) storage.unit = unit;
    }

    // Its key and its length
    const PickleNode& key = pickle[id.items[2]];
    require(key.kind == PickleKind::text || key.kind == PickleKind::integer,
            "its storage has a key that is no text");
    storage.key =
        key.kind == PickleKind::text ? std::string(key.text) : fmt::format("{}", key.integer);
    storage.count = count_of(pickle, id.items[4], "the length of its storage");
    storage.view_count = storage.count;

    // Old files can mean a part of it: (key of the view, offset, count)
    if (id.items.size() == 6 && pickle[id.items[5]].kind != PickleKind::none) {
        const PickleNode& view = pickle[id.items[5]];
        require(view.kind == PickleKind::tuple && view.items.size() == 3,
                "the view of its storage makes no sense");
        storage.view_offset = count_of(pickle, view.items[1], "the offset of its storage's view");
        storage.view_count = count_of(pickle, view.items[2], "the length of its storage's view");
        require(storage.view_offset <= storage.count &&
                    storage.view_count <= storage.count - storage.view_offset,
                "the view of its storage is larger than the storage");
    }
    return storage;
}

TensorCopies::TensorCopies(std::uint64_t file_size)
    : left_(std::max(least_copies, file_size < (std::uint64_t{1} << 58) ? file_size * 16 : 0)) {}

std::vector<std::byte>& TensorCopies::add(std::uint64_t bytes) {
    require(bytes <= left_,
            "it is not contiguous and its copy of {} bytes would be far larger than the file",
            bytes);
    left_ -= bytes;
    return made_.emplace_back(bytes);
}

TensorView read_tensor(const Pickle& pickle, PickleRef ref, const StorageBytes& storages,
                       TensorCopies& copies) {
    // Only the plain kind has storage, offset, sizes and strides
    const PickleNode& n = pickle[ref];
    const bool version3 = pickle.is_global(n.type, "torch._utils", "_rebuild_tensor_v3");
    require(version3 || pickle.is_global(n.type, "torch._utils", "_rebuild_tensor") ||
                pickle.is_global(n.type, "torch._utils", "_rebuild_tensor_v2"),
            "it is made by {} (a sparse, quantized or otherwise special tensor), which is not "
            "supported",
            shown_name(pickle.global_name(n.type)));
    require(
        n.items.size() >= (version3 ? 7u : 4u) && pickle[n.items[0]].kind == PickleKind::persistent,
        "it has no storage");
    const PickledStorage storage = read_storage_id(pickle, n.items[0]);
    const std::uint64_t offset = count_of(pickle, n.items[1], "its offset");
    require(!storage.typed || storage.dtype, "it is of the type {}, which is not supported",
            shown_name(storage.type));
    TensorView tensor;
    tensor.dtype = storage.dtype.value_or(Dtype::u8);
    tensor.shape = counts_of(pickle, n.items[2], "size");
    const std::vector<std::int64_t> stride = counts_of(pickle, n.items[3], "stride");
    require(stride.size() == tensor.shape.size(), "it has {} sizes and {} strides",
            tensor.shape.size(), stride.size());

    // Version 3 writes the type beside an untyped storage
    if (version3) {
        const auto dtype = dtype_of(pickle, n.items[6]);
        require(dtype.has_value(), "it is of the type {}, which is not supported",
                shown_name(pickle.global_name(n.items[6])));
        require(!storage.typed || dtype == storage.dtype, "it has two different types");
        tensor.dtype = *dtype;
    }
    require(storage.typed || version3, "it lies in a storage without a type");
    const std::size_t item = item_size(tensor.dtype);
    const auto needed = bytes_of(tensor.shape, item);
    require(needed.has_value(), "its shape has more elements than memory");

    // The part of the storage that is meant, in bytes
    const std::span<const std::byte> all = storages(storage);
    require(storage.count <= all.size() / storage.unit,
            "its storage has {} bytes instead of {} elements; fetch the file again", all.size(),
            storage.count);
    const std::span<const std::byte> part =
        all.subspan(storage.view_offset * storage.unit, storage.view_count * storage.unit);
    if (*needed == 0) return tensor;

    // Its elements lie inside
    const auto last = reach(tensor.shape, stride);
    const std::uint64_t elements = part.size() / item;
    require(last && offset < elements && *last < elements - offset,
            "it reaches beyond the {} elements of its storage", elements);
    const std::span<const std::byte> from = part.subspan(offset * item);
    if (is_contiguous(tensor.shape, stride)) {
        tensor.bytes = from.first(*needed);
        return tensor;
    }
    std::vector<std::byte>& copy = copies.add(*needed);
    gather(from.data(), tensor.shape, stride, item, copy.data(), copy.data() + copy.size());
    tensor.bytes = copy;
    return tensor;
}

}  // namespace ultrasr
