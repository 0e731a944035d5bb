#include "data/weights/pickle_tensors.h"

#include <algorithm>
#include <string>
#include <unordered_set>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/weights/pickle_text.h"
#include "data/weights/shown_name.h"

namespace ultrasr {
namespace {

/// A value and the key that leads to it.
struct Child {
    std::string key;
    PickleRef ref;
    bool silent = false;  ///< the key adds nothing to the name
};

class Walk {
  public:
    Walk(const Pickle& pickle, const StorageBytes& storages, std::uint64_t file_size,
         const WalkLimits& limits)
        : limits_(limits), pickle_(pickle), storages_(storages), copies_(file_size) {
        on_way_.resize(pickle.nodes.size());
        entered_.resize(pickle.nodes.size());
        found_.extras = Json::object();
    }

    PickledTensors run() {
        visit(pickle_.root);
        while (!way_.empty()) {
            // Take the next child of the innermost container, or leave it
            Frame& frame = way_.back();
            name_.resize(frame.name_length);
            if (frame.next == frame.children.size()) {
                on_way_[frame.ref] = false;
                way_.pop_back();
                continue;
            }
            const Child& child = frame.children[frame.next++];
            if (!child.silent) {
                if (frame.named) name_ += '.';
                name_ += child.key;
            }
            const PickleRef ref = child.ref;
            const bool named = frame.named || !child.silent;
            visit(ref, named);
        }
        found_.copies = copies_.take();
        return std::move(found_);
    }

  private:
    struct Frame {
        PickleRef ref;
        std::size_t name_length;
        bool named;
        std::vector<Child> children;
        std::size_t next = 0;
    };

    std::string shown() const { return shown_name(named_ ? name_ : "root"); }

    void visit(PickleRef ref, bool named = false) {
        named_ = named;
        const PickleNode& n = pickle_[ref];
        switch (n.kind) {
            case PickleKind::tensor:
                return add_tensor(ref);
            case PickleKind::list:
            case PickleKind::tuple:
            case PickleKind::set:
                if (is_plain_list(n)) return add_list(n);
                return enter(ref);
            case PickleKind::dict:
            case PickleKind::object:
                return enter(ref);
            default:
                if (is_plain(n)) add_extra(value_of(n));
        }
    }

    // ---- containers ----

    void enter(PickleRef ref) {
        const PickleNode& n = pickle_[ref];
        if (on_way_[ref]) return;  // it holds itself
        // TorchScript's modules may be shared; a foreign graph of objects could unfold without end
        const bool foreign = n.kind == PickleKind::object && !is_torchscript(n);
        if (foreign && entered_[ref]) return;
        entered_[ref] = true;
        require(way_.size() < limits_.depth, "{} nests deeper than {}", shown(), limits_.depth);
        on_way_[ref] = true;
        std::vector<Child> children = children_of(n);
        way_.push_back({ref, name_.size(), named_, std::move(children)});
    }

    bool is_torchscript(const PickleNode& n) const {
        return n.type != no_pickle_node &&
               pickle_[pickle_[n.type].items[0]].text.starts_with("__torch__");
    }

    std::vector<Child> children_of(const PickleNode& n) {
        std::vector<Child> children;
        if (n.kind == PickleKind::list || n.kind == PickleKind::tuple ||
            n.kind == PickleKind::set) {
            charge_visits(n.items.size());
            for (const PickleRef item : n.items) {
                children.push_back({fmt::format("{}", children.size()), item, false});
            }
            return children;
        }
        if (n.kind == PickleKind::object && n.state != no_pickle_node) {
            add_state(n.state, is_torchscript(n), children);
        }
        add_pairs(n, children, false);
        return children;
    }

    /// The attributes that BUILD gives: a dictionary, or (dictionary, dictionary) with slots. Only
    /// TorchScript's own forms are followed further.
    void add_state(PickleRef state, bool torchscript, std::vector<Child>& children) {
        const PickleNode& n = pickle_[state];
        if (n.kind == PickleKind::dict) return add_pairs(n, children, true);
        const auto is_part = [&](PickleRef ref) {
            return pickle_[ref].kind == PickleKind::dict || pickle_[ref].kind == PickleKind::none;
        };
        if (n.kind == PickleKind::tuple && n.items.size() == 2 && is_part(n.items[0]) &&
            is_part(n.items[1])) {
            for (const PickleRef part : n.items) add_pairs(pickle_[part], children, true);
            return;
        }
        if (torchscript) children.push_back({"state", state, false});
    }

    void add_pairs(const PickleNode& n, std::vector<Child>& children, bool attributes) {
        charge_visits(n.items.size() / 2);
        for (std::size_t i = 0; i + 1 < n.items.size(); i += 2) {
            Child child{key_of(n.items[i], i / 2), n.items[i + 1], false};
            charge(child.key.size());
            child.silent =
                attributes && pickle_[child.ref].kind == PickleKind::dict &&
                (child.key == "_parameters" || child.key == "_buffers" || child.key == "_modules");
            children.push_back(std::move(child));
        }
    }

    /// A key as part of a name; keys that are nothing of the kind are called by their position.
    std::string key_of(PickleRef ref, std::size_t position) const {
        const PickleNode& n = pickle_[ref];
        switch (n.kind) {
            case PickleKind::text:
            case PickleKind::bytes:
                if (is_utf8(n.text)) return std::string(n.text);
                break;
            case PickleKind::integer:
                return fmt::format("{}", n.integer);
            case PickleKind::boolean:
                return n.integer ? "True" : "False";
            case PickleKind::real:
                return fmt::format("{}", n.real);
            case PickleKind::none:
                return "None";
            case PickleKind::global:
                if (is_utf8(pickle_.global_name(ref))) return pickle_.global_name(ref);
                break;
            default:
                break;
        }
        return fmt::format("#{}", position);
    }

    // ---- leaves ----

    /// Takes the name that leads here.
    std::string take_name() {
        const std::string name = named_ ? name_ : "root";
        charge(name.size());
        require(names_.insert(name).second, "the name {} occurs twice", shown());
        return name;
    }

    void add_tensor(PickleRef ref) {
        std::string name = take_name();
        TensorView tensor = while_doing(
            "tensor " + shown(), [&] { return read_tensor(pickle_, ref, storages_, copies_); });
        tensor.name = std::move(name);
        found_.tensors.push_back(std::move(tensor));
    }

    void add_extra(Json value) {
        // Behind the map's back, which would look through all keys; the name is known to be new
        found_.extras.get_ref<Json::object_t&>().emplace_back(take_name(), std::move(value));
    }

    static bool is_plain(const PickleNode& n) {
        return n.kind == PickleKind::none || n.kind == PickleKind::boolean ||
               n.kind == PickleKind::integer || n.kind == PickleKind::real ||
               n.kind == PickleKind::text;
    }

    bool is_plain_list(const PickleNode& n) const {
        return std::all_of(n.items.begin(), n.items.end(),
                           [&](PickleRef ref) { return is_plain(pickle_[ref]); });
    }

    void add_list(const PickleNode& n) {
        charge_visits(n.items.size());
        Json list = Json::array();
        for (const PickleRef item : n.items) list.push_back(value_of(pickle_[item]));
        add_extra(std::move(list));
    }

    Json value_of(const PickleNode& n) {
        switch (n.kind) {
            case PickleKind::boolean:
                return n.integer != 0;
            case PickleKind::integer:
                return n.integer;
            case PickleKind::real:
                return json_number(n.real);
            case PickleKind::text:
                charge(n.text.size());
                return std::string(n.text);
            default:
                return nullptr;
        }
    }

    void charge_visits(std::size_t count) {
        visits_ += count;
        require(visits_ <= limits_.values, "its values unfold to more than {}", limits_.values);
    }

    void charge(std::size_t bytes) {
        text_ += bytes;
        require(text_ <= limits_.text, "its names and texts unfold to more than {} bytes",
                limits_.text);
    }

    WalkLimits limits_;
    const Pickle& pickle_;
    const StorageBytes& storages_;
    TensorCopies copies_;
    PickledTensors found_;
    std::vector<Frame> way_;
    std::vector<bool> on_way_, entered_;
    std::unordered_set<std::string> names_;
    std::string name_;
    bool named_ = false;
    std::size_t visits_ = 0, text_ = 0;
};

}  // namespace

PickledTensors collect_tensors(const Pickle& pickle, const StorageBytes& storages,
                               std::uint64_t file_size, const WalkLimits& limits) {
    return Walk(pickle, storages, file_size, limits).run();
}

}  // namespace ultrasr
