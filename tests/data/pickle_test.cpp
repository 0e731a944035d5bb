#include "data/weights/pickle.h"

#include <cmath>
#include <limits>

#include "data/base/error.h"
#include "data/weights/pickle_text.h"
#include "tests/data/pickles.h"
#include "tests/data/tensor_values.h"
#include "tests/test.h"

using namespace ultrasr;
using test::bytes_of;
using test::text;

namespace {

/// Holds the bytes that the nodes point into.
struct Read {
    std::string bytes;
    Pickle pickle;

    explicit Read(std::string from, const PickleLimits& limits = {})
        : bytes(std::move(from)), pickle(read_pickle(bytes_of(bytes), limits)) {}
    const PickleNode& root() const { return pickle[pickle.root]; }
    const PickleNode& item(std::size_t i) const { return pickle[root().items[i]]; }
};

/// What is wrong with a pickle; empty when it can be read.
std::string fault_of(const std::string& bytes, const PickleLimits& limits = {}) {
    try {
        read_pickle(bytes_of(bytes), limits);
        return {};
    } catch (const Error& error) {
        CHECK(error.fault() == Fault::input);
        return error.sentence();
    }
}

bool has(const std::string& all, const std::string& part) {
    return all.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("pickle: whole numbers in all their forms") {
        using namespace std::string_literals;
        const std::vector<std::pair<std::string, std::int64_t>> cases{
            {"K\xff."s, 255},
            {"M\x01\x02."s, 513},
            {"J\xfe\xff\xff\xff."s, -2},
            {"\x8a\x00."s, 0},
            {"\x8a\x01\xff."s, -1},
            {"\x8a\x02\xff\x00."s, 255},
            {"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80."s,
             std::numeric_limits<std::int64_t>::min()},
            {"\x8b\x02\x00\x00\x00\x00\x01."s, 256},
            {"I-12\n."s, -12},
            {"L34L\n."s, 34},
            {"L34\n."s, 34},
        };
        for (const auto& [bytes, value] : cases) {
            CAPTURE(value);
            const Read read(bytes);
            CHECK(read.root().kind == PickleKind::integer);
            CHECK(read.root().integer == value);
            CHECK(read.pickle.size == bytes.size());
        }
        for (const std::string& bytes : {"I01\n."s, "\x88."s}) {
            const Read read(bytes);
            CHECK(read.root().kind == PickleKind::boolean);
            CHECK(read.root().integer == 1);
        }
        CHECK(Read("I00\n.").root().integer == 0);
        CHECK(Read("I00\n.").root().kind == PickleKind::boolean);
        CHECK(Read("\x8a\x09" + std::string(9, '\1') + ".").root().kind == PickleKind::huge);
        CHECK(Read("L123456789012345678901L\n.").root().text == "123456789012345678901");
    }

    TEST_CASE("pickle: real numbers, highest byte first or as text") {
        using namespace std::string_literals;
        CHECK(Read("G\x3f\xf8\x00\x00\x00\x00\x00\x00."s).root().real == 1.5);
        CHECK(Read("F-2.5e3\n.").root().real == -2500);
        CHECK(std::isnan(Read("Fnan\n.").root().real));
        CHECK(Read("F-inf\n.").root().real == -std::numeric_limits<double>::infinity());
    }

    TEST_CASE("pickle: texts and bytes in all their forms") {
        using namespace std::string_literals;
        for (const std::string& bytes : {"S'ab'\n."s, "S\"ab\"\n."s,
                                         "U\x02"
                                         "ab."s,
                                         "T\x02\x00\x00\x00"
                                         "ab."s,
                                         "Vab\n."s,
                                         "X\x02\x00\x00\x00"
                                         "ab."s,
                                         "\x8c\x02"
                                         "ab."s,
                                         "\x8d\x02\x00\x00\x00\x00\x00\x00\x00"
                                         "ab."s}) {
            const Read read(bytes);
            CHECK(read.root().kind == PickleKind::text);
            CHECK(read.root().text == "ab");
        }
        for (const std::string& bytes : {"C\x02"
                                         "ab."s,
                                         "B\x02\x00\x00\x00"
                                         "ab."s,
                                         "\x8e\x02\x00\x00\x00\x00\x00\x00\x00"
                                         "ab."s,
                                         "\x96\x02\x00\x00\x00\x00\x00\x00\x00"
                                         "ab."s}) {
            const Read read(bytes);
            CHECK(read.root().kind == PickleKind::bytes);
            CHECK(read.root().text == "ab");
        }
        CHECK(Read("S'a\\n\\x41\\101\\'\\\\'\n.").root().text == "a\nAA'\\");
        CHECK(Read("V\\u00e9\xe9\\U0001f600\n.").root().text == "\u00e9\u00e9\U0001f600");
    }

    TEST_CASE("pickle: text forms that are none are refused") {
        for (const char* bad :
             {"S'ab\n.", "Sab\n.", "S'a\\'\n.", "S'\\x4'\n.", "S'\\9'\n.", "S'\n.", "V\\u00e\n.",
              "V\\ud800\n.", "V\\U00110000\n.", "I1x\n.", "I\n.", "F1x\n.", "F\n.", "L-\n."}) {
            CAPTURE(bad);
            CHECK(has(fault_of(bad), "broken pickle at its byte 0"));
        }
        CHECK(is_utf8("a\u00e9\u20ac\U0001f600"));
        for (const char* bad : {"\x80", "\xc3", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
                                "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xff"}) {
            CHECK_FALSE(is_utf8(bad));
        }
    }

    TEST_CASE("pickle: containers of every protocol") {
        using namespace std::string_literals;
        for (const std::string& bytes :
             {"(K\1K\2t."s, "K\1K\2\x86."s, "(K\1K\2l."s, "](K\1K\2e."s, "]K\1aK\2a."s,
              "\x8f(K\1K\2\x90."s, "(K\1K\2\x91."s, "(lp0\nI1\naI2\na."s}) {
            const Read read(bytes);
            REQUIRE(read.root().items.size() == 2);
            CHECK(read.item(0).integer == 1);
            CHECK(read.item(1).integer == 2);
        }
        for (const std::string& bytes :
             {"}(K\1K\2u."s, "}K\1K\2s."s, "(K\1K\2d."s, "(dp1\nI1\nI2\ns."s}) {
            const Read read(bytes);
            CHECK(read.root().kind == PickleKind::dict);
            REQUIRE(read.root().items.size() == 2);
            CHECK(read.item(1).integer == 2);
        }
        CHECK(Read(").").root().kind == PickleKind::tuple);
        CHECK(Read("N\x85.").root().items.size() == 1);
        CHECK(Read("NNN\x87.").root().items.size() == 3);
    }

    TEST_CASE("pickle: stack and memo") {
        using namespace std::string_literals;
        for (const std::string& bytes : {"K\7q\5"
                                         "0h\5."s,
                                         "K\7r\5\0\0\0"
                                         "0j\5\0\0\0."s,
                                         "K\7\x94"
                                         "0h\0."s,
                                         "I7\np5\n0g5\n."s,
                                         "K\7K\1"
                                         "0."s,
                                         "K\7(K\1"
                                         "1."s,
                                         "K\7("
                                         "0."s,
                                         "\x80\4\x95\3\0\0\0\0\0\0\0K\7."s}) {
            CHECK(Read(bytes).root().integer == 7);
        }
        const Read twice(
            "K\7"
            "2\x86.");
        CHECK(twice.root().items[0] == twice.root().items[1]);
        CHECK(Read("K\7.rest").pickle.size == 3);
    }

    TEST_CASE("pickle: dictionaries by any name are dictionaries") {
        const std::string pair = "]" + text("k") + "aK\7a";
        for (const std::string& bytes :
             {"ccollections\nOrderedDict\n]" + pair + "a\x85R.",  // Python 2
              "ccollections\nOrderedDict\n)R" + text("k") + "K\7s.",
              "ccollections\nCounter\n}" + text("k") + "K\7s\x85R.",
              "ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R" + text("k") + "K\7s.",
              "\x8c\x0b"
              "collections\x8c\x0bOrderedDict\x93)\x81" +
                  text("k") + "K\7s."}) {
            const Read read(bytes);
            CHECK(read.root().kind == PickleKind::dict);
            REQUIRE(read.root().items.size() == 2);
            CHECK(read.item(0).text == "k");
            CHECK(read.item(1).integer == 7);
        }
        // Attributes of a dictionary (_metadata) are not its items
        CHECK(Read("ccollections\nOrderedDict\n)R}" + text("_metadata") + "NsbN0.")
                  .root()
                  .items.empty());
        CHECK(has(fault_of("ccollections\nOrderedDict\n]Na\x85R."), "something else than pairs"));
    }

    TEST_CASE("pickle: foreign classes and functions are inert") {
        const Read system("cposix\nsystem\n" + text("touch /tmp/never") + "\x85R.");
        CHECK(system.root().kind == PickleKind::object);
        CHECK(system.pickle.global_name(system.root().type) == "posix.system");
        CHECK(system.root().items.empty());

        const Read built("cm\nC\n)\x81}" + text("a") + "K\1sb" + text("b") + "K\2sK\3a.");
        CHECK(built.root().kind == PickleKind::object);
        CHECK(built.pickle[built.root().state].kind == PickleKind::dict);
        CHECK(built.root().items.size() == 2);  // set by key; what is appended is dropped

        for (const std::string& bytes :
             {std::string("(im\nC\n."), std::string("(cm\nC\nK\1o."), std::string("cm\nC\n)}\x92."),
              std::string("ccopy_reg\n_reconstructor\n(cm\nC\nNNtR."),
              std::string("ccopyreg\n_reconstructor\n(cm\nC\nNNtR.")}) {
            const Read read(bytes);
            CHECK(read.root().kind == PickleKind::object);
            CHECK(read.pickle.global_name(read.root().type) == "m.C");
        }
        CHECK(Read("NN\x86"
                   "N\x86"
                   "0ctorch\nSize\nK\2\x85\x85R.")
                  .root()
                  .kind == PickleKind::tuple);
        CHECK(Read("ctorch.jit._pickle\nbuild_intlist\n]K\2a\x85R.").root().kind ==
              PickleKind::list);
    }

    TEST_CASE("pickle: tensors are kept as the call that would make them") {
        const Read plain(test::tensor(test::storage("0", "torch\nFloatStorage", 1), 0, {1}, {1}) +
                         ".");
        CHECK(plain.root().kind == PickleKind::tensor);
        CHECK(plain.item(0).kind == PickleKind::persistent);
        const std::string t = "ctorch._utils\n_rebuild_tensor_v2\n(NK\1t";
        for (const std::string& bytes :
             {"ctorch._utils\n_rebuild_parameter\n(" + t + "R\x88}tR.",
              "ctorch._utils\n_rebuild_parameter_with_state\n(" + t + "R\x88}}tR.",
              std::string("ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_"
                          "v2\nctorch\nTensor\n"
                          "(NK\1t}tR.")}) {
            const Read read(bytes);
            CHECK(read.root().kind == PickleKind::tensor);
            CHECK(read.pickle.is_global(read.root().type, "torch._utils", "_rebuild_tensor_v2"));
            CHECK(read.root().items.size() == 2);
        }
        CHECK(Read("ctorch._utils\n_rebuild_parameter\nN\x85R.").root().kind == PickleKind::object);
    }

    TEST_CASE("pickle: opcodes outside the list are named with their place") {
        for (const char* bytes : {"N\x82", "NP1\n.", "N\x97", "N\x98", "N?", "N\xff"}) {
            const std::string fault = fault_of(bytes);
            CAPTURE(fault);
            CHECK(has(fault, "byte 1: the opcode 0x"));
        }
        CHECK(has(fault_of("N\x82"), "0x82"));
    }

    TEST_CASE("pickle: what makes no sense is refused, with the place and a reason") {
        using namespace std::string_literals;
        const std::vector<std::pair<std::string, std::string>> cases{
            {""s, "byte 0: it ends without STOP"},
            {"N"s, "byte 1: it ends without STOP"},
            {"."s, "more or less than one value"},
            {"NN."s, "more or less than one value"},
            {"(N."s, "more or less than one value"},
            {"0."s, "empty stack"},
            {"N(N\x86."s, "empty stack"},  // must not reach below the mark
            {"N(a."s, "empty stack"},
            {"2."s, "empty stack"},
            {"t."s, "a mark that was not set"},
            {"e."s, "a mark that was not set"},
            {"h\1."s, "value 1 was not remembered"},
            {"g-1\n."s, "an index that is no number"},
            {"q\1."s, "empty stack"},
            {"NNa."s, "no list"},
            {"](NNu."s, "no dictionary"},
            {"}(Nu."s, "a key without a value"},
            {"cm\nC\nNR."s, "arguments that are no tuple"},
            {"NN\x93."s, "a class whose name is no text"},
            {"(o."s, "an object without a class"},
            {"\x80\6N."s, "protocol 6"},
            {"\x80"s, "ends inside of a value"},
            {"\x95\x09\0\0\0\0\0\0\0N."s, "a frame longer than the rest"},
            {"X\4\0\0\0abc"s, "ends inside of a value"},
            {"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
             "a"s,
             "ends inside of a value"},
            {"\x8b\xff\xff\xff\xff"
             "a"s,
             "ends inside of a value"},
            {"cm\nC"s, "ends inside of a line"},
            {"G\0\0"s, "ends inside of a value"}};
        for (const auto& [bytes, reason] : cases) {
            CAPTURE(reason);
            const std::string fault = fault_of(bytes);
            CAPTURE(fault);
            CHECK(has(fault, reason));
            CHECK(has(fault, "broken pickle at its byte"));
        }
    }

    TEST_CASE("pickle: limits on values, items, memo, texts and open containers") {
        PickleLimits limits;
        limits.values = 20;
        CHECK(has(fault_of(std::string(21, ']') + "1.", limits), "more than 20 values"));
        limits = {};
        limits.items = 10;
        CHECK(has(fault_of("(" + std::string(11, 'N') + "t.", limits), "more than 10 items"));
        CHECK(fault_of("(" + std::string(10, 'N') + "t.", limits).empty());
        // The same list turned into a dictionary again and again
        const std::string again = "ccollections\nOrderedDict\nh\1\x85R0";
        CHECK(has(fault_of("]NN\x86"
                           "aq\1" +
                               again + again + again + again + ".",
                           limits),
                  "more than 10 items"));
        limits = {};
        limits.remembered = 3;
        CHECK(has(fault_of("N\x94\x94\x94\x94.", limits), "more than 3 remembered"));
        limits = {};
        limits.text = 4;
        CHECK(has(fault_of(text("abcde") + ".", limits), "a text of more than 4 bytes"));
        CHECK(fault_of(text("abcd") + ".", limits).empty());
        CHECK(has(fault_of(std::string(10'001, '(')), "nest deeper than 10000"));
    }

    TEST_CASE("pickle: a million nested tuples are read and freed without recursion") {
        const Read deep("N" + std::string(1'000'000, '\x85') + ".");
        CHECK(deep.root().items.size() == 1);
        CHECK(deep.pickle.nodes.size() > 1'000'000);
    }

    TEST_CASE("pickle: a structure may hold itself") {
        const Read self("]q\1h\1a.");
        CHECK(self.root().items[0] == self.pickle.root);
    }
}
