// The numbers in a TensorView, for tests.
#pragma once
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/weights/half.h"
#include "data/weights/safetensors.h"

namespace ultrasr::test {

inline std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

inline std::vector<double> values_of(const TensorView& tensor) {
    const std::size_t size = item_size(tensor.dtype);
    std::vector<double> values;
    for (std::size_t at = 0; at + size <= tensor.bytes.size(); at += size) {
        const auto get = [&](auto number) {
            std::memcpy(&number, tensor.bytes.data() + at, sizeof number);
            return number;
        };
        switch (tensor.dtype) {
            case Dtype::f64:
                values.push_back(get(0.0));
                break;
            case Dtype::f32:
                values.push_back(static_cast<double>(get(0.0f)));
                break;
            case Dtype::f16:
                values.push_back(static_cast<double>(float16_value(get(std::uint16_t{}))));
                break;
            case Dtype::bf16:
                values.push_back(static_cast<double>(bfloat16_value(get(std::uint16_t{}))));
                break;
            case Dtype::i64:
                values.push_back(static_cast<double>(get(std::int64_t{})));
                break;
            case Dtype::i32:
                values.push_back(get(std::int32_t{}));
                break;
            case Dtype::i16:
                values.push_back(get(std::int16_t{}));
                break;
            case Dtype::i8:
                values.push_back(get(std::int8_t{}));
                break;
            case Dtype::u8:
            case Dtype::boolean:
                values.push_back(get(std::uint8_t{}));
                break;
        }
    }
    return values;
}

}  // namespace ultrasr::test
