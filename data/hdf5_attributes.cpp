#include "data/hdf5_attributes.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>
#include <nlohmann/json.hpp>

namespace ultrasr {
namespace {

constexpr std::size_t max_values = std::size_t{1} << 24;  // an attribute that claims more is a lie

void write_attribute(hid_t place, const std::string& name, hid_t type, hid_t memory_type,
                     const std::vector<hsize_t>& dims, const void* values) {
    const Hdf5Handle space(
        dims.empty() ? H5Screate(H5S_SCALAR)
                     : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr),
        H5Sclose);
    const Hdf5Handle attribute(
        H5Acreate2(place, name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
    check_hdf5(attribute.get());
    const bool empty = std::find(dims.begin(), dims.end(), 0U) != dims.end();
    if (!empty) check_hdf5(H5Awrite(attribute.get(), memory_type, values));
}

void put_null(hid_t place, const std::string& name) {
    const Hdf5Handle space(H5Screate(H5S_NULL), H5Sclose);
    const Hdf5Handle attribute(
        H5Acreate2(place, name.c_str(), H5T_IEEE_F64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT),
        H5Aclose);
    check_hdf5(attribute.get());
}

/// Values that have one type and, taken as nested lists, one shape; empty `dims` = one value.
void put_values(hid_t place, const std::string& name, const std::vector<const Json*>& values,
                const std::vector<hsize_t>& dims) {
    const auto all = [&](auto&& is) {
        return std::all_of(values.begin(), values.end(), [&](const Json* v) { return is(*v); });
    };
    if (!values.empty() && all([](const Json& v) { return v.is_string(); })) {
        std::vector<const char*> texts;
        for (const Json* v : values) {
            texts.push_back(v->get_ref<const std::string&>().c_str());
        }
        const Hdf5Handle type = hdf5_text_type();
        write_attribute(place, name, type.get(), type.get(), dims, texts.data());
    } else if (!values.empty() && all([](const Json& v) { return v.is_boolean(); })) {
        std::vector<std::int8_t> flags;
        for (const Json* v : values) flags.push_back(v->get<bool>());
        const Hdf5Handle type = hdf5_bool_type();
        write_attribute(place, name, type.get(), type.get(), dims, flags.data());
    } else if (!values.empty() && all([](const Json& v) { return v.is_number_integer(); })) {
        std::vector<std::int64_t> numbers;
        for (const Json* v : values) numbers.push_back(v->get<std::int64_t>());
        write_attribute(place, name, H5T_STD_I64LE, H5T_NATIVE_INT64, dims, numbers.data());
    } else {
        std::vector<double> numbers;
        for (const Json* v : values) numbers.push_back(v->get<double>());
        write_attribute(place, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, dims, numbers.data());
    }
}

/// The values of a list of equal things, or of lists of one length of them; else nothing.
std::optional<std::vector<hsize_t>> shape_of(const Json& list, std::vector<const Json*>& values) {
    const auto kind = [](const Json& v) {
        return v.is_number() ? 1 : v.is_string() ? 2 : v.is_boolean() ? 3 : 0;
    };
    std::vector<hsize_t> dims{list.size()};
    const bool nested = !list.empty() && list.front().is_array();
    if (nested) dims.push_back(list.front().size());
    for (const Json& item : list) {
        if (item.is_array() != nested) return std::nullopt;
        if (nested && item.size() != dims[1]) return std::nullopt;
        if (nested) {
            for (const Json& value : item) values.push_back(&value);
        } else {
            values.push_back(&item);
        }
    }
    for (const Json* value : values) {
        if (kind(*value) == 0 || kind(*value) != kind(*values.front())) return std::nullopt;
    }
    return dims;
}

void put_below(hid_t place, const std::string& prefix, const Json& container) {
    std::size_t index = 0;
    for (const auto& [key, value] : container.items()) {
        const std::string name = container.is_array() ? std::to_string(index++) : key;
        put_attribute(place, prefix + name, value);
    }
}

}  // namespace

void put_attribute(hid_t place, const std::string& name, const Json& value) {
    if (value.is_null()) {
        put_null(place, name);
    } else if (value.is_primitive()) {
        put_values(place, name, {&value}, {});
    } else {
        std::vector<const Json*> values;
        const auto dims = value.is_array() ? shape_of(value, values) : std::nullopt;
        if (dims) {
            put_values(place, name, values, *dims);
        } else {
            put_below(place, name + ".", value);
        }
    }
}

void put_attributes(hid_t place, const Json& object) { put_below(place, "", object); }

std::optional<Json> attribute_value(hid_t place, const std::string& name) {
    const Hdf5Handle attribute(H5Aopen(place, name.c_str(), H5P_DEFAULT), H5Aclose);
    if (!attribute.ok()) return std::nullopt;
    const Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
    const Hdf5Handle space(H5Aget_space(attribute.get()), H5Sclose);
    if (H5Sget_simple_extent_type(space.get()) == H5S_NULL) return Json(nullptr);
    std::array<hsize_t, H5S_MAX_RANK> dims{};
    const int rank = H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr);
    const auto n =
        static_cast<std::size_t>(std::max<hssize_t>(0, H5Sget_simple_extent_npoints(space.get())));
    if (rank < 0 || rank > 2 || n > max_values) return std::nullopt;

    // Read the values in a row
    std::vector<Json> values;
    const H5T_class_t kind = H5Tget_class(type.get());
    const auto read = [&](auto&& buffer, hid_t memory_type) {
        if (n == 0) return true;
        return H5Aread(attribute.get(), memory_type, buffer.data()) >= 0;
    };
    if (kind == H5T_STRING && H5Tis_variable_str(type.get()) > 0) {
        std::vector<char*> texts(n, nullptr);
        const Hdf5Handle memory_type = hdf5_text_type();
        H5Tset_cset(memory_type.get(), H5Tget_cset(type.get()));
        if (!read(texts, memory_type.get())) return std::nullopt;
        for (const char* text : texts) values.emplace_back(text ? text : "");
        if (n > 0) H5Dvlen_reclaim(memory_type.get(), space.get(), H5P_DEFAULT, texts.data());
    } else if (kind == H5T_STRING) {
        const std::size_t size = H5Tget_size(type.get());
        std::string texts(n * size, '\0');
        if (!read(texts, type.get())) return std::nullopt;
        for (std::size_t i = 0; i < n; ++i) {
            values.emplace_back(std::string(texts.substr(i * size, size).c_str()));
        }
    } else if (kind == H5T_ENUM) {
        std::vector<std::int8_t> flags(n);
        const Hdf5Handle memory_type = hdf5_bool_type();
        if (!read(flags, memory_type.get())) return std::nullopt;
        for (const std::int8_t flag : flags) values.emplace_back(flag != 0);
    } else if (kind == H5T_INTEGER) {
        std::vector<std::int64_t> numbers(n);
        if (!read(numbers, H5T_NATIVE_INT64)) return std::nullopt;
        values.assign(numbers.begin(), numbers.end());
    } else if (kind == H5T_FLOAT) {
        std::vector<double> numbers(n);
        if (!read(numbers, H5T_NATIVE_DOUBLE)) return std::nullopt;
        values.assign(numbers.begin(), numbers.end());
    } else {
        return std::nullopt;
    }

    // Put them into their shape
    if (rank == 0) return values.front();
    if (rank == 1) return Json(values);
    Json lists = Json::array();
    for (std::size_t i = 0; i < dims[0]; ++i) {
        const auto first = values.begin() + static_cast<std::ptrdiff_t>(i * dims[1]);
        lists.push_back(
            Json(std::vector<Json>(first, first + static_cast<std::ptrdiff_t>(dims[1]))));
    }
    return lists;
}

Json attributes_of(hid_t place) {
    std::vector<std::string> names;
    const auto visit = [](hid_t, const char* name, const H5A_info_t*, void* to) -> herr_t {
        static_cast<std::vector<std::string>*>(to)->emplace_back(name);
        return 0;
    };
    H5Aiterate2(place, H5_INDEX_NAME, H5_ITER_INC, nullptr, visit, &names);
    std::sort(names.begin(), names.end());
    Json all = Json::object();
    for (const std::string& name : names) {
        if (auto value = attribute_value(place, name)) all[name] = std::move(*value);
    }
    return all;
}

}  // namespace ultrasr
