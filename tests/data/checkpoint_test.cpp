#include "data/weights/checkpoint.h"

#include <cstring>
#include <numeric>
#include <optional>
#include <set>

#include <nlohmann/json.hpp>

#include "data/base/error.h"
#include "data/base/random.h"
#include "data/file.h"
#include "data/weights/pickle_tensors.h"
#include "tests/data/pickles.h"
#include "tests/data/tensor_values.h"
#include "tests/test.h"

using namespace ultrasr;
using test::bytes_of;
using test::dict_pickle;
using test::storage;
using test::tensor;
using test::text;
using test::torch_file;
using test::values_of;
namespace fs = std::filesystem;

namespace {

Checkpoint golden_file(const std::string& name) {
    return read_checkpoint(test::golden("checkpoints/" + name));
}

/// What is wrong with these bytes; empty when they load.
std::string fault_of(const std::string& bytes) {
    try {
        parse_checkpoint(bytes_of(bytes), "w.pth");
        return {};
    } catch (const Error& error) {
        CHECK(error.fault() == Fault::input);
        CHECK(error.sentence().starts_with("w.pth"));
        return error.sentence();
    }
}

bool has(const std::string& all, const std::string& part) {
    return all.find(part) != std::string::npos;
}

std::string floats(const std::vector<float>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * 4};
}

/// Eight floats, 0 to 7.
std::string eight() { return floats({0, 1, 2, 3, 4, 5, 6, 7}); }
std::string eight_id() { return storage("0", "torch\nFloatStorage", 8); }

/// The values of a tensor with that geometry over eight().
std::vector<double> values_over_eight(std::int64_t offset, const std::vector<std::int64_t>& size,
                                      const std::vector<std::int64_t>& stride) {
    const std::string file =
        torch_file(dict_pickle({{"t", tensor(eight_id(), offset, size, stride)}}), {eight()});
    const Checkpoint checkpoint = parse_checkpoint(bytes_of(file), "w.pth");
    REQUIRE(checkpoint.find("t"));
    CHECK(checkpoint.find("t")->shape == size);
    return values_of(*checkpoint.find("t"));
}

/// The fault of a tensor "t" with that geometry.
std::string fault_over_eight(std::int64_t offset, const std::vector<std::int64_t>& size,
                             const std::vector<std::int64_t>& stride) {
    return fault_of(
        torch_file(dict_pickle({{"t", tensor(eight_id(), offset, size, stride)}}), {eight()}));
}

/// The fault of a file whose only value is this pickled one.
std::string fault_of_value(const std::string& value) {
    return fault_of(torch_file(dict_pickle({{"t", value}}), {eight()}));
}

std::vector<std::string> names_of(const std::string& pickle) {
    const std::string file = torch_file(pickle, {eight()});
    const Checkpoint checkpoint = parse_checkpoint(bytes_of(file), "w.pth");
    std::vector<std::string> names;
    for (const TensorView& t : checkpoint.tensors()) names.push_back(t.name);
    return names;
}

std::string one() { return tensor(eight_id(), 0, {1}, {1}); }

std::string legacy_head() {
    return std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.") +
           "\x80\x02M\xe9\x03.";
}

std::string legacy_file(const std::string& object, const std::string& keys, const std::string& data,
                        const std::string& system = "}.") {
    return legacy_head() + system + object + keys + data;
}

}  // namespace

TEST_SUITE("golden") {
    TEST_CASE("checkpoint: what torch.load gives back is what we read, in every format") {
        const Json expected =
            parse_json(read_file(test::golden("checkpoints/expected.json")), "expected.json");
        const std::map<std::string, std::string> dtypes{
            {"float64", "F64"}, {"float32", "F32"}, {"float16", "F16"}, {"bfloat16", "BF16"},
            {"int64", "I64"},   {"int32", "I32"},   {"int16", "I16"},   {"int8", "I8"},
            {"uint8", "U8"},    {"bool", "BOOL"}};
        CHECK(expected["files"].size() == 17);
        for (const auto& [file, record] : expected["files"].items()) {
            CAPTURE(file);
            const Checkpoint checkpoint = golden_file(file);
            CHECK(checkpoint.tensors().size() == record["tensors"].size());
            for (const auto& [name, wanted] : record["tensors"].items()) {
                CAPTURE(name);
                const TensorView* t = checkpoint.find(name);
                REQUIRE(t);
                CHECK(dtype_name(t->dtype) == dtypes.at(wanted["dtype"]));
                CHECK(t->shape == wanted["shape"].get<std::vector<std::int64_t>>());
                const std::vector<double> values = values_of(*t);
                // Few, small multiples of 1/8 or random float32: sums differ by order only
                CHECK(std::accumulate(values.begin(), values.end(), 0.0) ==
                      doctest::Approx(wanted["sum"].get<double>()).epsilon(1e-12));
                const auto first = wanted["first"].get<std::vector<double>>();
                const auto last = wanted["last"].get<std::vector<double>>();
                REQUIRE(first.size() == std::min<std::size_t>(4, values.size()));
                CHECK(std::equal(first.begin(), first.end(), values.begin()));
                CHECK(std::equal(last.rbegin(), last.rend(), values.rbegin()));
            }
            for (const auto& [name, value] : record["extras"].items()) {
                CAPTURE(name);
                REQUIRE(checkpoint.extras().contains(name));
                CHECK(checkpoint.extras()[name] == value);
            }
        }
    }

    TEST_CASE("checkpoint: formats are recognised by content") {
        const std::vector<std::pair<std::string, std::string>> formats{
            {"state_dict.pth", "zip-pickle"},         {"lightning.ckpt", "zip-pickle"},
            {"legacy.pth", "legacy-pickle"},          {"legacy_protocol1.pth", "legacy-pickle"},
            {"python2_ordered.pth", "legacy-pickle"}, {"script.pt", "torchscript"},
            {"plain.safetensors", "safetensors"}};
        for (const auto& [file, format] : formats) {
            CAPTURE(file);
            CHECK(checkpoint_format_name(golden_file(file).format()) == format);
        }
        CHECK(golden_file("plain.safetensors").metadata().at("format") == "pt");
        CHECK(golden_file("plain.safetensors").extras().empty());
        CHECK(golden_file("script.pt").metadata().empty());
    }

    TEST_CASE("checkpoint: TorchScript keeps half, float and integer apart") {
        const Checkpoint script = golden_file("script.pt");
        CHECK(script.find("visual.conv1.weight")->dtype == Dtype::f16);
        CHECK(script.find("visual.bn1.running_var")->dtype == Dtype::f32);
        CHECK(script.find("visual.bn1.num_batches_tracked")->dtype == Dtype::i64);
        CHECK(script.find("logit_scale")->shape.empty());
    }

    TEST_CASE("checkpoint: contiguous tensors are views into the file, and share its storages") {
        const std::string file = read_file(test::golden("checkpoints/views.pth"));
        const Checkpoint views = parse_checkpoint(bytes_of(file), "views.pth");
        const std::byte* begin = bytes_of(file).data();
        const auto inside = [&](const char* name) {
            const std::byte* at = views.find(name)->bytes.data();
            return at >= begin && at < begin + file.size();
        };
        for (const char* name : {"all", "rows", "scalar", "one_row"}) CHECK(inside(name));
        for (const char* name : {"column", "transposed", "expanded", "channels_last"}) {
            CHECK_FALSE(inside(name));
        }
        CHECK(views.find("rows")->bytes.data() == views.find("all")->bytes.data() + 2 * 8 * 4);
        CHECK(views.find("none")->bytes.empty());
    }

    TEST_CASE("checkpoint: types that are not read are refused with the tensor's name") {
        const std::vector<std::pair<std::string, std::string>> files{
            {"complex.pth", "torch.ComplexFloatStorage"},
            {"complex_legacy.pth", "torch.ComplexFloatStorage"},
            {"float8.pth", "torch.float8_e4m3fn"},
            {"uint16.pth", "torch.uint16"},
            {"sparse.pth", "_rebuild_sparse_tensor"},
            {"quantized.pth", "_rebuild_qtensor"}};
        for (const auto& [file, type] : files) {
            CAPTURE(file);
            try {
                golden_file(file);
                FAIL("was read");
            } catch (const Error& error) {
                CHECK(error.fault() == Fault::input);
                CHECK(has(error.sentence(), file + ": tensor bad: it is"));
                CHECK(has(error.sentence(), type));
                CHECK(has(error.sentence(), "not supported"));
            }
        }
    }

    TEST_CASE("checkpoint: the LPIPS heads and DISTS as their authors published them") {
        const std::vector<std::pair<std::string, std::vector<std::int64_t>>> files{
            {"lpips_head_alex.pth", {64, 192, 384, 256, 256}},
            {"lpips_head_vgg.pth", {64, 128, 256, 512, 512}},
            {"lpips_head_squeeze.pth", {64, 128, 256, 384, 384, 512, 512}}};
        for (const auto& [file, channels] : files) {
            const auto path = test::shared("weights/" + file);
            if (!path) return;
            const Checkpoint head = read_checkpoint(*path);
            REQUIRE(head.tensors().size() == channels.size());
            for (std::size_t i = 0; i < channels.size(); ++i) {
                const TensorView* t = head.find(fmt::format("lin{}.model.1.weight", i));
                REQUIRE(t);
                CHECK(t->shape == std::vector<std::int64_t>{1, channels[i], 1, 1});
                for (const double v : values_of(*t)) CHECK(v >= 0);  // the authors clamp them
            }
        }
        const auto path = test::shared("weights/DISTS_weights-f5e65c96.pth");
        if (!path) return;
        const Checkpoint dists = read_checkpoint(*path);
        double sum = 0;
        for (const char* name : {"alpha", "beta"}) {
            REQUIRE(dists.find(name));
            CHECK(dists.find(name)->shape == std::vector<std::int64_t>{1, 1475, 1, 1});
            for (const double v : values_of(*dists.find(name))) sum += v;
        }
        CHECK(sum > 0);  // normalised by it
    }
}

TEST_SUITE("unit") {
    TEST_CASE("checkpoint: offsets and strides of any kind") {
        using V = std::vector<double>;
        CHECK(values_over_eight(2, {3}, {1}) == V{2, 3, 4});
        CHECK(values_over_eight(0, {2, 4}, {4, 1}) == V{0, 1, 2, 3, 4, 5, 6, 7});
        CHECK(values_over_eight(0, {4, 2}, {1, 4}) == V{0, 4, 1, 5, 2, 6, 3, 7});
        CHECK(values_over_eight(1, {3}, {3}) == std::vector<double>{1, 4, 7});
        CHECK(values_over_eight(5, {2, 2}, {0, 1}) == V{5, 6, 5, 6});
        CHECK(values_over_eight(6, {2, 3}, {1, 0}) == V{6, 6, 6, 7, 7, 7});
        CHECK(values_over_eight(0, {2, 2, 2}, {1, 2, 4}) == V{0, 4, 2, 6, 1, 5, 3, 7});
        CHECK(values_over_eight(7, {}, {}) == V{7});
        CHECK(values_over_eight(0, {1, 8, 1}, {99, 1, 99}).size() == 8);  // of one: no stride
        CHECK(values_over_eight(99, {3, 0}, {1, 1}).empty());
    }

    TEST_CASE(
        "checkpoint: elements outside of the storage are refused, however large the numbers") {
        const std::int64_t big = std::int64_t{1} << 62;
        CHECK(has(fault_over_eight(0, {9}, {1}), "tensor t: it reaches beyond the 8 elements"));
        CHECK(has(fault_over_eight(8, {1}, {1}), "beyond the 8 elements"));
        CHECK(has(fault_over_eight(big, {1}, {1}), "beyond the 8 elements"));
        CHECK(has(fault_over_eight(1, {2, 4}, {4, 1}), "beyond the 8 elements"));
        CHECK(has(fault_over_eight(0, {2}, {8}), "beyond the 8 elements"));
        CHECK(has(fault_over_eight(0, {3}, {big}), "beyond the 8 elements"));
        CHECK(has(fault_over_eight(0, {5}, {big}), "beyond the 8 elements"));  // 2^64
        CHECK(has(fault_over_eight(0, {2, 2}, {big, big}), "beyond the 8 elements"));
        CHECK(has(fault_over_eight(0, {big, big}, {0, 0}), "more elements than memory"));
        CHECK(has(fault_over_eight(0, {big, 4, 0}, {0, 0, 0}), "more elements than memory"));
        CHECK(has(fault_over_eight(0, {std::int64_t{1} << 61}, {1}), "more elements than memory"));
        CHECK(has(fault_over_eight(-1, {1}, {1}), "its offset is no whole number"));
        CHECK(has(fault_over_eight(0, {-1}, {1}), "size is no whole number"));
        CHECK(has(fault_over_eight(7, {2}, {-1}), "stride is no whole number"));
        CHECK(has(fault_over_eight(0, {1, 1}, {1}), "2 sizes and 1 strides"));
        const std::vector<std::int64_t> many(65, 1);
        CHECK(has(fault_over_eight(0, many, many), "65 dimensions"));
    }

    TEST_CASE("checkpoint: copies of expanded tensors are bounded by the file's size") {
        CHECK(has(fault_over_eight(0, {std::int64_t{1} << 40}, {0}), "far larger than the file"));
        // 64 MiB are allowed, over all tensors together
        CHECK(values_over_eight(3, {1 << 20}, {0}).size() == 1 << 20);
        const std::string third = tensor(eight_id(), 0, {6'000'000}, {0});
        CHECK(fault_of(torch_file(dict_pickle({{"a", third}, {"b", third}}), {eight()})).empty());
        CHECK(has(fault_of(torch_file(dict_pickle({{"a", third}, {"b", third}, {"c", third}}),
                                      {eight()})),
                  "tensor c: it is not contiguous"));
    }

    TEST_CASE("checkpoint: storages that are missing, short or of no kind") {
        CHECK(has(fault_of(torch_file(dict_pickle({{"t", one()}}))),
                  "tensor t: the zip file has no entry archive/data/0"));
        CHECK(has(fault_of(torch_file(dict_pickle({{"t", one()}}), {eight().substr(1)})),
                  "its storage has 31 bytes instead of 8 elements"));
        CHECK(has(fault_of_value(tensor(storage("0", "torch\nWideStorage", 8), 0, {1}, {1})),
                  "of the type torch.WideStorage, which is not supported"));
        CHECK(has(
            fault_of_value(tensor(storage("0", "torch.storage\nUntypedStorage", 32), 0, {1}, {1})),
            "a storage without a type"));
        CHECK(has(fault_of_value(tensor("N", 0, {1}, {1})), "it has no storage"));
        CHECK(has(fault_of_value(tensor("NQ", 0, {1}, {1})), "something that is no storage"));
        CHECK(has(fault_of_value(tensor("(" + text("storage") + "NNNNtQ", 0, {1}, {1})),
                  "a key that is no text"));
        CHECK(has(fault_of_value("ctorch._utils\n_rebuild_tensor_v2\n)R"), "it has no storage"));
        // A larger record is fine: the tensor's elements are inside
        CHECK(fault_of(torch_file(dict_pickle({{"t", one()}}), {eight() + "more"})).empty());
        // Tensors of cuda.FloatStorage, and keys that are numbers
        CHECK(fault_of_value(tensor(storage("0", "torch.cuda\nFloatStorage", 8), 0, {1}, {1}))
                  .empty());
        CHECK(fault_of_value(tensor("(" + text("storage") + "ctorch\nFloatStorage\n" +
                                        test::number(0) + text("cpu") + test::number(8) + "tQ",
                                    0, {1}, {1}))
                  .empty());
    }

    TEST_CASE("checkpoint: version 3 of a tensor names its type beside an untyped storage") {
        const auto v3 = [](const std::string& id, const std::string& dtype) {
            return "ctorch._utils\n_rebuild_tensor_v3\n(" + id + test::number(1) +
                   test::tuple({2}) + test::tuple({1}) + "\x89}c" + dtype + "\n}tR";
        };
        const std::string untyped = storage("0", "torch.storage\nUntypedStorage", 32);
        const std::string file =
            torch_file(dict_pickle({{"t", v3(untyped, "torch\nfloat32")}}), {eight()});
        const Checkpoint checkpoint = parse_checkpoint(bytes_of(file), "w.pth");
        CHECK(values_of(checkpoint.tensors().at(0)) == std::vector<double>{1, 2});
        CHECK(has(fault_of_value(v3(untyped, "torch\nuint16")), "of the type torch.uint16"));
        CHECK(has(fault_of_value(v3(eight_id(), "torch\nint32")), "two different types"));
        CHECK(fault_of_value(v3(eight_id(), "torch\nfloat32")).empty());
    }

    TEST_CASE("checkpoint: names are the keys on the way, joined by dots") {
        using N = std::vector<std::string>;
        CHECK(names_of("\x80\x02" + one() + ".") == N{"root"});
        CHECK(names_of("\x80\x02](" + one() + one() + "e.") == N{"0", "1"});
        CHECK(names_of(dict_pickle({{"a", "}" + text("b") + "}K\5" + one() + "ss"},
                                    {"c", one()}})) == N{"a.b.5", "c"});
        CHECK(names_of("\x80\x02}N" + one() + "s\x88" + one() + "s)" + one() + "scm\nC\n" + one() +
                       "s.") == N{"None", "True", "#2", "m.C"});
        // Python 2's texts need not be UTF-8
        CHECK(names_of("\x80\x02}U\1\xe9" + one() + "sU\1a" + one() + "s.") == N{"#0", "a"});
        CHECK(names_of("\x80\x02"
                       "cm\nC\n)\x81}" +
                       text("w") + one() + "sb.") == N{"w"});
        CHECK(names_of("\x80\x02"
                       "cm\nC\n)\x81}" +
                       text("w") + one() + "s}" + text("slot") + one() +
                       "s\x86"
                       "b.") == N{"w", "slot"});
        // torch.nn.Module
        CHECK(names_of("\x80\x02"
                       "cm\nNet\n)\x81}" +
                       text("_parameters") + "}" + text("w") + one() + "ss" + text("_modules") +
                       "}" + text("conv") + "cm\nConv\n)\x81}" + text("_buffers") + "}" +
                       text("b") + one() + "ssbssb.") == N{"w", "conv.b"});
        CHECK(names_of("\x80\x02}" + text("_parameters") + "}" + text("w") + one() + "ss.") ==
              N{"_parameters.w"});
    }

    TEST_CASE("checkpoint: a name that occurs twice is refused") {
        CHECK(has(fault_of(torch_file(dict_pickle({{"a", one()}, {"a", one()}}), {eight()})),
                  "the name a occurs twice"));
        CHECK(has(
            fault_of(torch_file(dict_pickle({{"a.b", one()}, {"a", "}" + text("b") + one() + "s"}}),
                                {eight()})),
            "the name a.b occurs twice"));
        CHECK(has(fault_of(torch_file("\x80\x02}K\1" + one() + "s" + text("1") + one() + "s.",
                                      {eight()})),
                  "the name 1 occurs twice"));
    }

    TEST_CASE("checkpoint: what stands beside the tensors is kept as JSON") {
        const std::string file = torch_file(dict_pickle({{"n", "K\7"},
                                                         {"real", "F1.5\n"},
                                                         {"nan", "Fnan\n"},
                                                         {"yes", "\x88"},
                                                         {"no", "N"},
                                                         {"text", text("x")},
                                                         {"list", "](K\1" + text("y") + "e"},
                                                         {"empty", "]"},
                                                         {"mixed", "](K\1}" + text("z") + "K\2se"},
                                                         {"bytes", "C\1x"},
                                                         {"class", "cm\nC\n"},
                                                         {"huge", "L123456789012345678901L\n"}}));
        const Json wanted = parse_json(
            R"({"n":7,"real":1.5,"nan":"nan","yes":true,"no":null,"text":"x","list":[1,"y"],)"
            R"("empty":[],"mixed.0":1,"mixed.1.z":2})",
            "here");
        CHECK(parse_checkpoint(bytes_of(file), "w.pth").extras() == wanted);
    }

    TEST_CASE("checkpoint: structures that hold themselves end") {
        // A list in itself; an object that its own attribute owns
        CHECK(names_of("\x80\x02]q\1(h\1" + one() + "e.") == std::vector<std::string>{"1"});
        CHECK(names_of("\x80\x02"
                       "cm\nC\n)\x81q\1}(" +
                       text("parent") + "h\1" + text("w") + one() + "ub.") ==
              std::vector<std::string>{"w"});
    }

    TEST_CASE("checkpoint: shared nodes that unfold without end are stopped") {
        // Forty lists, each twice in the next: 2^40 values
        std::string lists = "\x80\x02](NNe";
        std::string objects =
            "\x80\x02"
            "cm\nC\n)\x81";
        std::string modules =
            "\x80\x02"
            "c__torch__\nC\n)\x81";
        for (int i = 0; i < 40; ++i) {
            const std::string index(1, static_cast<char>(i));
            lists += "q" + index + "0](h" + index + "h" + index + "}e";
            const std::string twice = "q" + index + "0cm\nC\n)\x81}(" + text("a") + "h" + index +
                                      text("b") + "h" + index + "ub";
            objects += twice;
            modules += "q" + index + "0c__torch__\nC\n)\x81}(" + text("a") + "h" + index +
                       text("b") + "h" + index + "ub";
        }
        CHECK(has(fault_of(torch_file(lists + ".")), "unfold to more than"));
        CHECK(has(fault_of(torch_file(modules + ".")), "unfold to more than"));
        CHECK(fault_of(torch_file(objects + ".")).empty());  // foreign ones are entered once
        CHECK(has(fault_of(torch_file("\x80\x02N" + std::string(100'000, '\x85') + ".")),
                  "nests deeper than 1000"));
        // One long key over many values
        std::string keys = "\x80\x02}" + text(std::string(1 << 20, 'k')) + "}(";
        for (int i = 0; i < 100; ++i) keys += text(fmt::format("{}", i)) + "N";
        CHECK(has(fault_of(torch_file(keys + "us.")), "names and texts unfold to more than"));
    }

    TEST_CASE("checkpoint: files that are something else are called by their name") {
        const std::vector<std::pair<std::string, std::string>> files{
            {"", "it is empty"},
            {"\n <!DOCTYPE html><html>", "it is a web page"},
            {"<html><body>404</body>", "it is a web page"},
            {"<?xml version=\"1.0\"?><Error>AccessDenied</Error>", "it is a web page"},
            {"version https://git-lfs.github.com/spec/v1\noid sha256:ab", "git-lfs pointer"},
            {"\x93NUMPY\x01", "numpy array"},
            {test::zip_file({{"a.npy", "x"}, {"b.npy", "y"}}), "numpy archive"},
            {"PK\x05\x06" + std::string(18, '\0'), "an empty zip file"},
            {test::zip_file({{"readme.txt", "x"}}), "without data.pkl"},
            {test::zip_file({{"a/data.pkl", "x"}, {"b/data.pkl", "y"}}), "several data.pkl"},
            {"\x1f\x8b\x08", "compressed with gzip"},
            {"\x89HDF\r\n", "HDF5"},
            {"GGUF\3", "GGUF"},
            {"{\"error\": \"not found\"}", "JSON text"},
            {std::string(257, 'x') + "ustar", "tar archive"},
            {"\x80\x02}.", "none that torch.save wrote"},
            {"\x80\x04\x95", "none that torch.save wrote"},
            {"hello world", "its first bytes: 68 65 6c 6c 6f 20 77 6f)"}};
        for (const auto& [bytes, words] : files) {
            CAPTURE(words);
            const std::string fault = fault_of(bytes);
            CAPTURE(fault);
            CHECK(has(fault, words));
        }
        CHECK_THROWS_AS(read_checkpoint("/nowhere/w.pth"), Error);
        CHECK_THROWS_AS(read_checkpoint(test::source_folder()), Error);
    }

    TEST_CASE("checkpoint: big-endian and compressed files are refused") {
        const std::string pickle = dict_pickle({{"t", one()}});
        const auto with = [&](const std::string& order) {
            return test::zip_file(
                {{"x/data.pkl", pickle}, {"x/data/0", eight()}, {"x/byteorder", order}});
        };
        CHECK(fault_of(with("little")).empty());
        CHECK(has(fault_of(with("big")), "its byte order is 'big'"));
        test::ZipOptions deflated;
        deflated.method = 8;
        CHECK(has(fault_of(torch_file(pickle, {eight()}, deflated)), "is compressed"));
        std::string damaged = torch_file(pickle, {eight()});
        damaged[damaged.find("FloatStorage")] = 'f';
        CHECK(has(fault_of(damaged), "data.pkl: the checksum"));
        damaged = torch_file(pickle, {eight()});
        damaged[damaged.find(eight()) + 5] = 'x';
        CHECK(has(fault_of(damaged), "tensor t: the checksum of the zip entry archive/data/0"));
    }

    TEST_CASE("checkpoint: legacy files that do not fit together are refused") {
        const std::string object = dict_pickle({{"t", one()}}),
                          keys = "\x80\x02]" + text("0") + "a.";
        const std::string data = test::little(8, 8) + eight();
        CHECK(fault_of(legacy_file(object, keys, data)).empty());
        CHECK(has(fault_of(legacy_file(object, "\x80\x02].", data)),
                  "its storage 0 is not in the file"));
        CHECK(has(fault_of(legacy_file(object, "\x80\x02]" + text("1") + "a.", data)),
                  "nothing says what the storage 1 holds"));
        CHECK(has(
            fault_of(legacy_file(object, "\x80\x02](" + text("0") + text("0") + "e.", data + data)),
            "the storage 0 occurs twice"));
        CHECK(
            has(fault_of(legacy_file(object, "\x80\x02}.", data)), "list of storages is no list"));
        CHECK(has(fault_of(legacy_file(object, keys, test::little(7, 8) + eight())),
                  "has 7 elements where its tensors say 8"));
        CHECK(has(fault_of(legacy_file(object, keys, data.substr(0, 20))), "cut short"));
        CHECK(has(fault_of(legacy_file(object, keys, "1234")),
                  "cut short in front of the storage 0"));
        CHECK(has(fault_of(legacy_file(object, keys, data, "}" + text("little_endian") + "\x89s.")),
                  "big-endian"));
        CHECK(has(fault_of(legacy_head().substr(0, 15) + "K\1."), "protocol version is not 1001"));
        CHECK(has(fault_of(legacy_head() + "}."), "object: broken pickle"));
        const std::string both = dict_pickle(
            {{"a", one()}, {"b", tensor(storage("0", "torch\nHalfStorage", 8), 0, {1}, {1})}});
        CHECK(has(fault_of(legacy_file(both, keys, data)), "described in two ways"));
        const std::string lengths = dict_pickle(
            {{"a", one()}, {"b", tensor(storage("0", "torch\nFloatStorage", 7), 0, {1}, {1})}});
        CHECK(has(fault_of(legacy_file(lengths, keys, data)), "described in two ways"));
        const std::string view = "(" + text("v") + "K\7K\2t";
        const std::string id = "(" + text("storage") + "ctorch\nFloatStorage\n" + text("0") +
                               text("cpu") + test::number(8) + view + "tQ";
        CHECK(has(fault_of(legacy_file(dict_pickle({{"t", tensor(id, 0, {1}, {1})}}), keys, data)),
                  "the view of its storage is larger"));
    }

    TEST_CASE("checkpoint: the bytes outlive the object with its holder") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "w.bin";  // the name says nothing
        write_file(path, torch_file(dict_pickle({{"t", tensor(eight_id(), 0, {4, 2}, {1, 4})},
                                                 {"u", tensor(eight_id(), 1, {2}, {1})}}),
                                    {eight()}));
        std::shared_ptr<const void> holder;
        std::vector<TensorView> tensors;
        {
            const Checkpoint checkpoint = read_checkpoint(path);
            holder = checkpoint.holder();
            tensors = checkpoint.tensors();
        }
        fs::remove(path);
        CHECK(values_of(tensors.at(0)) == std::vector<double>{0, 4, 1, 5, 2, 6, 3, 7});
        CHECK(values_of(tensors.at(1)) == std::vector<double>{1, 2});
    }
}

TEST_SUITE("property") {
    TEST_CASE("checkpoint: files cut short anywhere are refused, never read past their end") {
        for (const char* name :
             {"training.pth", "legacy.pth", "python2_ordered.pth", "plain.safetensors"}) {
            const std::string file = read_file(test::golden(std::string("checkpoints/") + name));
            for (std::size_t n = 0; n < file.size(); n += n < 1200 ? 1 : 7) {
                CAPTURE(name);
                CAPTURE(n);
                const std::string part = file.substr(0, n);  // of its own, for the sanitizer
                CHECK_FALSE(fault_of(part).empty());
            }
        }
    }

    TEST_CASE("checkpoint: damaged files give a result that holds together, or an error") {
        Rng rng(7, 0);
        int read = 0, refused = 0;
        for (const fs::directory_entry& entry :
             fs::directory_iterator(test::golden("checkpoints"))) {
            const std::string sound = read_file(entry.path());
            if (entry.path().extension() == ".json") continue;
            for (int i = 0; i < 600; ++i) {
                std::string file = sound;
                const int changes = 1 + static_cast<int>(rng.below(3));
                for (int c = 0; c < changes; ++c) {
                    // Where decisions are made: fronts and directories more often than data
                    const auto size = static_cast<std::uint32_t>(file.size());
                    const std::size_t at = rng.below(rng.below(2) ? size : std::min(700u, size));
                    file[at] = static_cast<char>(rng.below(256));
                }
                // Checksums would stop nearly all of it
                for (std::size_t at = 0; (at = file.find("PK\x01\x02", at)) != std::string::npos;
                     ++at) {
                    if (at + 20 <= file.size()) file.replace(at + 16, 4, std::string(4, '\0'));
                }
                try {
                    const Checkpoint checkpoint = parse_checkpoint(bytes_of(file), "damaged");
                    for (const TensorView& t : checkpoint.tensors()) {
                        std::int64_t count = 1;
                        for (const std::int64_t n : t.shape) count *= n;
                        REQUIRE(values_of(t).size() == static_cast<std::size_t>(count));
                    }
                    ++read;
                } catch (const Error& error) {
                    REQUIRE(error.fault() == Fault::input);
                    ++refused;
                }
            }
        }
        CHECK(read > 1000);
        CHECK(refused > 1000);
    }
}
