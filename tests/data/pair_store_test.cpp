#include <hdf5.h>
#include <sys/resource.h>

#include <csignal>
#include <limits>
#include <thread>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/base/random.h"
#include "data/file.h"
#include "data/hdf5_chunks.h"
#include "data/pair_store.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

cv::Mat noise(int rows, int columns, int type, std::uint64_t seed) {
    cv::Mat mat(rows, columns, type);
    Rng rng(seed, 0);
    for (int y = 0; y < rows; ++y) {
        for (std::size_t i = 0; i < mat.step[0]; ++i) {
            // Smooth enough to compress, different everywhere
            mat.ptr(y)[i] = static_cast<unsigned char>(y + static_cast<int>(i / 8) +
                                                       static_cast<int>(rng.below(4)));
        }
    }
    return mat;
}

StoredPair pair_of(const std::string& scene, double scale, int type, std::uint64_t seed = 1) {
    StoredPair pair;
    pair.scene = scene;
    pair.scale.ratio = scale;
    pair.lr = noise(40, 37, type, seed);
    pair.hr = noise(static_cast<int>(40 * scale), static_cast<int>(37 * scale), type, seed + 1);
    return pair;
}

StoredPair full_pair() {
    StoredPair pair = pair_of("pier", 8, CV_16UC3);
    pair.weight = cv::Mat(40, 37, CV_32F);
    for (int i = 0; i < 40 * 37; ++i) pair.weight.ptr<float>()[i] = static_cast<float>(i) / 2048.0F;
    pair.shift = cv::Mat(2, 3, CV_32FC2);
    for (int i = 0; i < 12; ++i) pair.shift.ptr<float>()[i] = 0.1F * static_cast<float>(i);
    pair.attributes = parse_json(R"({
        "model": "camera", "rounds": 12, "accepted": true, "sigma_est": 0.0125, "focal": null,
        "theta": [0.1, -2, 3e-7], "lr_window": [1, 2, 3, 4], "sources": ["a.nef", "b.nef"],
        "covariance": [[1.5, 0], [0, 2.5]], "flags": [true, false], "none": [],
        "exif": {"iso": 100, "lens": {"name": "Z 28-400"}},
        "frames": [{"name": "a"}, {"name": "b", "sizes": [[1, 2], [3]]}], "größe": "Straße"})",
                                 "test");
    return pair;
}

bool equal(const cv::Mat& a, const cv::Mat& b) {
    return a.size() == b.size() && a.type() == b.type() && cv::norm(a, b, cv::NORM_INF) == 0;
}

template <class Action>
std::string sentence_of(Action&& action, Fault fault = Fault::input) {
    try {
        action();
    } catch (const Error& error) {
        return error.fault() == fault ? error.sentence() : "another fault: " + error.sentence();
    }
    return {};
}
bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

std::size_t files_in(const fs::path& folder) {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder)) ++n;
    return n;
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("write_pair_store: pixels, weights, shifts and attributes come back") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "deep/pier.h5";
        const StoredPair pair = full_pair();
        write_pair_store(path, {pair});
        const PairStore store(path);
        REQUIRE(store.entries().size() == 1);
        const PairStore::Entry& entry = store.entries().front();
        CHECK(entry.scene == "pier");
        CHECK(entry.scale.ratio == 8);
        CHECK(entry.group == "x8");
        CHECK(entry.lr_size == PixelSize{37, 40});
        CHECK(entry.hr_size == PixelSize{296, 320});
        CHECK(entry.hr_bits == 16);
        CHECK(equal(store.read_lr(entry), pair.lr));
        CHECK(equal(store.read_hr(entry), pair.hr));
        const StoredPair back = store.read(entry);
        CHECK(back.scene == "pier");
        CHECK(equal(back.hr, pair.hr));
        CHECK(equal(back.weight, pair.weight));  // all are halves: 11 bits
        CHECK(equal(back.shift, pair.shift));
        const Json& a = back.attributes;
        CHECK(a["model"] == "camera");
        CHECK(a["rounds"].is_number_integer());
        CHECK(a["rounds"] == 12);
        CHECK(a["accepted"] == true);
        CHECK(a["sigma_est"] == 0.0125);
        CHECK(a["focal"].is_null());
        CHECK(a["theta"] == Json({0.1, -2.0, 3e-7}));
        CHECK(a["lr_window"] == Json({1, 2, 3, 4}));
        CHECK(a["sources"] == Json({"a.nef", "b.nef"}));
        CHECK(a["covariance"] == Json({{1.5, 0.0}, {0.0, 2.5}}));
        CHECK(a["flags"] == Json({true, false}));
        CHECK(a["none"] == Json::array());
        CHECK(a["exif.iso"] == 100);
        CHECK(a["exif.lens.name"] == "Z 28-400");
        CHECK(a["frames.1.name"] == "b");
        CHECK(a["frames.1.sizes.1"] == Json::array({3}));
        CHECK(a["größe"] == "Straße");
        CHECK(a.size() == 18);
    }

    TEST_CASE("write_pair_store: plain HDF5 sees the promised layout and filters") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.h5";
        write_pair_store(path, {full_pair()});
        const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
        REQUIRE(file >= 0);
        const hid_t hr = H5Dopen2(file, "/x8/hr", H5P_DEFAULT);
        const hid_t create = H5Dget_create_plist(hr);
        hsize_t chunk[3]{};
        CHECK(H5Pget_chunk(create, 3, chunk) == 3);
        CHECK(chunk[0] == 256);
        CHECK(chunk[1] == 256);
        CHECK(chunk[2] == 3);
        REQUIRE(H5Pget_nfilters(create) == 3);
        const H5Z_filter_t expected[]{H5Z_FILTER_SHUFFLE, H5Z_FILTER_DEFLATE,
                                      H5Z_FILTER_FLETCHER32};
        for (unsigned i = 0; i < 3; ++i) {
            unsigned flags = 0, config = 0, values[8]{};
            std::size_t n = 8;
            CHECK(H5Pget_filter2(create, i, &flags, &n, values, 0, nullptr, &config) ==
                  expected[i]);
            if (i == 1) CHECK(values[0] == 4);
        }
        const hid_t lr = H5Dopen2(file, "/x8/lr", H5P_DEFAULT);
        const hid_t lr_create = H5Dget_create_plist(lr);
        H5Pget_chunk(lr_create, 3, chunk);
        CHECK(chunk[0] == 40);
        CHECK(chunk[1] == 37);
        const hid_t weight = H5Dopen2(file, "/x8/weight", H5P_DEFAULT);
        const hid_t type = H5Dget_type(weight);
        CHECK(H5Tget_size(type) == 2);
        CHECK(H5Tget_ebias(type) == 15);
        const hid_t scale = H5Aopen_by_name(file, "/x8", "scale", H5P_DEFAULT, H5P_DEFAULT);
        double value = 0;
        H5Aread(scale, H5T_NATIVE_DOUBLE, &value);
        CHECK(value == 8);
        H5Aclose(scale);
        for (const hid_t id : {type}) H5Tclose(id);
        for (const hid_t id : {create, lr_create}) H5Pclose(id);
        for (const hid_t id : {hr, lr, weight}) H5Dclose(id);
        H5Fclose(file);
    }

    TEST_CASE("write_pair_store: the same bytes for the same pairs, from any thread") {
        const test::TemporaryFolder folder;
        const std::vector<StoredPair> pairs{full_pair(), pair_of("pier", 2.5, CV_8UC3)};
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back(
                [&, i] { write_pair_store(folder.path() / std::to_string(i) / "p.h5", pairs); });
        }
        for (std::thread& thread : threads) thread.join();
        std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // times count in seconds
        write_pair_store(folder.path() / "late.h5", pairs);
        for (int i = 0; i < 4; ++i) {
            CHECK(read_file(folder.path() / std::to_string(i) / "p.h5") ==
                  read_file(folder.path() / "late.h5"));
        }
    }

    TEST_CASE(
        "pack_pair_stores: a group a scene, equal pixels and attributes, the same bytes again") {
        const test::TemporaryFolder folder;
        const fs::path a = folder.path() / "a.h5", b = folder.path() / "b.h5",
                       packed = folder.path() / "set.h5";
        write_pair_store(a, {full_pair(), pair_of("pier", 10, CV_16UC3, 5)});
        write_pair_store(b, {pair_of("tower", 8, CV_8UC3, 9)});
        pack_pair_stores(packed, {b, a});
        const PairStore store(packed);
        REQUIRE(store.entries().size() == 3);
        CHECK(store.entries()[0].group == "pier/x8");
        CHECK(store.entries()[1].group == "pier/x10");
        CHECK(store.entries()[2].scene == "tower");
        const StoredPair back = store.read(store.entries()[0]);
        CHECK(equal(back.hr, full_pair().hr));
        CHECK(back.attributes == PairStore(a).read(PairStore(a).entries()[0]).attributes);
        CHECK(equal(store.read_hr(store.entries()[2]), pair_of("tower", 8, CV_8UC3, 9).hr));
        const std::string first = read_file(packed);
        pack_pair_stores(packed, {a, b});
        CHECK(read_file(packed) == first);
        CHECK(contains(sentence_of([&] {
                           pack_pair_stores(packed, {a, b, a});
                       }),
                       "both hold pier/x8"));
        write_pair_store(folder.path() / "direct.h5",
                         {pair_of("u", 8, CV_8UC3), pair_of("t", 8, CV_8UC3)}, StoreLayout::packed);
        pack_pair_stores(packed, {folder.path() / "direct.h5", a});  // a packed one among them
        CHECK(PairStore(packed).entries().size() == 4);
        CHECK(read_file(packed) != first);
    }

    TEST_CASE("write_pair_store: a full disk is a storage fault, the old file stays whole") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.h5";
        write_pair_store(path, {pair_of("pier", 8, CV_8UC3)});
        const std::string before = read_file(path);
        const std::size_t open_before = files_in("/proc/self/fd");
        rlimit limit{};
        ::getrlimit(RLIMIT_FSIZE, &limit);
        const auto handler = std::signal(SIGXFSZ, SIG_IGN);
        for (const rlim_t bytes : {rlim_t{0}, rlim_t{1000}, rlim_t{60000}, rlim_t{150000}}) {
            rlimit small = limit;
            small.rlim_cur = bytes;
            ::setrlimit(RLIMIT_FSIZE, &small);
            const std::string said =
                sentence_of([&] { write_pair_store(path, {full_pair()}); }, Fault::storage);
            ::setrlimit(RLIMIT_FSIZE, &limit);
            CAPTURE(bytes);
            CHECK(contains(said, "cannot write " + path.string() + ": File too large"));
        }
        std::signal(SIGXFSZ, handler);
        CHECK(read_file(path) == before);
        CHECK(files_in(folder.path()) == 1);
        CHECK(files_in("/proc/self/fd") == open_before);
        CHECK(contains(sentence_of([&] { write_pair_store("/proc/none/p.h5", {full_pair()}); },
                                   Fault::storage),
                       "/proc/none"));
        write_pair_store(path, {full_pair()});  // and afterwards all is well
        CHECK(PairStore(path).entries().front().hr_bits == 16);
    }

    TEST_CASE("PairStore: missing, foreign and damaged files are input faults that name the file") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.h5";
        const auto opening = [&] { return sentence_of([&] { PairStore store(path); }); };
        CHECK(contains(opening(), "p.h5: it is not a regular file"));
        write_file(path, "a text");
        CHECK(contains(opening(), "p.h5 is no HDF5 file"));
        const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        H5Fclose(file);
        CHECK(contains(opening(), "no pair store"));

        write_pair_store(path, {full_pair()});
        const std::string whole = read_file(path);
        int refused = 0, all = 0;
        for (std::size_t keep = 0; keep < whole.size(); keep += whole.size() / 23) {
            write_file(path, whole.substr(0, keep));
            ++all;
            refused += contains(opening(), "p.h5");
        }
        CHECK(refused == all);
        // A flipped bit in the pixels breaks a chunk's checksum
        std::string flipped = whole;
        flipped[whole.size() / 2] ^= 4;
        write_file(path, flipped);
        const PairStore store(path);
        CHECK(contains(sentence_of([&] { store.read_hr(store.entries().front()); }),
                       "broken pair store"));
    }

    TEST_CASE("write_pair_store: pairs that break the rules are refused") {
        const test::TemporaryFolder folder;
        const auto refused = [&](const std::vector<StoredPair>& pairs) {
            return sentence_of([&] { write_pair_store(folder.path() / "p.h5", pairs); },
                               Fault::internal);
        };
        StoredPair pair = full_pair();
        CHECK(contains(refused({}), "no pair"));
        CHECK(contains(refused({pair, pair}), "comes twice"));
        CHECK(contains(refused({pair, pair_of("tower", 8, CV_8UC3)}), "one scene"));
        pair.scene = "a/b";
        CHECK(contains(refused({pair}), "word without /"));
        pair = full_pair();
        pair.weight = cv::Mat(3, 3, CV_32F, cv::Scalar(0));
        CHECK(contains(refused({pair}), "of LR's size"));
        pair = full_pair();
        pair.lr.convertTo(pair.lr, CV_32FC3);
        CHECK(contains(refused({pair}), "16-bit RGB"));
        pair = full_pair();
        pair.attributes["scale"] = 3;
        CHECK(contains(refused({pair}), "without scene and scale"));
        CHECK(files_in(folder.path()) == 0);
    }

    TEST_CASE("fletcher32: by hand, and a sum of 65535 is not 0") {
        CHECK(fletcher32({}) == 0);
        CHECK(fletcher32({0, 0, 0}) == 0);
        CHECK(fletcher32({1, 2}) == 0x01020102);
        CHECK(fletcher32({1, 2, 3}) == 0x05040402);  // 0x0102, then 0x0300
        CHECK(fletcher32({255, 255}) == 0xffffffff);
        CHECK(fletcher32({255, 254, 0, 1}) == 0xfffeffff);
    }

    TEST_CASE("fletcher32: HDF5 accepts the checksum of every chunk, odd lengths and zeros too") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "p.h5";
        for (int side = 1; side < 40; ++side) {
            StoredPair pair = pair_of("s", 2, CV_8UC3);
            pair.lr = noise(side, 3, CV_8UC3, static_cast<std::uint64_t>(side));
            pair.hr = side % 2 ? cv::Mat(cv::Mat::zeros(300, side, CV_16UC3))
                               : noise(300, 300 + side, CV_16UC3, 7);
            write_pair_store(path, {pair});
            const PairStore store(path);
            CHECK(equal(store.read_lr(store.entries().front()), pair.lr));
            CHECK(equal(store.read_hr(store.entries().front()), pair.hr));
        }
    }
}
