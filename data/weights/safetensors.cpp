#include "data/weights/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/json.h"
#include "data/file.h"
#include "data/weights/mapped_file.h"
#include "data/weights/shown_name.h"

namespace ultrasr {
namespace fs = std::filesystem;
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr std::uint64_t max_header = 100'000'000;  // the reference reader's limit
constexpr std::size_t prefix = 8;                  // the header's length, u64
constexpr std::string_view metadata_key = "__metadata__";

struct DtypeEntry {
    Dtype dtype;
    std::string_view name;
    std::size_t size;
};
constexpr std::array dtypes{
    DtypeEntry{Dtype::f64, "F64", 8}, DtypeEntry{Dtype::f32, "F32", 4},
    DtypeEntry{Dtype::f16, "F16", 2}, DtypeEntry{Dtype::bf16, "BF16", 2},
    DtypeEntry{Dtype::i64, "I64", 8}, DtypeEntry{Dtype::i32, "I32", 4},
    DtypeEntry{Dtype::i16, "I16", 2}, DtypeEntry{Dtype::i8, "I8", 1},
    DtypeEntry{Dtype::u8, "U8", 1},   DtypeEntry{Dtype::boolean, "BOOL", 1},
};

const DtypeEntry& entry_of(Dtype dtype) {
    return *std::find_if(dtypes.begin(), dtypes.end(),
                         [&](const DtypeEntry& e) { return e.dtype == dtype; });
}

/// What the head says about one tensor, unchecked.
struct HeadEntry {
    std::string name;
    std::optional<std::string> dtype;
    std::optional<std::vector<std::uint64_t>> shape;
    std::optional<std::vector<std::uint64_t>> offsets;
};

/// Receives the head's JSON piece by piece and accepts the format's few forms only. Every callback
/// returns false to stop; `fault` then says why.
class HeadReader : public nlohmann::json_sax<nlohmann::json> {
  public:
    std::vector<HeadEntry> entries;
    std::map<std::string, std::string> metadata;
    std::string fault;

    bool start_object(std::size_t) override {
        switch (level_) {
            case Level::outside:
                level_ = Level::head;
                return true;
            case Level::head:
                level_ = in_metadata_ ? Level::metadata : Level::tensor;
                return true;
            default:
                return unexpected("an object");
        }
    }

    bool key(std::string& name) override {
        if (level_ == Level::head) {
            if (!names_.insert(name).second)
                return stop("the name {} occurs twice", shown_name(name));
            in_metadata_ = name == metadata_key;
            if (!in_metadata_)
                entries.push_back({.name = name, .dtype = {}, .shape = {}, .offsets = {}});
            return true;
        }
        key_ = name;
        if (level_ == Level::metadata) {
            return metadata.emplace(name, "").second ||
                   stop("the metadata key {} occurs twice", shown_name(name));
        }
        const HeadEntry& e = entries.back();
        const bool known = key_ == "dtype" || key_ == "shape" || key_ == "data_offsets";
        if (!known) return stop("tensor {}: unknown key {}", shown_name(e.name), shown_name(name));
        const bool again = (key_ == "dtype" && e.dtype) || (key_ == "shape" && e.shape) ||
                           (key_ == "data_offsets" && e.offsets);
        return !again || stop("tensor {}: the key {} occurs twice", shown_name(e.name), name);
    }

    bool end_object() override {
        if (level_ == Level::tensor) {
            const HeadEntry& e = entries.back();
            if (!e.dtype || !e.shape || !e.offsets) {
                return stop("tensor {}: {} is missing", shown_name(e.name),
                            !e.dtype   ? "dtype"
                            : !e.shape ? "shape"
                                       : "data_offsets");
            }
        }
        level_ = level_ == Level::head ? Level::outside : Level::head;
        return true;
    }

    bool start_array(std::size_t) override {
        if (level_ != Level::tensor || key_ == "dtype") return unexpected("an array");
        level_ = Level::numbers;
        numbers_.clear();
        return true;
    }

    bool end_array() override {
        level_ = Level::tensor;
        (key_ == "shape" ? entries.back().shape : entries.back().offsets) = numbers_;
        return true;
    }

    bool number_unsigned(std::uint64_t value) override {
        if (level_ != Level::numbers) return unexpected("a number");
        numbers_.push_back(value);
        return true;
    }

    bool string(std::string& value) override {
        if (level_ == Level::metadata) {
            metadata[key_] = value;
            return true;
        }
        if (level_ != Level::tensor || key_ != "dtype") return unexpected("a string");
        entries.back().dtype = value;
        return true;
    }

    bool number_integer(std::int64_t) override { return unexpected("a negative number"); }
    bool number_float(double, const std::string&) override {
        return unexpected("a number that is not a whole one below 2^64");
    }
    bool null() override { return unexpected("null"); }
    bool boolean(bool) override { return unexpected("a truth value"); }
    bool binary(nlohmann::json::binary_t&) override { return unexpected("binary data"); }
    bool parse_error(std::size_t position, const std::string&,
                     const nlohmann::detail::exception&) override {
        return stop("the head is not JSON at its byte {}", position);
    }

  private:
    enum class Level { outside, head, metadata, tensor, numbers };

    template <class... Args>
    bool stop(fmt::format_string<Args...> format, Args&&... args) {
        fault = fmt::format(format, std::forward<Args>(args)...);
        return false;
    }

    bool unexpected(std::string_view what) {
        switch (level_) {
            case Level::outside:
                return stop("the head is {} and not an object", what);
            case Level::head:
                return stop(
                    "{} is {} and not an object",
                    in_metadata_ ? std::string(metadata_key) : shown_name(entries.back().name),
                    what);
            case Level::metadata:
                return stop("metadata {} is {} and not a string", shown_name(key_), what);
            default:
                return stop("tensor {}: {} holds {}", shown_name(entries.back().name), key_, what);
        }
    }

    Level level_ = Level::outside;
    bool in_metadata_ = false;
    std::string key_;
    std::set<std::string> names_;
    std::vector<std::uint64_t> numbers_;
};

/// Product of the shape and the element's size; empty when it leaves 63 bits.
std::optional<std::uint64_t> bytes_needed(const std::vector<std::uint64_t>& shape,
                                          std::size_t item) {
    constexpr std::uint64_t limit = std::uint64_t{1} << 63;
    std::uint64_t product = item;
    bool none = false;
    for (const std::uint64_t n : shape) {
        if (n >= limit) return std::nullopt;
        if (n == 0) {
            none = true;
        } else if (product > (limit - 1) / n) {
            return std::nullopt;  // also beside a zero: other readers multiply in order
        } else {
            product *= n;
        }
    }
    return none ? 0 : product;
}

}  // namespace

std::size_t item_size(Dtype dtype) { return entry_of(dtype).size; }
std::string_view dtype_name(Dtype dtype) { return entry_of(dtype).name; }

SafetensorsFile::SafetensorsFile(const fs::path& path) : path_(path) {
    const MappedFile file = map_file(path);
    map_ = file.holder;
    parse(file.bytes);
}

SafetensorsFile::SafetensorsFile(std::span<const std::byte> bytes, std::string_view name,
                                 std::shared_ptr<const void> holder)
    : path_(name), map_(std::move(holder)) {
    parse(bytes);
}

void SafetensorsFile::parse(std::span<const std::byte> bytes) {
    const std::byte* base = bytes.data();
    const std::string file = path_.string();
    require(bytes.size() >= prefix, "{} is not a safetensors file: it has {} bytes; fetch it again",
            file, bytes.size());

    // Find the head
    std::uint64_t length = 0;
    std::memcpy(&length, base, prefix);
    require(length <= max_header && length <= bytes.size() - prefix && length >= 2,
            "{} is not a safetensors file or cut short: its head would have {} bytes, the file has "
            "{}; fetch it again",
            file, length, bytes.size());
    const char* head = reinterpret_cast<const char*>(base) + prefix;
    require(*head == '{',
            "{} is not a safetensors file: its head does not begin with a brace; "
            "fetch it again",
            file);

    // Read it
    HeadReader reader;
    const bool read = nlohmann::json::sax_parse(head, head + length, &reader,
                                                nlohmann::json::input_format_t::json,
                                                /*strict=*/true, /*ignore_comments=*/false);
    require(read, "{} is a broken safetensors file: {}", file,
            reader.fault.empty() ? "the head is not JSON" : reader.fault);
    metadata_ = std::move(reader.metadata);

    // Check each tensor by itself
    const std::span<const std::byte> data(base + prefix + length, bytes.size() - prefix - length);
    for (HeadEntry& e : reader.entries) {
        const auto dtype = std::find_if(dtypes.begin(), dtypes.end(),
                                        [&](const DtypeEntry& d) { return d.name == *e.dtype; });
        require(dtype != dtypes.end(), "{}: tensor {} has the type {}, which is not supported",
                file, shown_name(e.name), shown_name(*e.dtype));
        require(e.offsets->size() == 2, "{}: tensor {} has {} data_offsets instead of 2", file,
                shown_name(e.name), e.offsets->size());
        const auto needed = bytes_needed(*e.shape, dtype->size);
        require(needed.has_value(), "{}: the shape of tensor {} has more elements than memory",
                file, shown_name(e.name));
        const std::uint64_t begin = (*e.offsets)[0];
        const std::uint64_t end = (*e.offsets)[1];
        require(begin <= end, "{}: tensor {} ends before it begins", file, shown_name(e.name));
        require(end <= data.size(),
                "{} is cut short: tensor {} ends at byte {} of {}; fetch it again", file,
                shown_name(e.name), end, data.size());
        require(end - begin == *needed, "{}: tensor {} takes {} bytes, its shape and type need {}",
                file, shown_name(e.name), end - begin, *needed);
        tensors_.push_back({std::move(e.name), dtype->dtype,
                            std::vector<std::int64_t>(e.shape->begin(), e.shape->end()),
                            data.subspan(begin, end - begin)});
    }

    // Check that together they cover the data exactly once
    std::stable_sort(tensors_.begin(), tensors_.end(),
                     [](const TensorView& a, const TensorView& b) {
                         return std::pair(a.bytes.data(), a.bytes.size()) <
                                std::pair(b.bytes.data(), b.bytes.size());
                     });
    const std::byte* at = data.data();
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
        const TensorView& t = tensors_[i];
        require(t.bytes.data() >= at, "{}: tensor {} overlaps another one", file,
                shown_name(t.name));
        require(t.bytes.data() == at, "{}: {} bytes before tensor {} belong to no tensor", file,
                t.bytes.data() - at, shown_name(t.name));
        at += t.bytes.size();
        index_.emplace(t.name, i);
    }
    require(at == data.data() + data.size(), "{}: {} bytes at its end belong to no tensor", file,
            data.data() + data.size() - at);
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &tensors_[found->second];
}

void stream_safetensors(const fs::path& path, std::span<const TensorHead> tensors,
                        const std::function<void(std::size_t i, const TakeBytes& take)>& produce,
                        const std::map<std::string, std::string>& metadata) {
    // Order by element size, then name
    std::vector<std::size_t> order(tensors.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        const TensorHead &s = tensors[a], &t = tensors[b];
        return std::pair(item_size(t.dtype), std::string_view(s.name)) <
               std::pair(item_size(s.dtype), std::string_view(t.name));
    });

    // Describe the tensors
    const auto misfit = [&](const TensorHead& t) {
        fail(Fault::internal, "tensor {} for {} repeats a name or does not fit its shape",
             shown_name(t.name), path.string());
    };
    Json head = Json::object();
    std::set<std::string_view> names{metadata_key};  // a search in `head` itself is linear
    if (!metadata.empty()) head[std::string(metadata_key)] = metadata;
    std::uint64_t at = 0;
    std::vector<std::uint64_t> ends;
    for (const std::size_t i : order) {
        const TensorHead& t = tensors[i];
        std::vector<std::uint64_t> shape(t.shape.begin(), t.shape.end());
        const auto needed = bytes_needed(shape, item_size(t.dtype));
        if (!needed || !names.insert(t.name).second) misfit(t);
        head[t.name] = {{"dtype", dtype_name(t.dtype)},
                        {"shape", std::move(shape)},
                        {"data_offsets", {at, at + *needed}}};
        ends.push_back(at += *needed);
    }
    std::string text = head.dump();
    text.resize((text.size() + prefix - 1) / prefix * prefix, ' ');

    // Write head and data
    OutputFile file(path);
    const std::uint64_t length = text.size();
    file.append({reinterpret_cast<const char*>(&length), prefix});
    file.append(text);
    at = 0;
    for (std::size_t k = 0; k < order.size(); ++k) {
        produce(order[k], [&](std::span<const std::byte> bytes) {
            at += bytes.size();
            file.append({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        });
        if (at != ends[k]) misfit(tensors[order[k]]);
    }
    file.finish();
}

void write_safetensors(const fs::path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata) {
    std::vector<TensorHead> heads;
    for (const TensorView& t : tensors) heads.push_back({t.name, t.dtype, t.shape});
    stream_safetensors(
        path, heads,
        [&](std::size_t i, const TakeBytes& take) { take_in_pieces(tensors[i].bytes, 1, take); },
        metadata);
}

void take_in_pieces(std::span<const std::byte> bytes, std::size_t item, const TakeBytes& take) {
    const std::size_t most = (std::size_t{1} << 22) / item * item;
    while (!bytes.empty()) {
        const auto piece = bytes.first(std::min(most, bytes.size()));
        take(piece);
        give_back_pages(piece);
        bytes = bytes.subspan(piece.size());
    }
}

}  // namespace ultrasr
