#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/pixel_unshuffle.h>

#include "data/base/error.h"
#include "data/base/progress.h"
#include "data/file.h"
#include "models/rrdbnet.h"
#include "models/srvgg.h"
#include "models/tiling.h"
#include "tests/models/nets.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

NamedTensors committed(const std::string& name) {
    const auto path = test::source_folder() / "data" / "weights" / (name + ".safetensors");
    return to_float32(state_dict_of(load_tensors(path)));
}

/// A row of the table of peer_methods.md 8.1.
struct Vector {
    double sum, std;
    double at[5];  ///< [0,0,0] [1,15,16] [2,31,31] [0,10,20] [2,5,7]
};

void check_vector(const at::Tensor& out, const Vector& v, double value_tolerance) {
    REQUIRE(out.sizes() == at::IntArrayRef({1, 3, 32, 32}));
    const at::Tensor d = out.to(at::kDouble);
    CHECK(std::abs(d.sum().item<double>() - v.sum) < 0.05);  // of the spec, for 3072 values
    CHECK(std::abs(d.std(/*unbiased=*/false).item<double>() - v.std) < value_tolerance);
    constexpr int places[5][3]{{0, 0, 0}, {1, 15, 16}, {2, 31, 31}, {0, 10, 20}, {2, 5, 7}};
    for (int k = 0; k < 5; ++k) {
        CAPTURE(k);
        const double value = d[0][places[k][0]][places[k][1]][places[k][2]].item<double>();
        CHECK(std::abs(value - v.at[k]) < value_tolerance);
    }
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
    REQUIRE(a.sizes() == b.sizes());
    return (a - b).abs().max().item<double>();
}

std::string fault_of(const std::function<void()>& action) {
    try {
        action();
    } catch (const Error& error) {
        CHECK(error.fault() == Fault::input);
        return error.sentence();
    }
    return {};
}

/// The farthest LR row and column, relative to their own LR pixel's cell, that see one LR pixel.
int measured_radius(const UpscaleNet& net, std::int64_t n) {
    const std::int64_t m = net.multiple();
    const std::int64_t centre = n / 2 / m * m;
    at::Tensor x = at::zeros({1, 3, n, n});
    x.slice(2, centre, centre + 1).slice(3, centre, centre + 1).fill_(1.0);
    const at::Tensor seen = net.forward(x).abs().sum(1).squeeze(0) > 0;
    const at::Tensor rows = seen.any(1).nonzero();
    const at::Tensor columns = seen.any(0).nonzero();
    const std::int64_t cell = net.scale() * m;  // output pixels of one cell
    const auto reach = [&](const at::Tensor& places) {
        const std::int64_t first = places.min().item<std::int64_t>() / cell * m;
        const std::int64_t last = places.max().item<std::int64_t>() / cell * m;
        CHECK(centre - first == last - centre);
        CHECK(first > 0);  // the picture was large enough to see the end
        return static_cast<int>(last - centre);
    };
    CHECK(reach(rows) == reach(columns));
    return reach(rows);
}

}  // namespace

TEST_SUITE("golden") {
    // Values of peer_methods.md 8.1, given with five digits: 2e-5 is the spec's tolerance.
    TEST_CASE("SrvggNet: the exact vectors of the released weights") {
        const at::Tensor x = test::ramp(8);
        const NamedTensors general = committed("realesr-general-x4v3");
        const NamedTensors wdn = committed("realesr-general-wdn-x4v3");
        const auto out = [&](const NamedTensors& w) { return SrvggNet(w, {}, "test").forward(x); };
        check_vector(out(committed("realesr-animevideov3")),
                     {1492.8958, 0.321831, {0.08411, 0.52805, 0.11655, 0.91813, 0.75664}}, 2e-5);
        check_vector(out(general),
                     {1505.7652, 0.272838, {-0.03614, 0.56516, 0.27938, 0.81123, 0.25080}}, 2e-5);
        check_vector(out(wdn),
                     {1446.0849, 0.284142, {-0.07886, 0.46419, 0.18008, 0.93189, 0.33319}}, 2e-5);
        check_vector(out(blend_weights(general, wdn, 0.5)),
                     {1463.8354, 0.275741, {-0.09637, 0.52349, 0.22716, 0.92239, 0.28428}}, 2e-5);
    }

    TEST_CASE("RrdbNet: the exact vector of RealESRGAN_x4plus") {
        const RrdbNet net(committed("RealESRGAN_x4plus"), {}, "test");
        check_vector(
            net.forward(test::ramp(8)),
            {1527.6366, 0.2216713, {0.3151435, 0.7522250, 0.1784007, 0.7586929, 0.4180374}}, 2e-5);
    }
}

TEST_SUITE("unit") {
    TEST_CASE("tensor counts and parameter totals of the networks") {
        const NamedTensors x4plus = committed("RealESRGAN_x4plus");
        CHECK(x4plus.size() == 702);
        CHECK(count_parameters(x4plus) == 16'697'987);
        const NamedTensors six = test::rrdb_weights(6, 64, 32, 3, true);
        CHECK(six.size() == 192);
        CHECK(count_parameters(six) == 4'467'779);
        const NamedTensors bsrgan_x2 = test::rrdb_weights(23, 64, 32, 3, false);
        CHECK(bsrgan_x2.size() == 700);
        CHECK(count_parameters(bsrgan_x2) == 16'661'059);
        CHECK(count_parameters(test::rrdb_weights(23, 64, 32, 12, true)) == 16'703'171);
        const NamedTensors anime = committed("realesr-animevideov3");
        CHECK(anime.size() == 53);
        CHECK(count_parameters(anime) == 621'424);
        const NamedTensors general = committed("realesr-general-x4v3");
        CHECK(general.size() == 101);
        CHECK(count_parameters(general) == 1'213'296);
    }

    TEST_CASE("RrdbNet: scale, multiple and output size of the four kinds") {
        struct Kind {
            std::int64_t in;
            bool two_stages;
            int scale, multiple;
        };
        for (const Kind& k : {Kind{3, true, 4, 1}, Kind{3, false, 2, 1}, Kind{12, true, 2, 2},
                              Kind{48, true, 1, 4}}) {
            const RrdbNet net(test::rrdb_weights(1, 8, 4, k.in, k.two_stages), {}, "test");
            CHECK(net.scale() == k.scale);
            CHECK(net.multiple() == k.multiple);
            // An odd size is padded and cut again
            const at::Tensor out = run_tiled(net, test::uniform({1, 3, 7, 9}, 0, 1, 1));
            CHECK(out.sizes() == at::IntArrayRef({1, 3, 7 * k.scale, 9 * k.scale}));
        }
    }

    TEST_CASE("RrdbNet: x2 by unshuffle is the x4 body on the unshuffled picture") {
        NamedTensors w = test::rrdb_weights(1, 8, 4, 12, true);
        const at::Tensor x = test::uniform({1, 3, 6, 8}, 0, 1, 1);
        const at::Tensor out = RrdbNet(w, {}, "x2").forward(x);
        // Feed one sub-picture at a time to a x4 network of the same weights: conv_first is linear,
        // so with all other channels absent both see the same numbers
        w["conv_first.weight"].zero_();
        w["conv_first.weight"].slice(1, 1, 2).fill_(0.1);  // channel 0, dy 0, dx 1
        const at::Tensor one = RrdbNet(w, {}, "x2").forward(x);
        NamedTensors x4 = w;
        x4["conv_first.weight"] = at::zeros({8, 3, 3, 3});
        x4["conv_first.weight"].slice(1, 0, 1).fill_(0.1);
        at::Tensor sub = at::zeros({1, 3, 3, 4});
        sub.slice(1, 0, 1).copy_(x.slice(1, 0, 1).slice(2, 0, 6, 2).slice(3, 1, 8, 2));
        CHECK(largest_difference(one, RrdbNet(x4, {}, "x4").forward(sub)) < 1e-6);
        CHECK(out.sizes() == at::IntArrayRef({1, 3, 12, 16}));
    }

    TEST_CASE("the three namings of RRDBNet give the same picture") {
        const auto replaced = [](std::string text, const std::string& from, const std::string& to) {
            const std::size_t at = text.find(from);
            return at == std::string::npos ? text : text.replace(at, from.size(), to);
        };
        const NamedTensors fresh = test::rrdb_weights(2, 8, 4, 3, true);
        NamedTensors old;
        NamedTensors oldest;
        for (const auto& [name, tensor] : fresh) {
            std::string o = replaced(name, "conv_body", "trunk_conv");
            o = replaced(replaced(o, "conv_up1", "upconv1"), "conv_up2", "upconv2");
            o = replaced(replaced(o, "conv_hr", "HRconv"), "rdb", "RDB");
            old["module." + replaced(o, "body.", "RRDB_trunk.")] = tensor;
            std::string e = replaced(name, "conv_body", "model.1.sub.2");
            e = replaced(replaced(e, "conv_first", "model.0"), "conv_up1", "model.3");
            e = replaced(replaced(e, "conv_up2", "model.6"), "conv_hr", "model.8");
            e = replaced(replaced(e, "conv_last", "model.10"), "rdb", "RDB");
            if (e.starts_with("body.")) {
                e = replaced(replaced(e, "body.", "model.1.sub."), ".weight", ".0.weight");
                e = replaced(e, ".bias", ".0.bias");
            }
            oldest["params_ema." + e] = tensor;
            oldest["params." + e] = at::zeros({1});  // params_ema wins
        }
        const at::Tensor x = test::ramp(8);
        const at::Tensor expected = RrdbNet(fresh, {}, "new").forward(x);
        const test::TemporaryFolder folder;
        for (const NamedTensors* weights : {&old, &oldest}) {
            const auto path = folder.path() / "w.safetensors";
            save_tensors(path, *weights);
            const RrdbNet net(state_dict_of(load_tensors(path)), {}, "renamed");
            CHECK(largest_difference(net.forward(x), expected) == 0.0);
        }
        // BSRGANx2: old names, no second doubling
        for (auto it = old.begin(); it != old.end();) {
            it = it->first.find("upconv2") == std::string::npos ? std::next(it) : old.erase(it);
        }
        CHECK(RrdbNet(state_dict_of(old), {}, "x2").scale() == 2);
    }

    TEST_CASE("float16 weights are widened, and wide and narrow files give the same picture") {
        NamedTensors narrow = test::srvgg_weights(2, 8, 2);
        for (auto& [name, tensor] : narrow) tensor = tensor.to(at::kHalf);
        const test::TemporaryFolder folder;
        save_tensors(folder.path() / "h.safetensors", narrow);
        const NamedTensors wide = to_float32(load_tensors(folder.path() / "h.safetensors"));
        CHECK(wide.begin()->second.is_floating_point());
        CHECK(wide.begin()->second.itemsize() == 4);
        const at::Tensor x = test::ramp(8);
        CHECK(largest_difference(SrvggNet(wide, {}, "a").forward(x),
                                 SrvggNet(to_float32(narrow), {}, "b").forward(x)) == 0.0);
    }

    TEST_CASE("wrong files: the sentence lists what is missing, surplus and misshapen") {
        const auto srvgg = [](const NamedTensors& w) {
            return fault_of([&] { SrvggNet(w, {}, "file.safetensors"); });
        };
        const auto rrdb = [](const NamedTensors& w) {
            return fault_of([&] { RrdbNet(w, {}, "file.safetensors"); });
        };
        const auto contains = [](const std::string& text, const std::string& part) {
            return text.find(part) != std::string::npos;
        };
        const NamedTensors anime = committed("realesr-animevideov3");
        CHECK(contains(rrdb(anime), "file.safetensors does not hold an RRDBNet"));
        CHECK(contains(srvgg(test::rrdb_weights(1, 8, 4, 3, true)), "does not hold an SRVGG"));
        CHECK(contains(srvgg({}), "does not hold"));

        // A convolution less: the depth is read from the last one
        NamedTensors w = anime;
        w.erase("body.16.weight");
        CHECK(contains(srvgg(w), "1 missing (body.16.weight)"));
        w = anime;
        w.erase("body.34.weight");
        w.erase("body.34.bias");
        CHECK(contains(srvgg(w), "does not hold"));  // ends in a PReLU
        // No PReLU
        w = anime;
        for (int n = 1; n < 34; n += 2) w.erase(fmt::format("body.{}.weight", n));
        const std::string text = srvgg(w);
        CHECK(contains(text, "17 missing (body.1.weight"));
        CHECK(contains(text, "and 7 more"));
        // Something more, something of another shape
        w = anime;
        w["extra"] = at::zeros({1});
        w["body.1.weight"] = at::zeros({63});
        CHECK(contains(srvgg(w),
                       "1 surplus (extra); 1 of another shape (body.1.weight [63] instead "
                       "of [64])"));
        w = anime;
        w["body.34.weight"] = at::zeros({50, 64, 3, 3});
        CHECK(contains(srvgg(w), "50 channels"));

        NamedTensors r = test::rrdb_weights(2, 8, 4, 3, true);
        r.erase("body.1.rdb2.conv3.bias");
        r["RRDB_trunk"] = at::zeros({1});
        CHECK(contains(rrdb(r), "1 missing (body.1.rdb2.conv3.bias); 1 surplus (RRDB_trunk)"));
        r = test::rrdb_weights(1, 8, 4, 5, true);
        CHECK(contains(rrdb(r), "3, 12 or 48"));
        // Two namings in one file
        r = test::rrdb_weights(1, 8, 4, 3, true);
        r["RRDB_trunk.0.RDB1.conv1.bias"] = at::zeros({4});
        CHECK(contains(rrdb(r), "under two names"));
    }

    TEST_CASE("blend_weights: the ends are the files, outside is a usage error") {
        const NamedTensors a = test::srvgg_weights(1, 4, 2);
        NamedTensors b = a;
        for (auto& [name, tensor] : b) tensor = tensor + 1.0;
        CHECK(at::allclose(blend_weights(a, b, 1.0).at("body.0.weight"), a.at("body.0.weight")));
        CHECK(at::allclose(blend_weights(a, b, 0.25).at("body.1.weight"),
                           a.at("body.1.weight") + 0.75));
        for (const double d : {-0.1, 1.1, std::nan("")}) {
            CHECK_THROWS_WITH_AS(blend_weights(a, b, d), doctest::Contains("between 0 and 1"),
                                 Error);
        }
        b.erase("body.1.weight");
        CHECK_THROWS_WITH_AS(blend_weights(a, b, 0.5), doctest::Contains("missing"), Error);
    }

    TEST_CASE("receptive_radius is what one pixel reaches, exactly") {
        using test::Fill;
        const SrvggNet srvgg(test::srvgg_weights(3, 4, 4, Fill::positive), {}, "test");
        CHECK(measured_radius(srvgg, 21) == 5);
        CHECK(srvgg.receptive_radius() == 5);
        for (const int blocks : {1, 2}) {
            const RrdbNet net(test::rrdb_weights(blocks, 4, 2, 3, true, Fill::positive), {}, "t");
            CHECK(net.receptive_radius() == 15 * blocks + 4);
            CHECK(measured_radius(net, 75) == net.receptive_radius());
        }
        const RrdbNet one(test::rrdb_weights(1, 4, 2, 3, false, Fill::positive), {}, "BSRGANx2");
        CHECK(measured_radius(one, 45) == one.receptive_radius());
        const RrdbNet two(test::rrdb_weights(1, 4, 2, 12, true, Fill::positive), {}, "x2plus");
        CHECK(measured_radius(two, 90) == two.receptive_radius());
        CHECK(SrvggNet(committed("realesr-animevideov3"), {}, "t").receptive_radius() == 18);
        CHECK(SrvggNet(committed("realesr-general-x4v3"), {}, "t").receptive_radius() == 34);
    }

    TEST_CASE("run_tiled: animevideov3 on 80 x 72, tile 40: equal at 18, not at 17, 10, 0") {
        const SrvggNet net(committed("realesr-animevideov3"), {}, "test");
        const at::Tensor x = test::uniform({1, 3, 72, 80}, 0, 1, 5);
        const at::Tensor whole = run_tiled(net, x);
        const auto difference = [&](int pad) {
            return largest_difference(run_tiled(net, x, {.tile = 40, .pad = pad}), whole);
        };
        // Another blocking of the same float32 sums: a few units of the last place
        CHECK(difference(18) < 1e-5);
        CHECK(difference(-1) < 1e-5);
        CHECK(difference(17) > 2e-5);
        CHECK(difference(10) > 1e-4);
        CHECK(difference(0) > 1e-2);
    }

    TEST_CASE("run_tiled: RrdbNet at its receptive radius equals the whole, all kinds, odd sizes") {
        struct Kind {
            std::int64_t in;
            bool two_stages;
        };
        for (const Kind& k : {Kind{3, true}, Kind{3, false}, Kind{12, true}, Kind{48, true}}) {
            const RrdbNet net(test::rrdb_weights(1, 8, 4, k.in, k.two_stages), {}, "test");
            const at::Tensor x = test::uniform({1, 3, 51, 67}, 0, 1, 5);
            const at::Tensor whole = run_tiled(net, x);
            CHECK(largest_difference(run_tiled(net, x, {.tile = 21, .pad = -1}), whole) < 1e-5);
            CHECK(largest_difference(run_tiled(net, x, {.tile = 21, .pad = 0}), whole) > 1e-3);
        }
    }

    TEST_CASE("run_tiled: a request to stop is heard between tiles") {
        const SrvggNet net(test::srvgg_weights(1, 4, 2), {}, "test");
        const at::Tensor x = test::ramp(16);
        Progress::interrupt();
        CHECK_THROWS_AS(run_tiled(net, x, {.tile = 4}), Interrupted);
        Progress::resume();
        CHECK_NOTHROW(run_tiled(net, x, {.tile = 4}));
    }

    TEST_CASE("run_tiled: pictures of one pixel and thinner than the padding work") {
        const RrdbNet net(test::rrdb_weights(1, 8, 4, 48, true), {}, "x1");
        CHECK(run_tiled(net, test::uniform({1, 3, 1, 1}, 0, 1, 1)).sizes() ==
              at::IntArrayRef({1, 3, 1, 1}));
        CHECK(run_tiled(net, test::uniform({1, 3, 2, 9}, 0, 1, 1)).sizes() ==
              at::IntArrayRef({1, 3, 2, 9}));
    }

    TEST_CASE("bf16 stays near float32, and says whether it is emulated") {
        const Placement bf16 =
            place(test::with([](MethodOptions& o) { o.precision = Precision::bf16; }));
        CHECK(dtype_name(bf16).starts_with("bf16"));
        const NamedTensors w = committed("realesr-animevideov3");
        const at::Tensor x = test::ramp(24);
        const at::Tensor a = SrvggNet(w, {}, "t").forward(x);
        const at::Tensor b = SrvggNet(w, bf16, "t").forward(x);
        CHECK(b.itemsize() == 4);
        const double mse = (a - b).square().mean().item<double>();
        CHECK(mse > 0.0);
        CHECK(10.0 * std::log10(1.0 / mse) > 35.0);  // 8 bits of mantissa through 18 layers
    }

    TEST_CASE("place: unknown devices are usage errors, absent ones device errors") {
        const auto fault = [](const MethodOptions& options) {
            try {
                place(options);
            } catch (const Error& error) {
                return error.fault();
            }
            return Fault::internal;
        };
        const auto on = [](const char* device) {
            return test::with([&](MethodOptions& o) { o.device = device; });
        };
        CHECK(fault(on("gpu")) == Fault::usage);
        CHECK(fault(on("cuda:x")) == Fault::usage);
        CHECK(fault(on("cuda:99")) == Fault::device);
        CHECK(fault(test::with([](MethodOptions& o) { o.precision = Precision::fp16; })) ==
              Fault::device);
    }

    TEST_CASE("load_tensors: unaligned and empty tensors are copied, not viewed") {
        const test::TemporaryFolder folder;
        const auto path = folder.path() / "u.safetensors";
        const std::string head = R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                 R"("f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},)"
                                 R"("e":{"dtype":"F32","shape":[0,2],"data_offsets":[5,5]}})";
        std::string bytes(8, '\0');
        bytes[0] = static_cast<char>(head.size());
        write_file(path, bytes + head + std::string("\x07\0\0\x80\x3f", 5));
        const NamedTensors t = load_tensors(path);
        CHECK(t.at("f").item<float>() == 1.0F);
        CHECK(t.at("b").item<int>() == 7);
        CHECK(t.at("e").numel() == 0);
    }
}
