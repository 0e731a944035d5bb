#include "data/weights/pickle_builder.h"

#include <array>

namespace ultrasr {
namespace {

/// What a call of a known global means for us.
enum class Call { opaque, dict, first_argument, tensor, parameter, typed_tensor, reconstruct };

struct KnownCall {
    std::string_view module, name;
    Call call;
};
constexpr std::array known_calls{
    KnownCall{"collections", "OrderedDict", Call::dict},
    KnownCall{"collections", "defaultdict", Call::dict},
    KnownCall{"collections", "Counter", Call::dict},
    KnownCall{"torch", "Size", Call::first_argument},
    KnownCall{"torch.jit._pickle", "build_intlist", Call::first_argument},
    KnownCall{"torch.jit._pickle", "build_doublelist", Call::first_argument},
    KnownCall{"torch.jit._pickle", "build_boollist", Call::first_argument},
    KnownCall{"torch.jit._pickle", "build_tensorlist", Call::first_argument},
    KnownCall{"torch.jit._pickle", "restore_type_tag", Call::first_argument},
    KnownCall{"torch._utils", "_rebuild_parameter", Call::parameter},
    KnownCall{"torch._utils", "_rebuild_parameter_with_state", Call::parameter},
    KnownCall{"torch._tensor", "_rebuild_from_type", Call::typed_tensor},
    KnownCall{"torch._tensor", "_rebuild_from_type_v2", Call::typed_tensor},
    KnownCall{"copy_reg", "_reconstructor", Call::reconstruct},
    KnownCall{"copyreg", "_reconstructor", Call::reconstruct},
};

Call call_of(const Pickle& pickle, PickleRef function) {
    for (const KnownCall& known : known_calls) {
        if (pickle.is_global(function, known.module, known.name)) return known.call;
    }
    const PickleNode& n = pickle[function];
    const bool rebuilds = n.kind == PickleKind::global &&
                          pickle[n.items[0]].text == "torch._utils" &&
                          pickle[n.items[1]].text.starts_with("_rebuild_");
    return rebuilds ? Call::tensor : Call::opaque;
}

}  // namespace

PickleBuilder::PickleBuilder(const PickleLimits& limits) : limits_(limits) {
    add(PickleKind::none);
    add(PickleKind::boolean);
    node(add(PickleKind::boolean)).integer = 1;
    add(PickleKind::tuple);
}

PickleRef PickleBuilder::add(PickleKind kind) {
    check(made_.nodes.size() < limits_.values, "more than {} values", limits_.values);
    made_.nodes.emplace_back().kind = kind;
    return static_cast<PickleRef>(made_.nodes.size() - 1);
}

PickleRef PickleBuilder::add_integer(std::int64_t value) {
    const PickleRef ref = add(PickleKind::integer);
    node(ref).integer = value;
    return ref;
}

PickleRef PickleBuilder::add_real(double value) {
    const PickleRef ref = add(PickleKind::real);
    node(ref).real = value;
    return ref;
}

PickleRef PickleBuilder::add_text(PickleKind kind, std::string_view text) {
    check(kind != PickleKind::text || text.size() <= limits_.text, "a text of more than {} bytes",
          limits_.text);
    const PickleRef ref = add(kind);
    node(ref).text = text;
    return ref;
}

PickleRef PickleBuilder::add_unescaped(const std::optional<std::string>& text) {
    check(text.has_value(), "a string that is not written as one");
    made_.unescaped.push_back(*text);
    return add_text(PickleKind::text, made_.unescaped.back());
}

PickleRef PickleBuilder::add_global(PickleRef module, PickleRef name) {
    check(node(module).kind == PickleKind::text && node(name).kind == PickleKind::text,
          "a class whose name is no text");
    return add_with(PickleKind::global, {module, name});
}

PickleRef PickleBuilder::add_with(PickleKind kind, std::vector<PickleRef> items) {
    charge(items.size());
    const PickleRef ref = add(kind);
    node(ref).items = std::move(items);
    return ref;
}

void PickleBuilder::charge(std::size_t items) {
    items_ += items;
    check(items_ <= limits_.items, "more than {} items in containers", limits_.items);
}

void PickleBuilder::append(PickleRef container, std::span<const PickleRef> values) {
    PickleNode& n = node(container);
    if (n.kind == PickleKind::object) return;  // a foreign list: inert
    check(n.kind == PickleKind::list || n.kind == PickleKind::set,
          "items for something that is no list");
    charge(values.size());
    n.items.insert(n.items.end(), values.begin(), values.end());
}

void PickleBuilder::set_items(PickleRef container, std::span<const PickleRef> pairs) {
    PickleNode& n = node(container);
    check(n.kind == PickleKind::dict || n.kind == PickleKind::object,
          "keys for something that is no dictionary");
    check(pairs.size() % 2 == 0, "a key without a value");
    charge(pairs.size());
    n.items.insert(n.items.end(), pairs.begin(), pairs.end());
}

PickleRef PickleBuilder::add_object(PickleRef type) {
    const PickleRef ref = add(PickleKind::object);
    if (node(type).kind == PickleKind::global) node(ref).type = type;
    return ref;
}

/// A dictionary from nothing, another one, or a list of pairs (Python 2 writes those).
PickleRef PickleBuilder::call_dict(const std::vector<PickleRef>& arguments) {
    const PickleRef dict = add(PickleKind::dict);
    if (arguments.empty()) return dict;
    const PickleNode& from = node(arguments[0]);
    std::vector<PickleRef> pairs;
    if (from.kind == PickleKind::dict) {
        pairs = from.items;
    } else if (from.kind == PickleKind::list || from.kind == PickleKind::tuple) {
        charge(from.items.size());
        for (const PickleRef item : from.items) {
            const PickleNode& pair = node(item);
            check((pair.kind == PickleKind::list || pair.kind == PickleKind::tuple) &&
                      pair.items.size() == 2,
                  "a dictionary of something else than pairs");
            pairs.insert(pairs.end(), pair.items.begin(), pair.items.end());
        }
    }
    set_items(dict, pairs);
    return dict;
}

PickleRef PickleBuilder::call(PickleRef function, PickleRef tuple) {
    check(node(tuple).kind == PickleKind::tuple, "arguments that are no tuple");
    // A typed tensor names the plain rebuilding function and its arguments
    if (call_of(made_, function) == Call::typed_tensor && node(tuple).items.size() >= 3 &&
        call_of(made_, node(tuple).items[0]) == Call::tensor &&
        node(node(tuple).items[2]).kind == PickleKind::tuple) {
        function = node(tuple).items[0];
        tuple = node(tuple).items[2];
    }
    const std::vector<PickleRef>& arguments = node(tuple).items;
    const bool any = !arguments.empty();
    switch (call_of(made_, function)) {
        case Call::dict:
            return call_dict(std::vector(arguments));
        case Call::first_argument:
            if (any) return arguments[0];
            break;
        case Call::parameter:
            if (any && node(arguments[0]).kind == PickleKind::tensor) return arguments[0];
            break;
        case Call::tensor: {
            const PickleRef ref = add_with(PickleKind::tensor, std::vector(arguments));
            node(ref).type = function;
            return ref;
        }
        case Call::reconstruct:
            if (any) return add_object(arguments[0]);
            break;
        case Call::typed_tensor:
        case Call::opaque:
            break;
    }
    return add_object(function);
}

Pickle PickleBuilder::finish(PickleRef root, std::size_t size) {
    made_.root = root;
    made_.size = size;
    return std::move(made_);
}

}  // namespace ultrasr
