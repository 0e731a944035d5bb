// Reads Python pickles as inert data: nothing is imported, called or built but the nodes below.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ultrasr {

enum class PickleKind : std::uint8_t {
    none,
    boolean,     ///< integer: 0 or 1
    integer,     ///< integer
    huge,        ///< an integer beyond 64 bits; text: its bytes (LONG1, LONG4) or digits (LONG)
    real,        ///< real
    text,        ///< text; a Python 2 string is text too
    bytes,       ///< text
    list,        ///< items
    tuple,       ///< items; torch.Size is one
    set,         ///< items
    dict,        ///< items: key, value, key, value ...; OrderedDict and its like are dicts
    global,      ///< items: module and name, both text
    tensor,      ///< type: the rebuilding function (a global); items: its arguments
    persistent,  ///< items: the persistent id; in our files a storage
    object       ///< anything else; type: its class; state: of BUILD; items: as in dict
};

/// Index of a node. Structures may share nodes and may even hold themselves.
using PickleRef = std::uint32_t;
inline constexpr PickleRef no_pickle_node = std::numeric_limits<PickleRef>::max();

struct PickleNode {
    PickleKind kind = PickleKind::none;
    PickleRef type = no_pickle_node;
    PickleRef state = no_pickle_node;
    union {
        std::int64_t integer = 0;
        double real;
    };
    std::string_view text;  ///< into the pickle's bytes, or into Pickle::unescaped
    std::vector<PickleRef> items;
};

/// One pickle. Freed without recursion, however deep it nests.
struct Pickle {
    std::vector<PickleNode> nodes;
    std::deque<std::string> unescaped;  ///< texts of protocol 0, which are written escaped
    PickleRef root = no_pickle_node;
    std::size_t size = 0;  ///< bytes it took, STOP included

    const PickleNode& operator[](PickleRef ref) const { return nodes[ref]; }
    /// True for the global `module`.`name`.
    bool is_global(PickleRef ref, std::string_view module, std::string_view name) const;
    /// "module.name" of a global, at most 200 bytes; "" for another node.
    std::string global_name(PickleRef ref) const;
};

/// Limits that no checkpoint reaches and that bound what a hostile one costs.
struct PickleLimits {
    std::size_t values = std::size_t{1} << 22;
    std::size_t items = std::size_t{1} << 24;       ///< of all containers together
    std::size_t remembered = std::size_t{1} << 22;  ///< entries of the memo
    std::size_t text = std::size_t{1} << 24;        ///< bytes of one text
    std::size_t open = 10'000;  ///< containers; Python's own writer stops near 1000
};

/// Runs the pickle machine over one pickle at the front of `bytes`; what follows it is left alone.
///
/// Known and acted upon: collections.OrderedDict, defaultdict, Counter (dicts), torch.Size (a
/// tuple), the rebuilding functions of torch._utils and torch._tensor (tensors, unchecked), those
/// of torch.nn.Parameter (the tensor inside) and the typed lists of torch.jit._pickle (lists).
/// Every other global, and what is made of it, is an inert object.
///
/// bytes   protocols 0 to 5; the nodes point into them
/// throws  Error(input) with the byte it happened at: an opcode outside the list, a stack that runs
///         empty, a container that is none, an unknown memo entry, a limit, an early end
/// Source: the opcode descriptions of Python's pickletools; one_step_models.md 5.3.
Pickle read_pickle(std::span<const std::byte> bytes, const PickleLimits& limits = {});

}  // namespace ultrasr
