// JSON as typed HDF5 attributes and back.
#pragma once
#include <optional>
#include <string>
#include <nlohmann/json_fwd.hpp>

#include "data/base/json.h"
#include "data/hdf5_handle.h"

namespace ultrasr {

/// Writes a value: numbers, texts, truth values, nulls and rectangular lists of them (up to two
/// deep) as one attribute; an object or another list as several, named "NAME.KEY". Under
/// enter_hdf5().
/// throws  Hdf5Failure
void put_attribute(hid_t place, const std::string& name, const Json& value);

/// Writes each value of an object under its key. throws Hdf5Failure
void put_attributes(hid_t place, const Json& object);

/// One attribute; nothing when it is missing or of a type that put_attribute does not write.
std::optional<Json> attribute_value(hid_t place, const std::string& name);

/// All attributes of a file, group or dataset, by name.
Json attributes_of(hid_t place);

}  // namespace ultrasr
