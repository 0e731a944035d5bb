#include "data/weights/convert.h"

#include <cmath>
#include <cstring>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "data/weights/half.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

template <class Number>
Number load(const std::byte* at) {
    Number value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

template <class Number>
void store(std::byte* at, Number value) {
    std::memcpy(at, &value, sizeof value);
}

/// Element by element: `get` reads a number, `put` writes it and returns what it then is.
template <class Get, class Put>
std::vector<std::byte> cast_all(const TensorView& tensor, std::size_t to_size, Converted& count,
                                Get get, Put put) {
    const std::size_t from_size = item_size(tensor.dtype);
    const std::size_t elements = tensor.bytes.size() / from_size;
    std::vector<std::byte> out(elements * to_size);
    for (std::size_t i = 0; i < elements; ++i) {
        const double before = get(tensor.bytes.data() + i * from_size);
        const double after = put(out.data() + i * to_size, before);
        if (!std::isfinite(before) || before == after) continue;
        ++(std::isinf(after) ? count.overflowed : count.rounded);
    }
    return out;
}

template <class Get>
std::vector<std::byte> cast_from(const TensorView& tensor, Dtype dtype, Converted& count, Get get) {
    const auto put_f32 = [](std::byte* to, double v) {
        const auto narrow = static_cast<float>(v);  // to nearest even
        store(to, narrow);
        return static_cast<double>(narrow);
    };
    const auto put_f16 = [](std::byte* to, double v) {
        const std::uint16_t bits = float16_bits(v);
        store(to, bits);
        return static_cast<double>(float16_value(bits));
    };
    const auto put_bf16 = [](std::byte* to, double v) {
        const std::uint16_t bits = bfloat16_bits(v);
        store(to, bits);
        return static_cast<double>(bfloat16_value(bits));
    };
    switch (dtype) {
        case Dtype::f32:
            return cast_all(tensor, 4, count, get, put_f32);
        case Dtype::f16:
            return cast_all(tensor, 2, count, get, put_f16);
        case Dtype::bf16:
            return cast_all(tensor, 2, count, get, put_bf16);
        default:
            fail(Fault::internal, "tensors are not cast to {}", dtype_name(dtype));
    }
}

}  // namespace

bool is_floating(Dtype dtype) {
    return dtype == Dtype::f64 || dtype == Dtype::f32 || dtype == Dtype::f16 ||
           dtype == Dtype::bf16;
}

std::vector<float> floats_of(const TensorView& tensor) {
    std::vector<float> values(tensor.bytes.size() / item_size(tensor.dtype));
    const auto take = [&](std::span<const std::byte> bytes) {
        if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    };
    Converted ignored;
    if (tensor.dtype == Dtype::f32) {
        take(tensor.bytes);
    } else {
        take(cast_tensor(tensor, Dtype::f32, ignored));
    }
    return values;
}

std::vector<std::byte> cast_tensor(const TensorView& tensor, Dtype dtype, Converted& count) {
    switch (tensor.dtype) {
        case Dtype::f64:
            return cast_from(tensor, dtype, count, load<double>);
        case Dtype::f32:
            return cast_from(tensor, dtype, count,
                             [](const std::byte* at) -> double { return load<float>(at); });
        case Dtype::f16:
            return cast_from(tensor, dtype, count, [](const std::byte* at) -> double {
                return float16_value(load<std::uint16_t>(at));
            });
        case Dtype::bf16:
            return cast_from(tensor, dtype, count, [](const std::byte* at) -> double {
                return bfloat16_value(load<std::uint16_t>(at));
            });
        default:
            fail(Fault::internal, "tensors of type {} are not cast", dtype_name(tensor.dtype));
    }
}

Converted convert_checkpoint(const ConvertOptions& options) {
    std::error_code ignored;
    if (fs::equivalent(options.from, options.to, ignored)) {
        fail(Fault::usage, "{} would be replaced by itself; name another file to write",
             options.to.string());
    }
    const Checkpoint source = read_checkpoint(options.from);
    require(!source.tensors().empty(), "{} holds no tensor", options.from.string());
    require(source.find("__metadata__") == nullptr,
            "{} has a tensor called __metadata__, a name that safetensors keeps for itself",
            options.from.string());
    Converted done;
    done.from = source.format();
    done.from_sha256 = sha256_of_file(options.from);
    done.tensors = source.tensors().size();

    // Say what has another floating-point type
    std::vector<TensorHead> heads;
    for (const TensorView& t : source.tensors()) {
        const bool cast = options.dtype && is_floating(t.dtype) && t.dtype != *options.dtype;
        heads.push_back({t.name, cast ? *options.dtype : t.dtype, t.shape});
        done.cast += cast;
    }

    // Say where it comes from
    std::map<std::string, std::string> metadata = source.metadata();
    metadata["source_file"] = options.from.filename().string();
    metadata["source_sha256"] = done.from_sha256;
    if (!source.extras().empty()) metadata["extras"] = dump_json_line(source.extras());
    const auto produce = [&](std::size_t i, const TakeBytes& take) {
        TensorView piece = source.tensors()[i];
        if (heads[i].dtype == piece.dtype) return take_in_pieces(piece.bytes, 1, take);
        take_in_pieces(piece.bytes, item_size(piece.dtype), [&](std::span<const std::byte> bytes) {
            piece.bytes = bytes;
            take(cast_tensor(piece, heads[i].dtype, done));
        });
    };
    stream_safetensors(options.to, heads, produce, metadata);
    done.to_sha256 = sha256_of_file(options.to);
    done.bytes = fs::file_size(options.to);
    return done;
}

}  // namespace ultrasr
