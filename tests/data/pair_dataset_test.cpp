#include <algorithm>
#include <opencv2/core.hpp>

#include "data/base/error.h"
#include "data/file.h"
#include "data/image_io.h"
#include "data/pair_dataset.h"
#include "data/pair_store.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

namespace {

void put(const fs::path& path, int width, int height) {
    write_png(path, Image(PixelSize{width, height}));
}

/// The sentence of the Error that `action` throws; "" when it throws none.
template <class Action>
std::string sentence_of(Action&& action) {
    try {
        action();
    } catch (const Error& error) {
        return error.sentence();
    }
    return {};
}

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("find_pair_sets: LR and HR folders; the scale follows from the sizes") {
        const test::TemporaryFolder folder;
        put(folder.path() / "set/LR/b.png", 16, 12);
        put(folder.path() / "set/HR/b.png", 64, 48);
        put(folder.path() / "set/LR/a_LR4.png", 8, 8);
        put(folder.path() / "set/HR/a_HR.png", 32, 32);
        const auto sets = find_pair_sets((folder.path() / "set").string());
        REQUIRE(sets.size() == 1);
        CHECK(sets[0].name == "set");
        CHECK(sets[0].scale.ratio == 4);
        REQUIRE(sets[0].pairs.size() == 2);
        CHECK(sets[0].pairs[0].stem == "a_HR");
        CHECK(sets[0].pairs[0].lr.filename() == "a_LR4.png");
        CHECK(sets[0].pairs[1].hr_size == PixelSize{64, 48});
    }

    TEST_CASE("find_pair_sets: one set a scale folder, in ascending order; PATH@NAME names it") {
        const test::TemporaryFolder folder;
        for (const int s : {14, 8}) {
            const fs::path below = folder.path() / ("x" + std::to_string(s));
            put(below / "LR/p.png", 216 / 4, 143 / 4);
            put(below / "HR/p.png", 216 / 4 * s, 143 / 4 * s + s / 2);  // HR is no whole multiple
        }
        const auto sets = find_pair_sets(folder.path().string() + "@ultra");
        REQUIRE(sets.size() == 2);
        CHECK(sets[0].name == "ultra");
        CHECK(sets[0].scale.ratio == 8);
        CHECK(sets[1].scale.ratio == 14);
    }

    TEST_CASE("find_pair_sets: set.json names several sets, relative to itself") {
        const test::TemporaryFolder folder;
        put(folder.path() / "one/test_LR/p.png", 4, 4);
        put(folder.path() / "one/test_HR/p.png", 10, 10);
        put(folder.path() / "small/p.png", 5, 5);
        put(folder.path() / "large/p.png", 15, 15);
        write_file(folder.path() / "set.json",
                   R"({"sets": [{"name": "a", "path": "one", "scale": 2.5},
                                {"name": "b", "lr": "small", "hr": "large"}]})");
        const auto sets = find_pair_sets((folder.path() / "set.json").string());
        REQUIRE(sets.size() == 2);
        CHECK(sets[0].name == "a");
        CHECK(sets[0].scale.ratio == 2.5);
        CHECK(sets[1].scale.ratio == 3);
    }

    TEST_CASE("find_pair_sets: contradictions are input faults that say what to mend") {
        const test::TemporaryFolder folder;
        const fs::path set = folder.path() / "set";
        const auto sentence = [&] { return sentence_of([&] { find_pair_sets(set.string()); }); };
        CHECK(sentence().find("no such set") != std::string::npos);
        fs::create_directories(set / "LR");
        CHECK(sentence().find("has LR but not HR") != std::string::npos);
        fs::create_directories(set / "HR");
        CHECK(sentence().find("holds no pictures") != std::string::npos);
        put(set / "LR/a.png", 4, 4);
        put(set / "HR/a.png", 16, 16);
        put(set / "HR/b.png", 16, 16);
        CHECK(sentence().find("fits b") != std::string::npos);  // HR without LR
        fs::remove(set / "HR/b.png");
        put(set / "LR/c.png", 4, 4);
        CHECK(sentence().find("c.png in") != std::string::npos);  // LR without HR
        fs::remove(set / "LR/c.png");
        put(set / "LR/a_x4.png", 4, 4);
        CHECK(sentence().find("a_x4.png") != std::string::npos);  // nobody's partner
        fs::remove(set / "LR/a_x4.png");
        fs::rename(set / "LR/a.png", set / "LR/a_SR.png");
        put(set / "LR/a_out.png", 4, 4);
        CHECK(sentence().find("more than one LR picture") != std::string::npos);
        CHECK(sentence().find("a_SR.png") != std::string::npos);
        fs::remove(set / "LR/a_out.png");
        CHECK(sentence().empty());
        put(set / "LR/d.png", 4, 4);
        put(set / "HR/d.png", 21, 16);
        CHECK(sentence().find("do not fit scale x4") != std::string::npos);
    }

    TEST_CASE("find_pair_sets: a pair store is a set a scale, its pictures are read in place") {
        const test::TemporaryFolder folder;
        const auto pair = [](const char* scene, int scale, int type) {
            StoredPair stored;
            stored.scene = scene;
            stored.scale.ratio = scale;
            stored.lr = cv::Mat(6, 8, type, cv::Scalar(0x40ff, 0x80fe, 0xffff));
            stored.hr = cv::Mat(6 * scale, 8 * scale, type, cv::Scalar(0x1200, 0x3401, 0x56ff));
            return stored;
        };
        const fs::path one = folder.path() / "pier.h5", packed = folder.path() / "set.h5";
        write_pair_store(one, {pair("pier", 14, CV_16UC3), pair("pier", 8, CV_16UC3)});
        write_pair_store(packed, {pair("tower", 8, CV_16UC3), pair("pier", 8, CV_8UC3)},
                         StoreLayout::packed);
        const auto sets = find_pair_sets(one.string());
        REQUIRE(sets.size() == 2);
        CHECK(sets[0].name == "pier");
        CHECK(sets[0].scale.ratio == 8);
        CHECK(sets[1].scale.ratio == 14);
        REQUIRE(sets[0].pairs.size() == 1);
        CHECK(sets[0].pairs[0].stem == "pier");
        CHECK(sets[0].pairs[0].hr == one / "x8/hr");
        CHECK(sets[0].pairs[0].hr_size == PixelSize{64, 48});
        const DecodedImage hr = read_picture(sets[0].pairs[0].hr);
        CHECK(hr.origin.bits == 16);
        CHECK(hr.image.size() == PixelSize{64, 48});
        CHECK(hr.image.row(47)[189] == 0x12 / 255.0F);  // high bytes, as of a PNG
        CHECK(hr.image.row(47)[191] == 0x56 / 255.0F);

        const auto named = find_pair_sets(packed.string() + "@night");
        REQUIRE(named.size() == 1);
        CHECK(named[0].name == "night");
        REQUIRE(named[0].pairs.size() == 2);
        CHECK(named[0].pairs[0].stem == "pier");
        CHECK(named[0].pairs[1].lr == packed / "tower/x8/lr");
        CHECK(read_picture(named[0].pairs[0].lr).origin.bits == 8);
        CHECK(read_picture(named[0].pairs[0].lr).image.row(0)[2] == 1.0F);
        write_file(
            folder.path() / "set.json",
            R"({"sets": [{"name": "a", "path": "set.h5"}, {"name": "b", "path": "pier.h5"}]})");
        CHECK(find_pair_sets((folder.path() / "set.json").string()).size() == 3);
        write_file(folder.path() / "set.json",
                   R"({"sets": [{"name": "a", "path": "pier.h5", "scale": 8}]})");
        CHECK(sentence_of([&] {
                  find_pair_sets((folder.path() / "set.json").string());
              }).find("holds scale x14, its set.json says x8") != std::string::npos);

        // The same pixels have the same hash, packed or not
        pack_pair_stores(folder.path() / "packed.h5", {one});
        const auto again = find_pair_sets((folder.path() / "packed.h5").string());
        CHECK(hash_of_set(again[0]) == hash_of_set(sets[0]));
        CHECK(hash_of_set(again[1]) != hash_of_set(sets[0]));
        StoredPair changed = pair("pier", 8, CV_16UC3);
        changed.lr.at<cv::Vec<std::uint16_t, 3>>(5, 7)[2] ^= 1;
        write_pair_store(one, {changed});
        CHECK(hash_of_set(find_pair_sets(one.string())[0]) != hash_of_set(again[0]));
    }

    TEST_CASE(
        "find_pair_sets: broken stores and sizes that contradict the scale are input faults") {
        const test::TemporaryFolder folder;
        const fs::path file = folder.path() / "set.h5";
        const auto sentence = [&] { return sentence_of([&] { find_pair_sets(file.string()); }); };
        write_file(file, "no HDF5");
        CHECK(sentence().find("set.h5 is no HDF5 file") != std::string::npos);
        StoredPair pair;
        pair.scene = "pier";
        pair.scale.ratio = 4;
        pair.lr = cv::Mat(8, 8, CV_8UC3, cv::Scalar(0));
        pair.hr = cv::Mat(32, 40, CV_8UC3, cv::Scalar(0));
        write_pair_store(file, {pair});
        CHECK(sentence().find("pair pier of set: LR 8 x 8 and HR 40 x 32") != std::string::npos);
        CHECK(sentence_of([&] { read_picture(file / "x4/sr"); }).find("x4/sr is missing") !=
              std::string::npos);
        CHECK(sentence_of([&] { read_picture(folder.path() / "x.h5/x4/lr"); }).find("x.h5") !=
              std::string::npos);
    }

    TEST_CASE("match_stems: an exact name wins over a shortened one; case matters") {
        const std::vector<fs::path> files{"a.png", "a_SR.png", "B_BSRGAN.png", "c_mine.png"};
        const auto match = match_stems({"a", "B", "c"}, files, "picture", "mine");
        CHECK(match.files == std::vector<fs::path>{"a.png", "B_BSRGAN.png", "c_mine.png"});
        CHECK(match.extra == std::vector<fs::path>{"a_SR.png"});
        CHECK_THROWS_AS(match_stems({"b"}, files, "picture"), Error);
    }

    TEST_CASE("hash_of_set: names and contents count, the place does not") {
        const test::TemporaryFolder one, two;
        for (const auto* folder : {&one, &two}) {
            put(folder->path() / "s/LR/a.png", 4, 4);
            put(folder->path() / "s/HR/a.png", 8, 8);
        }
        const auto hash = [](const test::TemporaryFolder& folder) {
            return hash_of_set(find_pair_sets((folder.path() / "s").string()).front());
        };
        CHECK(hash(one) == hash(two));
        Image grey(PixelSize{4, 4});
        grey.row_(0)[0] = 0.5F;
        write_png(two.path() / "s/LR/a.png", grey);
        CHECK(hash(one) != hash(two));
    }
}
