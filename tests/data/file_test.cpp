#include <fcntl.h>
#include <unistd.h>

#include "data/base/error.h"
#include "data/file.h"
#include "tests/test.h"

using namespace ultrasr;
namespace fs = std::filesystem;

TEST_SUITE("unit") {
    TEST_CASE("write_file: reads back, replaces, makes folders, leaves no temporary file") {
        const test::TemporaryFolder folder;
        const fs::path file = folder.path() / "a" / "b" / "c.txt";
        write_file(file, "one");
        write_file(file, std::string("two\0three", 9));
        CHECK(read_file(file) == std::string("two\0three", 9));
        std::size_t entries = 0;
        for ([[maybe_unused]] const auto& e : fs::directory_iterator(file.parent_path())) ++entries;
        CHECK(entries == 1);
    }

    TEST_CASE("OutputFile: pieces become the file at the end, or nothing") {
        const test::TemporaryFolder folder;
        const auto path = folder.path() / "new" / "f.txt";
        {
            OutputFile file(path);
            file.append("one ");
            file.append("");
            file.append("two");
            CHECK_FALSE(std::filesystem::exists(path));
            file.finish();
        }
        CHECK(read_file(path) == "one two");
        {
            OutputFile file(path);
            file.append("half");
        }
        CHECK(read_file(path) == "one two");
        CHECK(std::distance(std::filesystem::directory_iterator(path.parent_path()), {}) == 1);
    }

    TEST_CASE("write_file: a place that is no folder is a storage fault") {
        const test::TemporaryFolder folder;
        write_file(folder.path() / "file", "x");
        try {
            write_file(folder.path() / "file" / "below", "y");
            FAIL("did not throw");
        } catch (const Error& error) {
            CHECK(error.fault() == Fault::storage);
        }
    }

    TEST_CASE("remove_stale_temporaries: what dead processes left goes, the rest stays") {
        const test::TemporaryFolder folder;
        const std::string own = ".a.png." + std::to_string(::getpid()) + ".3.tmp";
        for (const std::string& name :
             {std::string(".a.png.999999999.0.tmp"), own, std::string("a.tmp"),
              std::string(".hidden"), std::string(".x.y.tmp"), std::string("b.png")}) {
            std::ofstream(folder.path() / name) << "1";
        }
        remove_stale_temporaries(folder.path());
        CHECK(!fs::exists(folder.path() / ".a.png.999999999.0.tmp"));
        for (const std::string& name : {own, std::string("a.tmp"), std::string(".hidden"),
                                        std::string(".x.y.tmp"), std::string("b.png")}) {
            CHECK_MESSAGE(fs::exists(folder.path() / name), name);
        }
        remove_stale_temporaries(folder.path() / "missing");
    }

    TEST_CASE("read_file: missing files and folders are input faults that name the path") {
        const test::TemporaryFolder folder;
        for (const fs::path& path : {folder.path() / "none", folder.path()}) {
            try {
                read_file(path);
                FAIL("did not throw");
            } catch (const Error& error) {
                CHECK(error.fault() == Fault::input);
                CHECK(error.sentence().find(path.string()) != std::string::npos);
            }
        }
    }

    TEST_CASE("LineLog: a torn last line is cut away when the log is opened again") {
        const test::TemporaryFolder folder;
        const fs::path file = folder.path() / "log";
        {
            LineLog log(file);
            log.append("first");
            log.append("second");
        }
        write_file(file, read_file(file) + "thi");
        LineLog(file).append("fourth");
        CHECK(read_file(file) == "first\nsecond\nfourth\n");
    }

    TEST_CASE("FolderLock: a second holder is refused, a later one is not") {
        const test::TemporaryFolder folder;
        {
            const FolderLock lock(folder.path());
            try {
                const FolderLock second(folder.path());
                FAIL("did not throw");
            } catch (const Error& error) {
                CHECK(error.fault() == Fault::storage);
            }
            const FolderLock other_name(folder.path(), ".lock.2of3");
        }
        CHECK_NOTHROW(FolderLock(folder.path()));
    }
}

TEST_SUITE("golden") {
    // FIPS 180-4 examples: "abc" and the empty message.
    TEST_CASE("sha256: the standard's examples, in memory and from a file") {
        const std::string abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        CHECK(sha256("abc") == abc);
        CHECK(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        const test::TemporaryFolder folder;
        write_file(folder.path() / "f", "abc");
        CHECK(sha256_of_file(folder.path() / "f") == abc);
    }
}
