#include <algorithm>

#include "acquisition/capture_set.h"
#include "data/file.h"
#include "data/image_io.h"
#include "tests/acquisition/shots.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;
using Names = std::vector<std::string>;

namespace {

const Image& tiny() {
    static const Image image = test::waves({24, 16}, 1);
    return image;
}

void put(const fs::path& path, double focal_mm, double seconds) {
    test::put_shot(path, test::zoom_exif(focal_mm, test::noon_s + seconds), tiny());
}

/// "name: file file" for each scene.
Names summary(const CaptureSet& set) {
    Names lines;
    for (const CaptureScene& scene : set.scenes) {
        std::string line = scene.name + ":";
        for (const Shot& shot : scene.shots) line += " " + shot.name();
        lines.push_back(line);
    }
    return lines;
}

Names reasons(const std::vector<SkippedFile>& skipped) {
    Names lines;
    for (const SkippedFile& file : skipped) lines.push_back(file.reason);
    std::sort(lines.begin(), lines.end());
    return lines;
}

/// A shot that exists in memory only.
Shot shot_at(double focal_mm, ShotRole role = ShotRole::by_focal_length) {
    Shot shot;
    shot.path = std::to_string(focal_mm) + ".jpg";
    if (focal_mm > 0) shot.exif.focal_length_mm = focal_mm;
    shot.role = role;
    return shot;
}

CaptureScene scene_of(const std::vector<double>& focal_lengths) {
    CaptureScene scene;
    for (const double mm : focal_lengths) scene.shots.push_back(shot_at(mm));
    return scene;
}

using Indices = std::vector<std::size_t>;

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("natural_less: numbers by value, a total order") {
        Names names{"s10", "s9", "s", "s09", "s1a", "s1", "S2", "s2b10", "s2b9", "a"};
        std::sort(names.begin(), names.end(), natural_less);
        CHECK(names == Names{"S2", "a", "s", "s1", "s1a", "s2b9", "s2b10", "s09", "s9", "s10"});
        for (const auto& a : names) {
            for (const auto& b : names)
                CHECK((natural_less(a, b) + natural_less(b, a)) == (a != b));
        }
        CHECK(natural_less("99999999999999999999998", "99999999999999999999999"));
    }

    TEST_CASE("find_capture_set: sub-folders are scenes in natural order; shots by time") {
        const test::TemporaryFolder folder;
        const fs::path& root = folder.path();
        put(root / "s10/a.jpg", 28, 60);
        put(root / "s10/b.jpg", 224, 0);
        put(root / "s9/x.JPG", 28, 0);
        put(root / "s9/y10.jpg", 224, 5);
        put(root / "s9/y9.jpg", 224, 5);
        write_file(root / "s9/.hidden.jpg", "x");
        write_file(root / "s9/x.xmp", "x");
        write_file(root / "s9/copy.jpg.tmp", "x");
        write_file(root / "docs/readme.md", "no scene");
        write_file(root / "truth.json", "{}");
        const CaptureSet set = find_capture_set(root);
        CHECK(summary(set) == Names{"s9: x.JPG y9.jpg y10.jpg", "s10: b.jpg a.jpg"});
        CHECK(set.skipped.empty());
        CHECK(set.scenes[0].skipped.empty());
        CHECK(set.scenes[0].notes.empty());
    }

    TEST_CASE(
        "find_capture_set: what is no picture or broken is skipped with a reason, beside it all "
        "goes on") {
        const test::TemporaryFolder folder;
        const fs::path& root = folder.path();
        put(root / "s/a.jpg", 28, 0);
        write_file(root / "s/empty.jpg", "");
        write_file(root / "s/text.nef", "a text");
        write_file(root / "s/notes.doc", "x");
        write_file(root / "s/cut.jpg", read_file(root / "s/a.jpg").substr(0, 300));
        put(root / "loose.jpg", 28, 0);
        write_file(root / "film.mov", "x");
        const CaptureSet set = find_capture_set(root);
        CHECK(summary(set) == Names{"s: a.jpg"});
        const Names inside = reasons(set.scenes[0].skipped);
        REQUIRE(inside.size() == 4);
        CHECK(inside[0] == "not_an_image: s/empty.jpg");
        CHECK(inside[1] == "not_an_image: s/notes.doc");
        CHECK(inside[2] == "not_an_image: s/text.nef");
        CHECK(inside[3].starts_with("unreadable: s/cut.jpg (cut.jpg is a broken JPEG"));
        CHECK(inside[3].find(root.string()) == std::string::npos);
        CHECK(reasons(set.skipped) ==
              Names{"no_scene: loose.jpg (it lies beside the scenes' folders)",
                    "not_an_image: film.mov"});
    }

    TEST_CASE("find_capture_set: deeper folders count, a name that comes again gets _2") {
        const test::TemporaryFolder folder;
        for (const char* name : {"day1/pier/a.jpg", "day2/pier/a.jpg", "pier_2/a.jpg"}) {
            put(folder.path() / name, 28, 0);
        }
        const CaptureSet set = find_capture_set(folder.path());
        CHECK(summary(set) == Names{"pier: a.jpg", "pier_2: a.jpg", "pier_3: a.jpg"});
        CHECK(set.scenes[2].notes == Names{"duplicate_scene_name"});
        CHECK(set.scenes[1].notes.empty());
        CHECK(set.scenes[1].shots[0].path == folder.path() / "pier_2/a.jpg");
    }

    TEST_CASE(
        "find_capture_set: RAW wins over the JPEG of its stem, unless it is broken or unwanted") {
        const test::TemporaryFolder folder;
        const fs::path& root = folder.path();
        put(root / "s/a.nef", 28, 0);  // a JPEG inside; the name makes it the RAW file
        put(root / "s/a.jpg", 28, 0);
        write_file(root / "s/b.NEF", std::string("II*\0broken", 10));
        put(root / "s/b.JPG", 224, 1);
        CHECK(summary(find_capture_set(root)) == Names{"s: a.nef b.JPG"});
        const Names skipped = reasons(find_capture_set(root).scenes[0].skipped);
        REQUIRE(skipped.size() == 2);
        CHECK(skipped[0] == "superseded: s/a.jpg (by a.nef)");
        CHECK(skipped[1].starts_with("unreadable: s/b.NEF"));
        GroupingOptions options;
        options.prefer_jpeg = true;
        CHECK(summary(find_capture_set(root, options)) == Names{"s: a.jpg b.JPG"});
    }

    TEST_CASE("find_capture_set: scenes.csv says what belongs together, and the roles") {
        const test::TemporaryFolder folder;
        const fs::path& root = folder.path();
        for (const char* name : {"a.jpg", "b.jpg", "c.jpg", "d, e.jpg", "f.jpg"})
            put(root / name, 28, 0);
        const std::string table =
            "\xef\xbb\xbf"
            "file,scene,role\r\na.jpg,pier,wide\r\n b.jpg , pier ,\r\n"
            "\"d, e.jpg\",\"the \"\"tower\"\"\",tele\r\n\r\nf.jpg,,skip\r\n";
        write_file(root / "scenes.csv", table);
        const CaptureSet set = find_capture_set(root);
        CHECK(summary(set) == Names{"pier: a.jpg b.jpg", "the \"tower\": d, e.jpg"});
        CHECK(set.scenes[0].shots[0].role == ShotRole::wide);
        CHECK(set.scenes[0].shots[1].role == ShotRole::by_focal_length);
        CHECK(set.scenes[1].shots[0].role == ShotRole::tele);
        CHECK(reasons(set.skipped) == Names{"no_scene: c.jpg (not in scenes.csv)"});
        const auto refused = [&](const std::string& text) {
            write_file(root / "scenes.csv", text);
            return test::sentence_of([&] { find_capture_set(root); });
        };
        CHECK(refused("file,scene\nz.jpg,s\n").find("names z.jpg, which is not") !=
              std::string::npos);
        CHECK(refused("file,scene\na.jpg,s\na.jpg,t\n").find("line 3 names a.jpg a second time") !=
              std::string::npos);
        CHECK(refused("file,scene,role\na.jpg,s,middle\n").find("known: wide, tele, skip") !=
              std::string::npos);
        CHECK(refused("name,scene\n").find("unknown column \"name\"") != std::string::npos);
        CHECK(refused("file,scene\na.jpg,../s\n").find("is no name of a scene") !=
              std::string::npos);
        CHECK(refused("file,scene\na.jpg,s,wide\n").find("3 fields instead of 2") !=
              std::string::npos);
        CHECK(refused("").find("needs a first line") != std::string::npos);
        fs::create_directory(root / "sub");
        put(root / "sub/x.jpg", 28, 0);
        CHECK(summary(find_capture_set(root)) == Names{"sub: x.jpg"});  // folders come first
    }

    TEST_CASE("find_capture_set: by time, cut at a pause and where the zoom falls back") {
        const test::TemporaryFolder folder;
        const fs::path& root = folder.path();
        put(root / "z1.jpg", 28, 0);
        put(root / "z2.jpg", 224, 20);
        put(root / "z3.jpg", 392, 40);
        put(root / "a1.jpg", 28, 70);  // falls back: a new scene, though the pause is short
        put(root / "a2.jpg", 224, 90);
        put(root / "b1.jpg", 28, 90 + 121);  // after a pause
        put(root / "b2.jpg", 28, 90 + 123);
        put(root / "b3.jpg", 392, 90 + 140);
        CHECK(summary(find_capture_set(root)) ==
              Names{"a1: a1.jpg a2.jpg", "b1: b1.jpg b2.jpg b3.jpg", "z1: z1.jpg z2.jpg z3.jpg"});
        GroupingOptions options;
        options.gap_s = 15;
        CHECK(find_capture_set(root, options).scenes.size() == 7);
    }

    TEST_CASE("find_capture_set: wide frames that close a series stay with it") {
        const test::TemporaryFolder folder;
        const fs::path& root = folder.path();
        put(root / "01.jpg", 28, 0);
        put(root / "02.jpg", 224, 20);
        put(root / "03.jpg", 28, 40);   // closes the first
        put(root / "04.jpg", 28, 100);  // opens the second: the longer pause lies before it
        put(root / "05.jpg", 28, 103);
        put(root / "06.jpg", 392, 120);
        put(root / "07.jpg", 28, 140);  // closes the second, nothing follows
        CHECK(summary(find_capture_set(root)) ==
              Names{"01: 01.jpg 02.jpg 03.jpg", "04: 04.jpg 05.jpg 06.jpg 07.jpg"});
        put(root / "08.jpg", 224, 140 + 130);  // after a pause: no other series' opening
        CHECK(summary(find_capture_set(root)).back() == "08: 08.jpg");
        CHECK(summary(find_capture_set(root))[1] == "04: 04.jpg 05.jpg 06.jpg 07.jpg");
    }

    TEST_CASE("find_capture_set: without any time one scene, with some the others are told") {
        const test::TemporaryFolder folder;
        const fs::path root = folder.path() / "raw";
        Exif exif = test::zoom_exif(28, 0);
        exif.taken_s.reset();
        test::put_shot(root / "a.jpg", exif, tiny());
        test::put_shot(root / "b.jpg", exif, tiny());
        const CaptureSet set = find_capture_set(root);
        CHECK(summary(set) == Names{"raw: a.jpg b.jpg"});
        CHECK(set.scenes[0].notes == Names{"no_time"});
        CHECK(summary(find_capture_set(root / "")) == Names{"raw: a.jpg b.jpg"});
        put(root / "c.jpg", 28, 0);
        CHECK(summary(find_capture_set(root)) == Names{"c: c.jpg"});
        CHECK(reasons(find_capture_set(root).skipped).front().starts_with("no_time: a.jpg"));
    }

    TEST_CASE("find_capture_set: different orientation tags and unknown profiles are noted") {
        const test::TemporaryFolder folder;
        Exif exif = test::zoom_exif(28, 0);
        test::put_shot(folder.path() / "s/a.jpg", exif, tiny());
        exif.orientation = 6;
        exif.color_space = 4711;
        test::put_shot(folder.path() / "s/b.jpg", exif, tiny());
        const CaptureSet set = find_capture_set(folder.path());
        CHECK(set.scenes[0].notes == Names{"colour_profile_unknown: b.jpg", "orientation_differs"});
    }

    TEST_CASE("find_capture_set: focal lengths by hand, and names that are not there") {
        const test::TemporaryFolder folder;
        put(folder.path() / "s/a.jpg", 28, 0);
        put(folder.path() / "t/a.jpg", 28, 0);
        GroupingOptions options;
        options.focal_mm = {{"s/a.jpg", 50}};
        const CaptureSet set = find_capture_set(folder.path(), options);
        CHECK(set.scenes[0].shots[0].focal_mm() == 50.0);
        CHECK(set.scenes[1].shots[0].focal_mm() == 28.0);
        const auto refused = [&] {
            return test::sentence_of([&] { find_capture_set(folder.path(), options); });
        };
        options.focal_mm = {{"b.jpg", 50}};
        CHECK(refused().find("holds no file b.jpg") != std::string::npos);
        options.focal_mm = {{"a.jpg", -1}};
        CHECK(refused().find("must be above 0") != std::string::npos);
    }

    TEST_CASE("find_capture_set: a missing folder is an input fault, an empty one an empty set") {
        const test::TemporaryFolder folder;
        const auto none = folder.path() / "none";
        CHECK(test::sentence_of([&] { find_capture_set(none); }).find("is no folder") !=
              std::string::npos);
        CHECK(find_capture_set(folder.path()).scenes.empty());
        fs::create_directory_symlink(folder.path(), folder.path() / "loop");
        CHECK(find_capture_set(folder.path()).scenes.empty());
    }

    TEST_CASE("focal_ratio: FocalLength first, else the 35 mm equivalents, never a mixture") {
        Shot tele = shot_at(224), wide = shot_at(28);
        CHECK(focal_ratio(tele, wide) == 8.0);
        wide.exif.focal_length_mm.reset();
        CHECK_FALSE(focal_ratio(tele, wide).has_value());
        wide.exif.focal_length_35mm = 28;
        CHECK_FALSE(focal_ratio(tele, wide).has_value());
        tele.exif.focal_length_35mm = 280;
        CHECK(focal_ratio(tele, wide) == 10.0);
        wide.focal_override_mm = 56;
        CHECK(focal_ratio(tele, wide) == 4.0);
    }

    TEST_CASE("assign_roles: the nearest focal length, long rather than short, all its frames") {
        const SceneRoles roles =
            assign_roles(scene_of({28, 224, 225, 285, 340, 400, 28, 0, 400}), {8, 10, 12, 14, 20});
        CHECK(roles.wide == Indices{0, 6});
        CHECK(roles.no_focal == Indices{7});
        CHECK(roles.tele.at(8) == Indices{1, 2});  // 0.4 % apart: one position of the ring
        CHECK(roles.tele.at(10) == Indices{3});
        CHECK(roles.tele.at(12) == Indices{4});
        CHECK(roles.tele.at(14) == Indices{5, 8});
        CHECK(roles.tele.at(20).empty());
    }

    TEST_CASE(
        "assign_roles: within 0.03 of the best the longer one is taken, beyond it the nearest") {
        const auto chosen = [](const std::vector<double>& focal_lengths) {
            return assign_roles(scene_of(focal_lengths), {8}).tele.at(8);
        };
        CHECK(chosen({28, 220, 230}) == Indices{2});  // 1.8 % short, 2.7 % long
        CHECK(chosen({28, 222, 233}) == Indices{1});  // 0.9 % short, 4.0 % long
        CHECK(chosen({28, 240, 230}) == Indices{2});
        CHECK(chosen({28, 202}) == Indices{1});  // 9.8 % short
        CHECK(chosen({28, 201}).empty());        // 10.3 % short
        CHECK(chosen({28, 246}) == Indices{1});
        CHECK(chosen({28, 247}).empty());
        CHECK(chosen({}).empty());
        CHECK(chosen({0}).empty());
    }

    TEST_CASE(
        "assign_roles: roles by hand win; the 35 mm equivalent counts where it is all there is") {
        CaptureScene scene = scene_of({28, 35, 280});
        scene.shots[1].role = ShotRole::wide;
        CHECK(assign_roles(scene, {8}).wide == Indices{1});
        CHECK(assign_roles(scene, {8}).tele.at(8) == Indices{2});
        scene.shots[1].role = ShotRole::by_focal_length;
        scene.shots[0].role = ShotRole::tele;
        CHECK(assign_roles(scene, {8}).wide == Indices{1});
        CaptureScene phone;
        for (const double mm : {13.0, 104.0, 0.0}) {
            phone.shots.push_back(shot_at(0));
            if (mm > 0) phone.shots.back().exif.focal_length_35mm = mm;
        }
        CHECK(assign_roles(phone, {8}).wide == Indices{0});
        CHECK(assign_roles(phone, {8}).tele.at(8) == Indices{1});
        CHECK(assign_roles(phone, {8}).no_focal == Indices{2});
    }
}
