#include "data/weights/legacy_pickle.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "data/base/error.h"
#include "data/weights/pickle_storage.h"
#include "data/weights/shown_name.h"

namespace ultrasr {
namespace {

// 0x1950a86a20f9469cfc6c as LONG1 (protocol 2) and as LONG (protocol 1) write it
constexpr std::string_view magic_bytes = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr std::string_view magic_digits = "119547037146038801333356";
constexpr std::int64_t known_protocol = 1001;

/// Takes one pickle off the front.
Pickle take_pickle(std::span<const std::byte>& rest, std::string_view what) {
    return while_doing(what, [&] {
        Pickle pickle = read_pickle(rest);
        rest = rest.subspan(pickle.size);
        return pickle;
    });
}

bool is_magic(const Pickle& pickle) {
    const PickleNode& n = pickle[pickle.root];
    return n.kind == PickleKind::huge && (n.text == magic_bytes || n.text == magic_digits);
}

/// The key "little_endian" of the system information must not be False.
void check_byte_order(const Pickle& system) {
    const PickleNode& n = system[system.root];
    if (n.kind != PickleKind::dict) return;
    for (std::size_t i = 0; i + 1 < n.items.size(); i += 2) {
        const PickleNode& key = system[n.items[i]];
        const PickleNode& value = system[n.items[i + 1]];
        require(!(key.kind == PickleKind::text && key.text == "little_endian" &&
                  value.kind == PickleKind::boolean && value.integer == 0),
                "it was saved on a big-endian machine, which is not supported; load and save it "
                "again on another one");
    }
}

/// Bytes of one element and count, by key, as the object's persistent ids have them.
struct Described {
    std::size_t unit = 0;
    std::uint64_t count = 0;
};
std::map<std::string, Described> described_storages(const Pickle& object) {
    std::map<std::string, Described> found;
    for (PickleRef ref = 0; ref < object.nodes.size(); ++ref) {
        if (object[ref].kind != PickleKind::persistent) continue;
        const PickledStorage storage = read_storage_id(object, ref);
        require(storage.unit > 0, "the storage {} is of the type {}, which is not supported",
                shown_name(storage.key), shown_name(storage.type));
        const Described now{storage.unit, storage.count};
        const Described& first = found.emplace(storage.key, now).first->second;
        require(first.unit == now.unit && first.count == now.count,
                "the storage {} is described in two ways", shown_name(storage.key));
    }
    return found;
}

}  // namespace

bool is_legacy_checkpoint(std::span<const std::byte> bytes) {
    const std::string_view front(reinterpret_cast<const char*>(bytes.data()),
                                 std::min<std::size_t>(bytes.size(), 64));
    return front.starts_with(fmt::format("\x80\x02\x8a\x0a{}.", magic_bytes)) ||
           front.starts_with(fmt::format("L{}L\n.", magic_digits));
}

LegacyCheckpoint read_legacy_checkpoint(std::span<const std::byte> bytes) {
    // Read the pickles in front
    std::span<const std::byte> rest = bytes;
    require(is_magic(take_pickle(rest, "magic number")),
            "it is a pickle, but its magic number is not that of torch.save");
    const Pickle protocol = take_pickle(rest, "protocol version");
    require(protocol[protocol.root].kind == PickleKind::integer &&
                protocol[protocol.root].integer == known_protocol,
            "its protocol version is not {}", known_protocol);
    check_byte_order(take_pickle(rest, "system information"));
    LegacyCheckpoint found{.object = take_pickle(rest, "object"), .storages = {}};
    const Pickle keys = take_pickle(rest, "list of storages");
    require(keys[keys.root].kind == PickleKind::list, "its list of storages is no list");

    // Find the storages behind them
    const auto described = described_storages(found.object);
    for (const PickleRef ref : keys[keys.root].items) {
        const PickleNode& n = keys[ref];
        require(n.kind == PickleKind::text || n.kind == PickleKind::integer,
                "its list of storages holds something that is no key");
        const std::string key =
            n.kind == PickleKind::text ? std::string(n.text) : fmt::format("{}", n.integer);
        const auto known = described.find(key);
        require(known != described.end(), "nothing says what the storage {} holds",
                shown_name(key));
        const auto [unit, wanted] = known->second;
        std::uint64_t count = 0;
        require(rest.size() >= sizeof count,
                "the file is cut short in front of the storage {}; fetch it again",
                shown_name(key));
        std::memcpy(&count, rest.data(), sizeof count);
        rest = rest.subspan(sizeof count);
        require(count == wanted, "the storage {} has {} elements where its tensors say {}",
                shown_name(key), count, wanted);
        require(count <= rest.size() / unit,
                "the file is cut short: the storage {} has {} elements of {} bytes and {} bytes "
                "are left; fetch it again",
                shown_name(key), count, unit, rest.size());
        require(found.storages.emplace(key, rest.first(count * unit)).second,
                "the storage {} occurs twice", shown_name(key));
        rest = rest.subspan(count * unit);
    }
    return found;
}

}  // namespace ultrasr
