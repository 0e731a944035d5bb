#include "data/weights/checkpoint.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/weights/legacy_pickle.h"
#include "data/weights/mapped_file.h"
#include "data/weights/pickle_tensors.h"
#include "data/weights/shown_name.h"
#include "data/weights/zip_archive.h"

namespace ultrasr {

struct Checkpoint::Contents {
    CheckpointFormat format = CheckpointFormat::safetensors;
    std::vector<TensorView> tensors;
    std::map<std::string_view, std::size_t> index;
    Json extras = Json::object();
    std::map<std::string, std::string> metadata;
    std::shared_ptr<const void> holder;
    std::deque<std::vector<std::byte>> copies;
};

namespace {

using Bytes = std::span<const std::byte>;

std::string_view text_of(Bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// ---- what a file is that is no checkpoint ----

struct Mistaken {
    std::string_view front;
    std::string_view sentence;
};
constexpr std::array mistaken_files{
    Mistaken{"version https://git-lfs",
             "it is a git-lfs pointer and not the file it stands for; "
             "fetch that with git lfs pull"},
    Mistaken{"\x93NUMPY",
             "it is a numpy array (.npy), which holds no names; save the network's "
             "state dict instead"},
    Mistaken{"PK\x05\x06", "it is an empty zip file; fetch it again"},
    Mistaken{"\x1f\x8b", "it is compressed with gzip; unpack it with gunzip"},
    Mistaken{"\x89HDF",
             "it is an HDF5 file (Keras?), which is not supported; take the PyTorch or "
             "safetensors version"},
    Mistaken{"GGUF", "it is a GGUF file, which is not supported; take the safetensors version"},
    Mistaken{"{",
             "it is a JSON text and no checkpoint; an error message was saved in its place, "
             "or a settings file was named"},
};

/// True for the beginning of HTML or XML.
bool is_web_page(std::string_view front) {
    const std::size_t first = front.find_first_not_of(" \t\r\n\xef\xbb\xbf");
    if (first == std::string_view::npos || front[first] != '<') return false;
    std::string word(front.substr(first, 9));
    std::transform(word.begin(), word.end(), word.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return word.starts_with("<!doctype") || word.starts_with("<html") ||
           word.starts_with("<head") || word.starts_with("<!--") || word.starts_with("<?xml");
}

/// A head's length that fits, and the brace that begins the head.
bool looks_like_safetensors(Bytes bytes) {
    return bytes.size() > 8 && bytes[8] == std::byte{'{'} && text_of(bytes)[0] != '{';
}

[[noreturn]] void fail_as_unknown(Bytes bytes) {
    require(!bytes.empty(), "it is empty; fetch it again");
    const std::string_view front = text_of(bytes.first(std::min<std::size_t>(bytes.size(), 1024)));
    require(!is_web_page(front),
            "it is a web page and no checkpoint: the download brought the page "
            "around the file; fetch it from the address of the file itself");
    for (const Mistaken& m : mistaken_files) {
        require(!front.starts_with(m.front), "{}", m.sentence);
    }
    require(!(bytes.size() >= 262 && front.substr(257, 5) == "ustar"),
            "it is a tar archive; unpack it");
    require(static_cast<unsigned char>(front[0]) != 0x80,
            "it is a Python pickle, but none that torch.save wrote; save it again with torch.save");
    std::string first;
    for (const char c : front.substr(0, 8)) {
        first += fmt::format(" {:02x}", static_cast<unsigned char>(c));
    }
    fail(Fault::input,
         "it is no checkpoint that we know (its first bytes:{}); safetensors, torch.save and "
         "TorchScript files are read",
         first);
}

// ---- zip ----

/// The folder inside that holds data.pkl, with its slash.
std::string find_prefix(const ZipArchive& zip) {
    constexpr std::string_view file = "data.pkl";
    std::optional<std::string> prefix;
    bool numpy = !zip.entries().empty();
    for (const auto& [name, entry] : zip.entries()) {
        numpy = numpy && name.ends_with(".npy");
        const bool named = name == file || name.ends_with("/data.pkl");
        if (!named || std::count(name.begin(), name.end(), '/') > 1) continue;
        require(!prefix, "the zip file has several data.pkl, so it is not from torch.save");
        prefix = std::string(name.substr(0, name.size() - file.size()));
    }
    require(!numpy, "it is a numpy archive (.npz); save the network's state dict instead");
    require(prefix.has_value(),
            "it is a zip file without data.pkl, so it is not from torch.save; if checkpoints are "
            "inside, unpack it");
    return *prefix;
}

void check_byte_order(const ZipArchive& zip, const std::string& prefix) {
    const std::string name = prefix + "byteorder";
    if (!zip.contains(name)) return;  // older than this entry
    const std::string_view order = text_of(zip.open(name));
    require(order == "little",
            "its byte order is '{}' and only little-endian files are read; load and save it again "
            "on another machine",
            shown_name(order));
}

void read_zip(Bytes bytes, Checkpoint::Contents& out) {
    const ZipArchive zip(bytes);
    const std::string prefix = find_prefix(zip);
    check_byte_order(zip, prefix);
    const auto code = zip.entries().lower_bound(prefix + "code/");
    const bool script = zip.contains(prefix + "constants.pkl") ||
                        (code != zip.entries().end() && code->first.starts_with(prefix + "code/"));
    out.format = script ? CheckpointFormat::torchscript : CheckpointFormat::zip_pickle;

    const Pickle pickle =
        while_doing("data.pkl", [&] { return read_pickle(zip.open(prefix + "data.pkl")); });
    std::map<std::string, Bytes> opened;  // so that a shared storage is checked once
    const auto storage = [&](const PickledStorage& s) {
        const auto [at, fresh] = opened.try_emplace(s.key);
        if (fresh) at->second = zip.open(prefix + "data/" + s.key);
        return at->second;
    };
    PickledTensors found = collect_tensors(pickle, storage, bytes.size());
    out.tensors = std::move(found.tensors);
    out.extras = std::move(found.extras);
    out.copies = std::move(found.copies);
}

// ---- legacy ----

void read_legacy(Bytes bytes, Checkpoint::Contents& out) {
    out.format = CheckpointFormat::legacy_pickle;
    const LegacyCheckpoint file = read_legacy_checkpoint(bytes);
    const auto storage = [&](const PickledStorage& s) {
        const auto found = file.storages.find(s.key);
        require(found != file.storages.end(), "its storage {} is not in the file; fetch it again",
                shown_name(s.key));
        return found->second;
    };
    PickledTensors found = collect_tensors(file.object, storage, bytes.size());
    out.tensors = std::move(found.tensors);
    out.extras = std::move(found.extras);
    out.copies = std::move(found.copies);
}

}  // namespace

std::string_view checkpoint_format_name(CheckpointFormat format) {
    switch (format) {
        case CheckpointFormat::safetensors:
            return "safetensors";
        case CheckpointFormat::zip_pickle:
            return "zip-pickle";
        case CheckpointFormat::legacy_pickle:
            return "legacy-pickle";
        case CheckpointFormat::torchscript:
            return "torchscript";
    }
    fail(Fault::internal, "a checkpoint format without a name");
}

CheckpointFormat Checkpoint::format() const { return contents_->format; }
const std::vector<TensorView>& Checkpoint::tensors() const { return contents_->tensors; }
const Json& Checkpoint::extras() const { return contents_->extras; }
const std::map<std::string, std::string>& Checkpoint::metadata() const {
    return contents_->metadata;
}
std::shared_ptr<const void> Checkpoint::holder() const { return contents_; }

const TensorView* Checkpoint::find(std::string_view name) const {
    const auto found = contents_->index.find(name);
    return found == contents_->index.end() ? nullptr : &contents_->tensors[found->second];
}

Checkpoint parse_checkpoint(Bytes bytes, std::string_view name,
                            std::shared_ptr<const void> holder) {
    auto out = std::make_shared<Checkpoint::Contents>();
    out->holder = holder;
    if (looks_like_safetensors(bytes)) {
        const SafetensorsFile file(bytes, name, std::move(holder));
        out->tensors = file.tensors();
        out->metadata = file.metadata();
    } else {
        while_doing(name, [&] {
            if (text_of(bytes).starts_with("PK\x03\x04")) return read_zip(bytes, *out);
            if (is_legacy_checkpoint(bytes)) return read_legacy(bytes, *out);
            fail_as_unknown(bytes);
        });
    }
    for (std::size_t i = 0; i < out->tensors.size(); ++i) {
        out->index.emplace(out->tensors[i].name, i);
    }
    return Checkpoint(std::move(out));
}

Checkpoint read_checkpoint(const std::filesystem::path& path) {
    MappedFile file = map_file(path);
    return parse_checkpoint(file.bytes, path.string(), std::move(file.holder));
}

}  // namespace ultrasr
