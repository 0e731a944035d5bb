#include "data/weights/pickle.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "data/base/error.h"
#include "data/weights/pickle_builder.h"
#include "data/weights/pickle_text.h"

namespace ultrasr {
namespace {

class Machine {
  public:
    Machine(std::span<const std::byte> bytes, const PickleLimits& limits)
        : limits_(limits), bytes_(bytes), make_(limits) {}

    Pickle run() {
        while (!step()) {
        }
        check(marks_.empty() && stack_.size() == 1, "STOP leaves more or less than one value");
        return make_.finish(stack_.back(), at_);
    }

  private:
    // ---- bytes ----

    template <class... Args>
    void check(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
        make_.check(condition, format, std::forward<Args>(args)...);
    }

    std::string_view take(std::uint64_t length) {
        check(length <= bytes_.size() - at_, "it ends inside of a value");
        const std::string_view taken(reinterpret_cast<const char*>(bytes_.data()) + at_, length);
        at_ += length;
        return taken;
    }

    template <class Number>
    Number number() {
        Number value;
        std::memcpy(&value, take(sizeof value).data(), sizeof value);
        return value;
    }

    std::string_view line() {
        const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + at_,
                                    bytes_.size() - at_);
        const std::size_t end = rest.find('\n');
        check(end != std::string_view::npos, "it ends inside of a line");
        at_ += end + 1;
        return rest.substr(0, end);
    }

    // ---- stack and memo ----

    void push(PickleRef ref) { stack_.push_back(ref); }

    std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

    PickleRef pop() {
        check(stack_.size() > floor(), "it takes a value from an empty stack");
        const PickleRef ref = stack_.back();
        stack_.pop_back();
        return ref;
    }

    PickleRef top() const {
        check(stack_.size() > floor(), "it looks at an empty stack");
        return stack_.back();
    }

    void mark() {
        check(marks_.size() < limits_.open, "containers nest deeper than {}", limits_.open);
        marks_.push_back(stack_.size());
    }

    /// The values above the last mark.
    std::vector<PickleRef> pop_to_mark() {
        check(!marks_.empty(), "it goes back to a mark that was not set");
        const auto from = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
        std::vector<PickleRef> values(from, stack_.end());
        stack_.erase(from, stack_.end());
        marks_.pop_back();
        return values;
    }

    std::vector<PickleRef> pop_some(std::size_t count) {
        std::vector<PickleRef> values(count);
        for (std::size_t i = count; i-- > 0;) values[i] = pop();
        return values;
    }

    void put(std::uint64_t index) {
        check(index <= no_pickle_node && memo_.size() < limits_.remembered,
              "more than {} remembered values", limits_.remembered);
        memo_[index] = top();
    }

    void get(std::uint64_t index) {
        const auto found = memo_.find(index);
        check(found != memo_.end(), "value {} was not remembered", index);
        push(found->second);
    }

    std::uint64_t line_index() {
        const auto index = parse_integer(line());
        check(index && *index >= 0, "an index that is no number");
        return static_cast<std::uint64_t>(*index);
    }

    void build() {
        const PickleRef state = pop();
        PickleNode& n = make_.node(top());
        if (n.kind == PickleKind::object) n.state = state;  // elsewhere: _metadata and the like
    }

    // ---- opcodes ----

    bool step();
    void integer_line();
    void long_bytes(std::uint64_t length);
    void real_bytes();
    bool step_text(unsigned char opcode);
    bool step_container(unsigned char opcode);
    bool step_memo(unsigned char opcode);

    PickleLimits limits_;
    std::span<const std::byte> bytes_;
    std::size_t at_ = 0;
    PickleBuilder make_;
    std::vector<PickleRef> stack_;
    std::vector<std::size_t> marks_;
    std::unordered_map<std::uint64_t, PickleRef> memo_;
};

void Machine::integer_line() {
    std::string_view text = line();
    if (text == "00" || text == "01") return push(make_.boolean(text == "01"));
    if (text.ends_with('L')) text.remove_suffix(1);
    check(is_decimal(text), "a number that is none");
    const auto value = parse_integer(text);
    push(value ? make_.add_integer(*value) : make_.add_text(PickleKind::huge, text));
}

void Machine::long_bytes(std::uint64_t length) {
    const std::string_view bytes = take(length);
    if (length > 8) return push(make_.add_text(PickleKind::huge, bytes));
    // Two's complement, lowest byte first
    std::uint64_t value = length > 0 && (bytes.back() & 0x80) ? ~std::uint64_t{0} : 0;
    for (std::size_t i = bytes.size(); i-- > 0;) {
        value = value << 8 | static_cast<unsigned char>(bytes[i]);
    }
    push(make_.add_integer(static_cast<std::int64_t>(value)));
}

void Machine::real_bytes() {
    std::uint64_t value = 0;  // highest byte first
    for (const char c : take(8)) value = value << 8 | static_cast<unsigned char>(c);
    push(make_.add_real(std::bit_cast<double>(value)));
}

/// Texts and bytes; false when the opcode is none of them.
bool Machine::step_text(unsigned char opcode) {
    switch (opcode) {
        case 'S':  // STRING
            return push(make_.add_unescaped(unescape_string(line()))), true;
        case 'V':  // UNICODE
            return push(make_.add_unescaped(unescape_unicode(line()))), true;
        case 'U':   // SHORT_BINSTRING
        case 0x8c:  // SHORT_BINUNICODE
            return push(make_.add_text(PickleKind::text, take(number<std::uint8_t>()))), true;
        case 'T':  // BINSTRING
        case 'X':  // BINUNICODE
            return push(make_.add_text(PickleKind::text, take(number<std::uint32_t>()))), true;
        case 0x8d:  // BINUNICODE8
            return push(make_.add_text(PickleKind::text, take(number<std::uint64_t>()))), true;
        case 'C':  // SHORT_BINBYTES
            return push(make_.add_text(PickleKind::bytes, take(number<std::uint8_t>()))), true;
        case 'B':  // BINBYTES
            return push(make_.add_text(PickleKind::bytes, take(number<std::uint32_t>()))), true;
        case 0x8e:  // BINBYTES8
        case 0x96:  // BYTEARRAY8
            return push(make_.add_text(PickleKind::bytes, take(number<std::uint64_t>()))), true;
        default:
            return false;
    }
}

/// Containers, classes and objects; false when the opcode is none of them.
bool Machine::step_container(unsigned char opcode) {
    switch (opcode) {
        case '}':  // EMPTY_DICT
            return push(make_.add(PickleKind::dict)), true;
        case ']':  // EMPTY_LIST
            return push(make_.add(PickleKind::list)), true;
        case 0x8f:  // EMPTY_SET
            return push(make_.add(PickleKind::set)), true;
        case ')':  // EMPTY_TUPLE
            return push(make_.empty_tuple()), true;
        case 't':  // TUPLE
            return push(make_.add_with(PickleKind::tuple, pop_to_mark())), true;
        case 0x85:  // TUPLE1
        case 0x86:  // TUPLE2
        case 0x87:  // TUPLE3
            return push(make_.add_with(PickleKind::tuple, pop_some(opcode - 0x84u))), true;
        case 'l':  // LIST
            return push(make_.add_with(PickleKind::list, pop_to_mark())), true;
        case 0x91:  // FROZENSET
            return push(make_.add_with(PickleKind::set, pop_to_mark())), true;
        case 'd': {  // DICT
            const std::vector<PickleRef> pairs = pop_to_mark();
            push(make_.add(PickleKind::dict));
            return make_.set_items(top(), pairs), true;
        }
        case 'a': {  // APPEND
            const std::vector<PickleRef> value = pop_some(1);
            return make_.append(top(), value), true;
        }
        case 'e':     // APPENDS
        case 0x90: {  // ADDITEMS
            const std::vector<PickleRef> values = pop_to_mark();
            return make_.append(top(), values), true;
        }
        case 's': {  // SETITEM
            const std::vector<PickleRef> pair = pop_some(2);
            return make_.set_items(top(), pair), true;
        }
        case 'u': {  // SETITEMS
            const std::vector<PickleRef> pairs = pop_to_mark();
            return make_.set_items(top(), pairs), true;
        }
        case 'c': {  // GLOBAL
            const PickleRef module = make_.add_text(PickleKind::text, line());
            return push(make_.add_global(module, make_.add_text(PickleKind::text, line()))), true;
        }
        case 0x93: {  // STACK_GLOBAL
            const std::vector<PickleRef> names = pop_some(2);
            return push(make_.add_global(names[0], names[1])), true;
        }
        case 'R':     // REDUCE
        case 0x81: {  // NEWOBJ
            const std::vector<PickleRef> both = pop_some(2);
            return push(make_.call(both[0], both[1])), true;
        }
        case 0x92: {  // NEWOBJ_EX
            const std::vector<PickleRef> three = pop_some(3);
            return push(make_.call(three[0], three[1])), true;
        }
        case 'o': {  // OBJ
            const std::vector<PickleRef> values = pop_to_mark();
            check(!values.empty(), "an object without a class");
            return push(make_.add_object(values[0])), true;
        }
        case 'i': {  // INST
            const PickleRef module = make_.add_text(PickleKind::text, line());
            const PickleRef type =
                make_.add_global(module, make_.add_text(PickleKind::text, line()));
            pop_to_mark();
            return push(make_.add_object(type)), true;
        }
        case 'b':  // BUILD
            return build(), true;
        case 'Q':  // BINPERSID
            return push(make_.add_with(PickleKind::persistent, pop_some(1))), true;
        default:
            return false;
    }
}

/// Stack and memo; false when the opcode is none of them.
bool Machine::step_memo(unsigned char opcode) {
    switch (opcode) {
        case '(':  // MARK
            return mark(), true;
        case '0':  // POP
            if (!marks_.empty() && stack_.size() == marks_.back()) {
                marks_.pop_back();
            } else {
                pop();
            }
            return true;
        case '1':  // POP_MARK
            return pop_to_mark(), true;
        case '2':  // DUP
            return push(top()), true;
        case 'p':  // PUT
            return put(line_index()), true;
        case 'q':  // BINPUT
            return put(number<std::uint8_t>()), true;
        case 'r':  // LONG_BINPUT
            return put(number<std::uint32_t>()), true;
        case 0x94:  // MEMOIZE
            return put(memo_.size()), true;
        case 'g':  // GET
            return get(line_index()), true;
        case 'h':  // BINGET
            return get(number<std::uint8_t>()), true;
        case 'j':  // LONG_BINGET
            return get(number<std::uint32_t>()), true;
        default:
            return false;
    }
}

/// Runs one opcode; true after STOP.
bool Machine::step() {
    make_.place = at_;
    check(at_ < bytes_.size(), "it ends without STOP");
    const auto opcode = number<std::uint8_t>();
    switch (opcode) {
        case 0x80: {  // PROTO
            const auto protocol = number<std::uint8_t>();
            check(protocol <= 5, "protocol {} is not known", protocol);
            return false;
        }
        case 0x95:  // FRAME
            check(number<std::uint64_t>() <= bytes_.size() - at_, "a frame longer than the rest");
            return false;
        case '.':  // STOP
            return true;
        case 'N':  // NONE
            return push(make_.none()), false;
        case 0x88:  // NEWTRUE
            return push(make_.boolean(true)), false;
        case 0x89:  // NEWFALSE
            return push(make_.boolean(false)), false;
        case 'I':  // INT
        case 'L':  // LONG
            return integer_line(), false;
        case 'J':  // BININT
            return push(make_.add_integer(number<std::int32_t>())), false;
        case 'K':  // BININT1
            return push(make_.add_integer(number<std::uint8_t>())), false;
        case 'M':  // BININT2
            return push(make_.add_integer(number<std::uint16_t>())), false;
        case 0x8a:  // LONG1
            return long_bytes(number<std::uint8_t>()), false;
        case 0x8b:  // LONG4
            return long_bytes(number<std::uint32_t>()), false;
        case 'F': {  // FLOAT
            const auto value = parse_real(line());
            check(value.has_value(), "a number that is none");
            return push(make_.add_real(*value)), false;
        }
        case 'G':  // BINFLOAT
            return real_bytes(), false;
        default:
            break;
    }
    check(step_text(opcode) || step_container(opcode) || step_memo(opcode),
          "the opcode 0x{:02x} has no place in a checkpoint", opcode);
    return false;
}

}  // namespace

bool Pickle::is_global(PickleRef ref, std::string_view module, std::string_view name) const {
    const PickleNode& n = nodes[ref];
    return n.kind == PickleKind::global && nodes[n.items[0]].text == module &&
           nodes[n.items[1]].text == name;
}

std::string Pickle::global_name(PickleRef ref) const {
    if (ref == no_pickle_node || nodes[ref].kind != PickleKind::global) return "";
    const std::string_view module = nodes[nodes[ref].items[0]].text;
    const std::string_view name = nodes[nodes[ref].items[1]].text;
    return fmt::format("{}.{}", module.substr(0, 100), name.substr(0, 99));
}

Pickle read_pickle(std::span<const std::byte> bytes, const PickleLimits& limits) {
    return Machine(bytes, limits).run();
}

}  // namespace ultrasr
