#include "data/weights/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <new>

#include "data/base/error.h"
#include "data/base/random.h"
#include "data/file.h"
#include "data/weights/mapped_file.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

/// A file of this head and as many data bytes, all of them 0.
std::string file_of(const std::string& head, std::size_t data) {
    std::string bytes(8, '\0');
    const std::uint64_t length = head.size();
    std::memcpy(bytes.data(), &length, 8);
    return bytes + head + std::string(data, '\0');
}

/// What is wrong with these bytes; empty when they load.
std::string fault_of(const std::string& bytes) {
    const test::TemporaryFolder folder;
    const fs::path path = folder.path() / "w.safetensors";
    write_file(path, bytes);
    try {
        const SafetensorsFile file(path);
        return {};
    } catch (const Error& error) {
        CHECK(error.fault() == Fault::input);
        CHECK(error.sentence().find("w.safetensors") != std::string::npos);
        return error.sentence();
    }
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

std::span<const std::byte> bytes_of(const std::string& text) {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// A sound file with several types, an empty tensor, a single element and metadata.
std::string sound_file() {
    const test::TemporaryFolder folder;
    const fs::path path = folder.path() / "s.safetensors";
    const std::string data(240, '\7');
    const std::vector<TensorView> tensors{
        {.name = "a.weight", .dtype = Dtype::f32, .shape = {10, 6}, .bytes = bytes_of(data)},
        {.name = "a.bias", .dtype = Dtype::f16, .shape = {3}, .bytes = bytes_of(data).first(6)},
        {.name = "none", .dtype = Dtype::i64, .shape = {4, 0}, .bytes = {}},
        {.name = "one", .dtype = Dtype::u8, .shape = {}, .bytes = bytes_of(data).first(1)}};
    write_safetensors(path, tensors, {{"origin", "a \"test\" \\ \n"}});
    return read_file(path);
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE(
        "safetensors: what is written is read again, element sizes falling, head padded to 8") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "s.safetensors";
        write_file(path, sound_file());
        const SafetensorsFile file(path);
        REQUIRE(file.tensors().size() == 4);
        CHECK(file.metadata().at("origin") == "a \"test\" \\ \n");
        const TensorView* weight = file.find("a.weight");
        REQUIRE(weight);
        CHECK(weight->dtype == Dtype::f32);
        CHECK(weight->shape == std::vector<std::int64_t>{10, 6});
        CHECK(weight->bytes.size() == 240);
        CHECK(static_cast<int>(weight->bytes[5]) == 7);
        CHECK(reinterpret_cast<std::uintptr_t>(weight->bytes.data()) % 4 == 0);
        CHECK(file.find("none")->bytes.empty());
        CHECK(file.find("one")->shape.empty());
        CHECK(file.find("one")->bytes.size() == 1);
        CHECK(file.find("a") == nullptr);
        CHECK(file.tensors()[1].name == "a.weight");
        CHECK(file.tensors().back().name == "one");
    }

    TEST_CASE("safetensors: all types of the format but the 8-bit floats") {
        const std::vector<std::pair<std::string, int>> sizes{
            {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
            {"I32", 4}, {"I16", 2}, {"I8", 1},  {"U8", 1},   {"BOOL", 1}};
        for (const auto& [name, size] : sizes) {
            const std::string head = R"({"t":{"dtype":")" + name +
                                     R"(","shape":[3],"data_offsets":[0,)" +
                                     std::to_string(3 * size) + "]}}";
            CAPTURE(name);
            CHECK(fault_of(file_of(head, 3 * static_cast<std::size_t>(size))).empty());
        }
        for (const char* name : {"F8_E4M3", "F8_E5M2", "U64", "f32", ""}) {
            const std::string head = std::string(R"({"t":{"dtype":")") + name +
                                     R"(","shape":[4],"data_offsets":[0,4]}})";
            CHECK(has(fault_of(file_of(head, 4)), "tensor t has the type"));
        }
    }

    TEST_CASE("safetensors: data need not be aligned, keys need no order, blanks may follow") {
        CHECK(fault_of(file_of(R"({"b":{"data_offsets":[0,1],"shape":[1],"dtype":"U8"},)"
                               R"("f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}   )",
                               5))
                  .empty());
        CHECK(fault_of(file_of("{}", 0)).empty());
        CHECK(fault_of(file_of(R"({"__metadata__":{}})", 0)).empty());
    }

    TEST_CASE("safetensors: every kind of broken head is one clear sentence") {
        const auto tensor = [](const std::string& dtype, const std::string& shape,
                               const std::string& offsets) {
            return R"({"t":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
                   offsets + "}}";
        };
        struct Case {
            std::string bytes;
            std::string words;
        };
        const std::string u = R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
        const std::vector<Case> cases{
            // too short, not ours
            {"", "it has 0 bytes"},
            {"1234567", "it has 7 bytes"},
            {std::string(8, '\0'), "its head would have 0 bytes"},
            {std::string("PK\3\4") + std::string(60, 'x'), "its head would have"},
            {std::string("\0\0\0\0\0\0\0\x80", 8) + "{}",
             "its head would have 9223372036854775808"},
            {std::string("\x03\0\0\0\0\0\0\0", 8) + "{}", "its head would have 3 bytes"},
            {file_of(" {}", 0), "does not begin with a brace"},
            {file_of("[]", 0), "does not begin with a brace"},
            // JSON
            {file_of(R"({"t":)", 0), "the head is not JSON"},
            {file_of("{}x", 0), "the head is not JSON"},
            {file_of("{/* */}", 0), "the head is not JSON"},
            {file_of("{\"\xff\":{}}", 0), "the head is not JSON"},
            {file_of(R"({"t":)" + u + R"(,"t":)" + u + "}", 4), "the name t occurs twice"},
            {file_of(R"({"__metadata__":{},"__metadata__":{}})", 0), "occurs twice"},
            {file_of(R"({"__metadata__":{"a":"1","a":"1"}})", 0), "metadata key a occurs twice"},
            {file_of(R"({"__metadata__":{"a":1}})", 0), "metadata a is a number"},
            {file_of(R"({"__metadata__":[]})", 0), "__metadata__ is an array"},
            {file_of(R"({"t":3})", 0), "t is a number"},
            {file_of(R"({"t":null})", 0), "t is null"},
            {file_of(R"({"t":{"dtype":"U8","shape":[4]}})", 4), "data_offsets is missing"},
            {file_of(R"({"t":{"shape":[4],"data_offsets":[0,4]}})", 4), "dtype is missing"},
            {file_of(R"({"t":{"dtype":"U8","data_offsets":[0,4]}})", 4), "shape is missing"},
            {file_of(R"({"t":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4),
             "the key dtype occurs twice"},
            {file_of(R"({"t":{"dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4]}})", 4),
             "the key shape occurs twice"},
            {file_of(R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}})", 4),
             "unknown key x"},
            {file_of(tensor("U8", "[[4]]", "[0,4]"), 4), "shape holds an array"},
            {file_of(tensor("U8", "4", "[0,4]"), 4), "shape holds a number"},
            {file_of(tensor("U8", R"(["4"])", "[0,4]"), 4), "shape holds a string"},
            {file_of(tensor("U8", "[-4]", "[0,4]"), 4), "shape holds a negative number"},
            {file_of(tensor("U8", "[4.0]", "[0,4]"), 4), "not a whole one"},
            {file_of(tensor("U8", "[4]", "[0,18446744073709551620]"), 4), "not a whole one"},
            {file_of(tensor("U8", "[{}]", "[0,4]"), 4), "shape holds an object"},
            // sizes
            {file_of(tensor("U8", "[4]", "[0]"), 4), "has 1 data_offsets"},
            {file_of(tensor("U8", "[4]", "[0,2,4]"), 4), "has 3 data_offsets"},
            {file_of(tensor("U8", "[4]", "[4,0]"), 4), "ends before it begins"},
            {file_of(tensor("U8", "[4]", "[0,4]"), 3), "ends at byte 4 of 3"},
            {file_of(tensor("U8", "[5]", "[0,4]"), 4), "takes 4 bytes, its shape and type need 5"},
            {file_of(tensor("F32", "[4]", "[0,4]"), 4), "need 16"},
            {file_of(tensor("U8", "[0]", "[0,4]"), 4), "need 0"},
            {file_of(tensor("U8", "[4294967296,4294967296]", "[0,0]"), 0), "more elements"},
            {file_of(tensor("F64", "[2305843009213693952]", "[0,0]"), 0), "more elements"},
            {file_of(tensor("U8", "[0,4294967296,4294967296]", "[0,0]"), 0), "more elements"},
            // together
            {file_of(tensor("U8", "[4]", "[1,5]"), 5), "1 bytes before tensor t"},
            {file_of(tensor("U8", "[4]", "[0,4]"), 6), "2 bytes at its end"},
            {file_of(R"({"t":)" + u + R"(,"v":)" + u + "}", 4), "overlaps"},
            {file_of(R"({"t":)" + u + R"(,"v":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
                     5),
             "tensor v overlaps"},
        };
        for (const Case& c : cases) {
            const std::string fault = fault_of(c.bytes);
            CAPTURE(fault);
            CHECK_MESSAGE(has(fault, c.words), c.words);
        }
    }

    TEST_CASE("safetensors: a head above 100 MB is refused before it is read") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "w.safetensors";
        const std::uint64_t length = 100'000'001;
        std::string bytes(8, '\0');
        std::memcpy(bytes.data(), &length, 8);
        write_file(path, bytes + "{");
        fs::resize_file(path, 100'000'100);  // sparse
        CHECK_THROWS_WITH_AS(SafetensorsFile{path}, doctest::Contains("100000001 bytes"), Error);
    }

    TEST_CASE("safetensors: a folder, a missing file and a deep nesting are input errors") {
        const test::TemporaryFolder folder;
        CHECK_THROWS_WITH_AS(SafetensorsFile{folder.path()}, doctest::Contains("not a regular"),
                             Error);
        CHECK_THROWS_WITH_AS(SafetensorsFile{folder.path() / "x"}, doctest::Contains("cannot read"),
                             Error);
        std::string deep = "{\"t\":";
        for (int i = 0; i < 100'000; ++i) deep += "[";
        CHECK(has(fault_of(file_of(deep, 0)), "t is an array"));
    }

    TEST_CASE(
        "write_safetensors: same bytes each time; a repeated name or a wrong size is our bug") {
        CHECK(sound_file() == sound_file());
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "s.safetensors";
        const std::string four = "1234";
        const TensorView t{.name = "t", .dtype = Dtype::u8, .shape = {4}, .bytes = bytes_of(four)};
        TensorView wrong = t;
        wrong.shape = {5};
        for (const std::vector<TensorView>& bad :
             {std::vector<TensorView>{t, t}, std::vector<TensorView>{wrong}}) {
            CHECK_THROWS_AS(write_safetensors(path, bad), Error);
        }
        CHECK_FALSE(fs::exists(path));
    }

    TEST_CASE("stream_safetensors: pieces of any size give the file of whole tensors") {
        const test::TemporaryFolder folder;
        const fs::path whole = folder.path() / "whole", streamed = folder.path() / "streamed";
        const std::string numbers = "abcdefghijklmnop";
        const std::vector<TensorView> views{
            {.name = "a", .dtype = Dtype::u8, .shape = {5}, .bytes = bytes_of(numbers).first(5)},
            {.name = "b", .dtype = Dtype::f32, .shape = {2, 2}, .bytes = bytes_of(numbers)},
            {.name = "none", .dtype = Dtype::f32, .shape = {0}, .bytes = {}}};
        write_safetensors(whole, views, {{"k", "v"}});
        std::vector<TensorHead> heads;
        for (const TensorView& v : views) heads.push_back({v.name, v.dtype, v.shape});
        std::string order;
        stream_safetensors(streamed, heads,
                           [&](std::size_t i, const TakeBytes& take) {
                               order += heads[i].name + " ";
                               for (const std::byte& b : views[i].bytes) take({&b, 1});
                           },
                           {{"k", "v"}});
        CHECK(order == "b none a ");
        CHECK(read_file(streamed) == read_file(whole));

        // Too few bytes, too many, or a fault on the way: no file, no temporary file
        for (const std::size_t count : {4u, 6u}) {
            CHECK_THROWS_AS(stream_safetensors(folder.path() / "x", std::span(heads).first(1),
                                               [&](std::size_t, const TakeBytes& take) {
                                                   take(bytes_of(numbers).first(count));
                                               }),
                            Error);
        }
        CHECK_THROWS_AS(
            stream_safetensors(folder.path() / "x", heads,
                               [&](std::size_t, const TakeBytes&) { throw std::bad_alloc(); }),
            std::bad_alloc);
        CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 2);
    }

    TEST_CASE("take_in_pieces: whole elements, in order, all of them") {
        std::string text(10'000'000, 'x');
        for (std::size_t i = 0; i < text.size(); i += 97) text[i] = static_cast<char>(i % 101);
        std::string joined;
        int pieces = 0;
        take_in_pieces(bytes_of(text), 7, [&](std::span<const std::byte> bytes) {
            joined.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
            if (joined.size() < text.size()) CHECK(bytes.size() % 7 == 0);
            ++pieces;
        });
        CHECK(joined == text);
        CHECK(pieces == 3);
    }

    TEST_CASE("give_back_pages: a mapped file is read again, other memory stays as it is") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "f";
        std::string content(1 << 20, 'a');
        for (std::size_t i = 0; i < content.size(); i += 1000) content[i] = static_cast<char>(i);
        write_file(path, content);
        const MappedFile file = map_file(path);
        const auto text = [](std::span<const std::byte> bytes) {
            return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        };
        CHECK(text(file.bytes) == content);
        give_back_pages(file.bytes);
        give_back_pages(file.bytes.subspan(5000, 20000));
        CHECK(text(file.bytes) == content);
        // The kernel would clear other memory: the heap, and the stack, which lies above all maps
        const std::string heap = content;
        std::array<char, 1 << 17> stack;
        std::copy_n(content.begin(), stack.size(), stack.begin());
        give_back_pages(bytes_of(heap));
        give_back_pages(std::as_bytes(std::span(stack)));
        CHECK(heap == content);
        CHECK(std::equal(stack.begin(), stack.end(), content.begin()));
    }
}

TEST_SUITE("property") {
    TEST_CASE(
        "safetensors: thousands of mutated and truncated files load or fail as input, never else") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "w.safetensors";
        const std::string sound = sound_file();
        std::uint64_t head = 0;
        std::memcpy(&head, sound.data(), 8);
        const std::vector<std::string> words{
            "[", "]",  "{",  "}",    ",", ":",     "\"",    "-1",     "1e9",           "null",
            "0", "\\", "F8", "\xff", "9", "shape", "dtype", "\"t\":", "[0,4294967296]"};
        int loaded = 0;
        int refused = 0;
        for (std::uint64_t i = 0; i < 4000; ++i) {
            Rng rng(7, i);
            std::string bytes = sound;
            const auto below = [&](std::size_t n) {
                return static_cast<std::size_t>(rng.below(static_cast<std::uint32_t>(n)));
            };
            const std::size_t changes = 1 + below(4);
            for (std::size_t k = 0; k < changes && !bytes.empty(); ++k) {
                switch (below(6)) {
                    case 0:
                        bytes.resize(below(bytes.size()));
                        break;
                    case 1:
                        bytes[below(bytes.size())] ^= static_cast<char>(1U << below(8));
                        break;
                    case 2:
                        bytes[below(std::min<std::size_t>(bytes.size(), 8 + head))] =
                            static_cast<char>(below(256));
                        break;
                    case 3:
                        bytes.insert(below(bytes.size()), words[below(words.size())]);
                        break;
                    case 4:
                        bytes.erase(below(bytes.size()), 1 + below(9));
                        break;
                    default: {  // keep the length honest, so that the JSON behind it is reached
                        const std::string word = words[below(words.size())];
                        bytes.insert(std::min<std::size_t>(bytes.size(), 8 + below(head)), word);
                        const std::uint64_t longer = head + word.size();
                        if (bytes.size() >= 8) std::memcpy(bytes.data(), &longer, 8);
                    }
                }
            }
            std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
            try {
                const SafetensorsFile file(path);
                ++loaded;
                // Every byte that a view shows can be read
                unsigned sum = 0;
                for (const TensorView& t : file.tensors()) {
                    for (const std::byte b : t.bytes) sum += static_cast<unsigned>(b);
                }
                CHECK(sum <= 255U * bytes.size());
            } catch (const Error& error) {
                ++refused;
                CHECK_MESSAGE(error.fault() == Fault::input, error.what());
            }
        }
        CHECK(loaded > 100);  // changed data bytes and names
        CHECK(refused > 2000);
    }

    TEST_CASE("safetensors: a file cut anywhere is refused") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "w.safetensors";
        const std::string sound = sound_file();
        for (std::size_t n = 0; n < sound.size(); ++n) {
            std::ofstream(path, std::ios::binary | std::ios::trunc) << sound.substr(0, n);
            CHECK_THROWS_AS(SafetensorsFile{path}, Error);
        }
    }
}
