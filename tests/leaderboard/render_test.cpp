#include "leaderboard/render.h"

#include <cmath>
#include <limits>
#include <sstream>

#include "data/file.h"
#include "data/image_io.h"
#include "leaderboard/csv.h"
#include "leaderboard/table_layout.h"
#include "tests/test.h"

using namespace ultrasr;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

MetricSummary summary(const std::string& metric, double mean, std::size_t count = 10,
                      std::size_t undefined = 0) {
    return {metric, mean, 0.5, mean - 0.25, mean + 0.25, count, undefined, {}};
}

Run measured(const std::string& label, double psnr, double niqe) {
    Run run;
    run.set = "RealSR";
    run.scale = 4;
    run.set_sha256 = "0123456789";
    run.pictures = 10;
    run.label = run.method = label;
    run.metrics = {summary("psnr-y601", psnr), summary("niqe", niqe)};
    return run;
}

/// Ranks of one column, a letter a row: b best, s second, - none.
std::string ranks(const std::vector<Run>& runs, std::size_t column, TableOptions options = {}) {
    const auto tables = layout_tables(runs, options);
    REQUIRE(tables.size() == 1);
    std::string letters;
    for (const TableRow& row : tables[0].rows) {
        const Rank rank = row.cells.at(column).rank;
        letters += rank == Rank::best ? 'b' : rank == Rank::second ? 's' : '-';
    }
    return letters;
}

bool holds(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

std::size_t count_of(const std::string& text, const std::string& part) {
    std::size_t count = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
        ++count;
    }
    return count;
}

/// A picture whose detail is a chequered square at (x, y); flat elsewhere.
Image chequered(PixelSize size, int x0, int y0, int side) {
    Image image(size);
    for (int y = 0; y < size.height; ++y) {
        for (int x = 0; x < size.width; ++x) {
            const bool inside = x >= x0 && x < x0 + side && y >= y0 && y < y0 + side;
            const float v = inside ? static_cast<float>((x + y) % 2) : 0.5f;
            for (int c = 0; c < 3; ++c) image.row_(y)[3 * x + c] = v;
        }
    }
    return image;
}

/// One method on `count` pictures, all files below `folder`.
struct PageFixture {
    std::vector<PageRun> runs;
    std::vector<PagePicture> pictures;

    PageFixture(const std::filesystem::path& folder, int count, const std::string& stem) {
        PageRun run;
        run.run = measured("<b>bold</b>", 20, 5);
        run.run.provenance.weights = {{"w&v.bin", "cafe", false}};
        run.images = folder / "sr";
        run.scores.metrics = {"psnr-y601", "niqe"};
        for (int i = 0; i < count; ++i) {
            const std::string name = stem + std::to_string(i);
            const Image hr = chequered({320, 200}, 160, 40, 128);
            write_png(folder / "hr" / (name + ".png"), hr);
            write_png(folder / "sr" / (name + ".png"), hr);
            write_png(folder / "lr" / (name + ".png"), Image(PixelSize{80, 50}));
            pictures.push_back({"RealSR", 4, name, folder / "lr" / (name + ".png"),
                                folder / "hr" / (name + ".png")});
            run.scores.images.push_back(name + ".png");
            run.scores.values.push_back({20.0 + i, i == 0 ? not_a_number : 5.0});
        }
        runs.push_back(run);
    }
};

}  // namespace

TEST_SUITE("unit") {
    TEST_CASE("tables: the best is the highest PSNR and the lowest NIQE") {
        const std::vector<Run> runs{measured("a", 25, 4), measured("b", 27, 6),
                                    measured("c", 26, 5)};
        CHECK(ranks(runs, 0) == "-bs");
        CHECK(ranks(runs, 1) == "b-s");
    }

    TEST_CASE("tables: numbers that look equal share a rank, the next one is second") {
        CHECK(ranks({measured("a", 25.001, 4), measured("b", 25.002, 4), measured("c", 24, 4),
                     measured("d", 23, 4)},
                    0) == "bbs-");
        CHECK(ranks({measured("a", 25, 4), measured("b", 24, 4), measured("c", 24, 4)}, 0) ==
              "bss");
        CHECK(ranks({measured("a", 25, 4), measured("b", 25, 4)}, 0) == "bb");
    }

    TEST_CASE("tables: undefined means take no rank, one number alone neither") {
        CHECK(ranks({measured("a", not_a_number, 4), measured("b", 24, 4), measured("c", 23, 4)},
                    0) == "-bs");
        CHECK(ranks({measured("a", not_a_number, 4), measured("b", not_a_number, 4)}, 0) == "--");
        CHECK(ranks({measured("a", 25, 4)}, 0) == "-");
        const double inf = std::numeric_limits<double>::infinity();
        CHECK(ranks({measured("a", inf, 4), measured("b", 24, 4)}, 0) == "bs");
    }

    TEST_CASE("tables: a metric that the program does not know is shown, not ranked") {
        Run a = measured("a", 25, 4), b = measured("b", 24, 4);
        a.metrics = {summary("of-tomorrow", 0.125)};
        b.metrics = {summary("of-tomorrow", 0.5)};
        CHECK(ranks({a, b}, 0) == "--");
        const std::string text = render_table({a, b}, TableFormat::markdown);
        CHECK(holds(text, "| of-tomorrow |"));
        CHECK(holds(text, " 0.1250 |"));
    }

    TEST_CASE("tables: published rows join their set, as printed, outside the ranking") {
        std::vector<Run> runs{measured("a", 25, 6), measured("b", 24, 7)};
        const std::vector<Run> paper = read_published("paper");
        runs.insert(runs.end(), paper.begin(), paper.end());
        const auto tables = layout_tables(runs, {});
        REQUIRE(tables.size() == 1);  // sets that were not measured stay away
        CHECK(tables[0].rows.size() == 2 + 9);
        CHECK(tables[0].heads.size() == 2);  // as do metrics
        CHECK(ranks(runs, 0) == "bs---------");
        CHECK(ranks(runs, 1, {.rank_published = true}) == "---------sb");

        const std::string text = render_table(runs, TableFormat::markdown);
        CHECK(holds(text, "| Real-ESRGAN (published) "));
        CHECK(holds(text, " 5.83 |"));
        CHECK(holds(text, "not ranked: Zheng"));
        CHECK_FALSE(holds(render_table(runs, TableFormat::markdown, {true}), "not ranked"));
        CHECK(count_of(render_table(runs, TableFormat::html), "<em>(published)</em>") == 9);
        CHECK(count_of(render_table(runs, TableFormat::latex), " (published) &") == 9);
    }

    TEST_CASE("tables: published rows alone make tables of their own") {
        CHECK(layout_tables(read_published("paper"), {}).size() == 6);
    }

    TEST_CASE("tables: one a set and scale; one name for two sets of pictures is told apart") {
        Run other_scale = measured("a", 20, 4), other_files = measured("a", 20, 4);
        other_scale.scale = 8;
        other_files.set_sha256 = "abcdef0123";
        const std::vector<Run> runs{measured("a", 25, 4), other_scale, measured("b", 26, 4),
                                    other_files};
        const auto tables = layout_tables(runs, {});
        REQUIRE(tables.size() == 3);
        CHECK(tables[0].rows.size() == 2);
        CHECK(tables[0].rows[1].run->label == "b");
        CHECK(tables[1].scale == 8);
        CHECK(tables[1].hash.empty());
        CHECK(tables[0].hash == "01234567");
        CHECK(tables[2].hash == "abcdef01");
        CHECK(holds(render_table(runs, TableFormat::markdown), "RealSR \u00D74, 10 pictures, set"));
    }

    TEST_CASE("tables: undefined pictures, missing ones, and all of them") {
        Run a = measured("a", 25, 4), b = measured("b", 24, 4), c = measured("c", 23, 4);
        a.metrics[1] = summary("niqe", 5.6476, 10, 2);
        b.metrics[1] = summary("niqe", not_a_number, 10, 10);
        c.metrics[1] = summary("niqe", 5.5, 7, 1);
        const std::vector<Run> runs{a, b, c};
        const auto tables = layout_tables(runs, {});
        CHECK(tables[0].rows[0].cells[1].note == "2 undefined");
        CHECK(tables[0].rows[1].cells[1].text == "undefined");
        CHECK(tables[0].rows[2].cells[1].note == "6 of 10 pictures");
        for (const auto format : {TableFormat::markdown, TableFormat::latex, TableFormat::html}) {
            const std::string text = render_table(runs, format);
            CHECK(holds(text, "(2 undefined)"));
            CHECK(holds(text, "(6 of 10 pictures)"));
            CHECK(holds(text, "A mean leaves out the pictures"));
        }
    }

    TEST_CASE("tables: unverified weights and the scale policy show in every row") {
        Run a = measured("a", 25, 4);
        a.provenance.scale_policy = "cascade";
        a.provenance.weights = {{"x", "1", true}, {"y", "2", false}};
        Run b = measured("b", 24, 4);
        b.provenance.weights = {{"x", "1", true}};
        const std::string text = render_table({a, b}, TableFormat::markdown);
        CHECK(holds(text, "| a \u2020    |  10 | cascade |"));
        CHECK(holds(text, "| b      |  10 | \u2013       |"));
        CHECK(holds(text, "(unverified)"));
        CHECK(holds(render_table({a}, TableFormat::latex), "a $\\dagger$ & 10 & cascade &"));
        CHECK_FALSE(holds(render_table({b}, TableFormat::markdown), "unverified"));
    }

    TEST_CASE("Markdown: marks, arrows, escapes") {
        const std::string text = render_table(
            {measured("p|q *x* a_b _c_ <i>", 25, 4), measured("b", 24, 5)}, TableFormat::markdown);
        CHECK(holds(text, "| p\\|q \\*x\\* a_b \\_c\\_ &lt;i> |"));
        CHECK(holds(text, "**25.00**"));
        CHECK(holds(text, "<u>24.00</u>"));
        CHECK(holds(text, "PSNR (dB) \u2191 |"));
        CHECK(holds(text, "NIQE \u2193 |"));
    }

    TEST_CASE("LaTeX: booktabs, marks, escapes; braces, rows and columns add up") {
        const std::string text = render_table(
            {measured("a_b%c&d#e$f^g~h\\i{j}", 25, 4), measured("b", 24, 5)}, TableFormat::latex);
        CHECK(holds(text,
                    "a\\_b\\%c\\&d\\#e\\$f\\textasciicircum{}g\\textasciitilde{}h"
                    "\\textbackslash{}i\\{j\\} &"));
        CHECK(holds(text, "\\textbf{25.00}"));
        CHECK(holds(text, "\\underline{24.00}"));
        CHECK(holds(text, "NIQE $\\downarrow$"));
        CHECK(holds(text, "\\begin{tabular}{lrlrr}\n\\toprule"));
        CHECK(count_of(text, "\\midrule") == 1);
        CHECK(holds(text, "\\bottomrule\n\\end{tabular}\n\\end{table}\n"));
        CHECK(holds(text, "\\label{tab:realsr-x4}"));
        // Every line of the body has four separators and ends in a double backslash
        std::istringstream lines(text.substr(text.find("\\midrule\n") + 9));
        int rows = 0;
        for (std::string line; std::getline(lines, line) && line != "\\bottomrule"; ++rows) {
            CHECK(count_of(line, " & ") == 4);
            CHECK(line.ends_with(" \\\\"));
        }
        CHECK(rows == 2);
        for (const char c : text) CHECK(static_cast<unsigned char>(c) < 0x80);
    }

    TEST_CASE("CSV: full precision, counts of undefined pictures, quoted names") {
        Run a = measured("a,b", 25.123456789, 4), published;
        a.metrics[1].nan = 2;
        published = measured("p", 20, 3);
        published.published = true;
        const auto rows = parse_csv(render_table({a, published}, TableFormat::csv), "t");
        REQUIRE(rows.size() == 3);
        CHECK(rows[0].fields == std::vector<std::string>{"set", "scale", "set_sha256", "method",
                                                         "published", "unverified", "policy",
                                                         "pictures", "psnr-y601", "psnr-y601_nan",
                                                         "niqe", "niqe_nan"});
        CHECK(rows[1].fields == std::vector<std::string>{"RealSR", "4", "0123456789", "a,b", "0",
                                                         "0", "", "10", "25.123456789", "0", "4",
                                                         "2"});
        CHECK(rows[2].fields[4] == "1");
        CHECK(rows[2].fields[8] == "20");
        CHECK(rows[2].fields[9].empty());
    }

    TEST_CASE("HTML: classes for the ranks, the interval, nothing unescaped") {
        const std::string text = render_table(
            {measured("<script>&\"'", 25, 4), measured("b", 24, 5)}, TableFormat::html);
        CHECK(holds(text, "&lt;script&gt;&amp;&quot;&#39;"));
        CHECK_FALSE(holds(text, "<script>"));
        CHECK(holds(text, "<span class=\"best\">25.00</span><small>24.75 \u2013 25.25</small>"));
        CHECK(holds(text, "<span class=\"second\">24.00</span>"));
        CHECK(holds(text, "title=\"95 % interval of the mean 24.75 to 25.25"));
    }

    TEST_CASE("page: shows LR, method and HR of eight evenly spaced pictures, fetches nothing") {
        const test::TemporaryFolder folder;
        const PageFixture fixture(folder.path(), 24, "p");
        const std::string page =
            render_page("T <1>", "cmd \"&\" <x>", fixture.runs, {}, fixture.pictures);
        CHECK(holds(page, "<h1>T &lt;1&gt;</h1>"));
        CHECK(holds(page, "cmd &quot;&amp;&quot; &lt;x&gt;"));
        CHECK_FALSE(holds(page, "<b>bold</b>"));
        CHECK(holds(page, "&lt;b&gt;bold&lt;/b&gt;"));
        CHECK(holds(page, "w&amp;v.bin <span class=\"bad\">(unverified)</span>"));
        CHECK(count_of(page, "<h4>") == 8);
        CHECK(count_of(page, "src=\"data:image/jpeg;base64,") == 8 * 3 * 2);
        CHECK(count_of(page, "src=") == 8 * 3 * 2);
        CHECK(count_of(page, "http") == 0);
        CHECK(count_of(page, "class=\"gap\"") == 0);
        for (const char* stem : {"p1", "p4", "p7", "p10", "p13", "p16", "p19", "p22"}) {
            CHECK(holds(page, std::string("<h4>") + stem + "</h4>"));
        }
        CHECK(count_of(page, "<details>") == 2);
        CHECK(holds(page, "<th scope=\"row\">p23.png</th><td class=\"number\">43.00</td>"));
        CHECK(holds(page, "<th scope=\"row\">p0.png</th><td class=\"number\">undefined</td>"));
        CHECK(holds(page, "PSNR 21.00, NIQE 5."));
        // The chequered square, in per cent of 320 x 200
        CHECK(holds(page, "left:50.00%;top:20.00%;width:40.00%;height:64.00%"));
    }

    TEST_CASE("page: missing, broken and wrongly sized pictures leave gaps") {
        const test::TemporaryFolder folder;
        PageFixture fixture(folder.path(), 3, "<i>&");
        std::filesystem::remove(folder.path() / "sr" / "<i>&0.png");
        write_file(folder.path() / "sr" / "<i>&1.png", "no picture");
        write_png(folder.path() / "sr" / "<i>&2.png", Image(PixelSize{10, 10}));
        std::filesystem::remove(folder.path() / "lr" / "<i>&2.png");
        std::string page = render_page("t", "c", fixture.runs, {}, fixture.pictures);
        CHECK(count_of(page, "class=\"gap\">no picture") == 3);
        CHECK(count_of(page, "class=\"gap\">of another size") == 1);
        CHECK_FALSE(holds(page, "<i>"));

        std::filesystem::remove_all(folder.path() / "sr");
        std::filesystem::remove_all(folder.path() / "hr");
        page = render_page("t", "c", fixture.runs, {}, fixture.pictures);
        CHECK(count_of(page, "class=\"gap\"") >= 3);
        CHECK(holds(render_page("t", "c", {}, {}, {}), "</html>"));
    }
}

TEST_SUITE("property") {
    TEST_CASE("Markdown: all lines of a table are equally wide, so that plain text lines up") {
        Run odd = measured("\u00FCml\u00E4ut", 25, 4);
        odd.provenance.weights = {{"x", "1", false}};
        odd.provenance.scale_policy = "post";
        const std::string text = render_table({odd, measured("b", 24.5, 5)}, TableFormat::markdown);
        std::istringstream lines(text);
        std::size_t width = 0;
        int table_lines = 0;
        for (std::string line; std::getline(lines, line);) {
            if (!line.starts_with('|')) continue;
            std::size_t characters = 0;
            for (const char c : line) characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
            if (width == 0) width = characters;
            CHECK(characters == width);
            ++table_lines;
        }
        CHECK(table_lines == 4);
    }

    TEST_CASE("tables and page: the same results give the same bytes") {
        const test::TemporaryFolder folder;
        const PageFixture fixture(folder.path(), 2, "p");
        CHECK(render_page("t", "c", fixture.runs, read_published("paper"), fixture.pictures) ==
              render_page("t", "c", fixture.runs, read_published("paper"), fixture.pictures));
    }
}
