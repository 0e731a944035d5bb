// Shards: written, read, the same bytes twice, and files that are none.
#include <chrono>
#include <thread>
#include <opencv2/core.hpp>

#include "data/file.h"
#include "data/hdf5_handle.h"
#include "degradation/shard_file.h"
#include "tests/degradation/steps.h"
#include "tests/test.h"

namespace ultrasr {
namespace {

namespace fs = std::filesystem;

cv::Mat noise(int width, int height, std::uint64_t seed) {
    return rgb8_of_planar(test::noise_picture(3, height, width, seed));
}

ShardItem item_of(std::size_t i) {
    const auto seed = static_cast<std::uint64_t>(10 * i);
    return {.id = "städte/" + std::to_string(i),
            .record = R"({"id":")" + std::to_string(i) + R"(","note":"Straße"})",
            .pictures = {{"gt", noise(24, 16, seed)},
                         {"lr_x8", noise(3, 2, seed + 1)},
                         {"lr_x4", noise(6, 4, seed + 2)}}};
}

bool equal(const cv::Mat& a, const cv::Mat& b) {
    return a.size() == b.size() && a.type() == b.type() && cv::norm(a, b, cv::NORM_INF) == 0;
}

std::string fault_of(const fs::path& path) {
    return test::sentence_of([&] {
        const ShardFile shard(path);
        for (std::size_t i = 0; i < shard.ids().size(); ++i) {
            for (const std::string& name : shard.pictures()) shard.read(name, i);
            shard.record(i);
        }
    });
}

TEST_SUITE("unit") {
    TEST_CASE("shards: what was written comes back, in order") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "below" / "shard-00000.h5";
        std::vector<std::size_t> asked;
        write_shard(path, 5, R"({"seed":1})", [&](std::size_t i) {
            asked.push_back(i);
            return item_of(i);
        });
        CHECK(asked == std::vector<std::size_t>{0, 1, 2, 3, 4});
        const ShardFile shard(path);
        CHECK(shard.pictures() == std::vector<std::string>{"gt", "lr_x4", "lr_x8"});
        REQUIRE(shard.ids().size() == 5);
        for (const std::size_t i : {4U, 0U, 2U, 1U, 3U}) {
            const ShardItem item = item_of(i);
            CHECK(shard.ids()[i] == item.id);
            CHECK(shard.record(i) == item.record);
            for (const auto& [name, rgb] : item.pictures) CHECK(equal(shard.read(name, i), rgb));
        }
        // Only the shard is left, no temporary
        std::size_t files = 0;
        for ([[maybe_unused]] const auto& entry : fs::directory_iterator(path.parent_path()))
            ++files;
        CHECK(files == 1);
    }

    TEST_CASE("shards: rows with gaps are stored like whole ones") {
        const test::TemporaryFolder folder;
        const cv::Mat large = noise(40, 30, 1), part = large(cv::Rect(5, 7, 24, 16));
        REQUIRE_FALSE(part.isContinuous());
        write_shard(folder.path() / "s.h5", 1, "{}", [&](std::size_t) {
            return ShardItem{.id = "a", .record = "{}", .pictures = {{"gt", part}}};
        });
        CHECK(equal(ShardFile(folder.path() / "s.h5").read("gt", 0), part.clone()));
    }

    TEST_CASE("shards: the same bytes for the same items, others for others") {
        const test::TemporaryFolder folder;
        const auto bytes = [&](const std::string& name, const std::string& options,
                               std::size_t shift) {
            write_shard(folder.path() / name, 3, options,
                        [&](std::size_t i) { return item_of(i + shift); });
            return read_file(folder.path() / name);
        };
        const std::string first = bytes("a.h5", "{}", 0);
        std::this_thread::sleep_for(std::chrono::milliseconds(1050));  // HDF5's clock ticks seconds
        CHECK(bytes("b.h5", "{}", 0) == first);
        CHECK(bytes("a.h5", "{}", 0) == first);  // over itself
        CHECK(bytes("c.h5", R"({"x":1})", 0) != first);
        CHECK(bytes("d.h5", "{}", 1) != first);
    }

    TEST_CASE("shards: pictures that do not fit leave nothing behind") {
        const test::TemporaryFolder folder;
        const fs::path path = folder.path() / "s.h5";
        const auto fault = [&](auto&& change) {
            const std::string sentence = test::sentence_of([&] {
                write_shard(path, 3, "{}", [&](std::size_t i) {
                    ShardItem item = item_of(i);
                    if (i == 2) change(item);
                    return item;
                });
            });
            CHECK(fs::is_empty(folder.path()));
            return sentence;
        };
        const std::string size =
            fault([](ShardItem& item) { item.pictures[1].second = noise(3, 3, 1); });
        for (const char* word : {"städte/2", "'lr_x8'", "3 x 3", "3 x 2", "--patch"}) {
            CHECK(test::has(size, word));
        }
        CHECK(test::has(fault([](ShardItem& item) { item.pictures.pop_back(); }), "lacks"));
        CHECK(test::has(
            fault([](ShardItem& item) { item.pictures.emplace_back("gt_usm", noise(24, 16, 1)); }),
            "the first of its shard has not"));
        // A fault of the giver passes through
        CHECK(test::has(test::sentence_of([&] {
                            write_shard(path, 1, "{}", [](std::size_t) -> ShardItem {
                                fail(Fault::input, "the picture is gone");
                            });
                        }),
                        "the picture is gone"));
        CHECK(fs::is_empty(folder.path()));
        // An earlier shard stays whole
        write_shard(path, 3, "{}", item_of);
        const std::string before = read_file(path);
        test::sentence_of([&] {
            write_shard(path, 1, "{}", [](std::size_t) -> ShardItem { fail(Fault::input, "no"); });
        });
        CHECK(read_file(path) == before);
    }

    TEST_CASE("ShardFile: files that are no shard, and broken ones") {
        const test::TemporaryFolder folder;
        const fs::path good = folder.path() / "good.h5", bad = folder.path() / "bad.h5";
        write_shard(good, 3, "{}", item_of);
        CHECK(fault_of(good).empty());
        const std::string bytes = read_file(good);
        CHECK(test::has(fault_of(folder.path() / "none.h5"), "none.h5"));
        CHECK(test::has(fault_of(folder.path()), "not a regular file"));
        for (const std::string& other :
             {std::string(), std::string("text"), std::string(5000, '\0')}) {
            write_file(bad, other);
            CHECK(test::has(fault_of(bad), "bad.h5"));
        }
        // Cut off anywhere
        for (const double share : {0.01, 0.2, 0.5, 0.9, 0.999}) {
            write_file(bad, bytes.substr(0, static_cast<std::size_t>(
                                                share * static_cast<double>(bytes.size()))));
            CHECK(test::has(fault_of(bad), "bad.h5"));
        }
        // A flipped bit in a picture: its checksum tells
        const cv::Mat gt = item_of(1).pictures[0].second;
        const std::string row(reinterpret_cast<const char*>(gt.ptr(3)), 24);
        const std::size_t at = bytes.find(row);
        REQUIRE(at != std::string::npos);
        std::string flipped = bytes;
        flipped[at] = static_cast<char>(flipped[at] ^ 4);
        write_file(bad, flipped);
        CHECK(test::has(fault_of(bad), "bad.h5"));
        CHECK(equal(ShardFile(bad).read("gt", 0), item_of(0).pictures[0].second));
        // Another program's HDF5 file
        {
            const auto lock = enter_hdf5();
            Hdf5Handle other(H5Fcreate(bad.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT),
                             H5Fclose);
            check_hdf5(other.reset());
        }
        CHECK(test::has(fault_of(bad), "no shard of ultrasr-degrade"));
        // A later version's
        write_file(bad, bytes);
        {
            const auto lock = enter_hdf5();
            const Hdf5Handle file(H5Fopen(bad.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), H5Fclose);
            const Hdf5Handle version(H5Aopen(file.get(), "version", H5P_DEFAULT), H5Aclose);
            const int two = 2;
            check_hdf5(H5Awrite(version.get(), H5T_NATIVE_INT, &two));
        }
        CHECK(test::has(fault_of(bad), "version"));
        // What is not in it
        const ShardFile shard(good);
        CHECK(test::has(test::sentence_of([&] { shard.read("gt", 3); }), "good.h5"));
        CHECK(test::has(test::sentence_of([&] { shard.read("gt_usm", 0); }), "good.h5"));
        CHECK(test::has(test::sentence_of([&] { shard.record(3); }), "good.h5"));
    }
}

}  // namespace
}  // namespace ultrasr
