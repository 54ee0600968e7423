// difflib's matched length of many pairs, exactly: the gallop search of gallop.py on rows of 64-bit words.
//
// Bit j of an element's mask says that b[j] is that element. A block of n rows that ends at row i of a is a bit that
// survives mask(a[i]) & mask(a[i-1]) << 1 & ... & mask(a[i-n+1]) << n-1. Built by build.py, called by host.py.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using Word = uint64_t;
constexpr int BITS = 64;
constexpr int PROBE = 3;    // rows a window survives before its first row is asked, too
constexpr int ROWS = 16384;  // of all a, a thread: a thread for fewer costs more than it saves
constexpr int WAITING = 33; // rectangles: the larger child waits, so one more than the bits of a length are enough

struct Rectangle {
    int top, bottom, left, right; // rows of a and columns of b, ends excluded
    bool empty() const { return top >= bottom || left >= right; }
};

struct Block {
    int row, column, size;
};

int last_bit(Word word) { // the lowest bit set, which has the earliest column
    return __builtin_ctzll(word);
}

// The columns of each element of one b. A mask has a zero word in front of it, for bits shifted in from nowhere.
class Expert {
  public:
    const int32_t* b = nullptr;
    int length = 0;
    bool some_popular = false;

    void prepare(const int32_t* elements, int count, bool autojunk) {
        b = elements, length = count, stride = (count + BITS - 1) / BITS + 1;
        size_t slots = 4;
        while (slots < 2 * size_t(count)) slots *= 2;
        key.assign(slots, 0), where.assign(slots, -1), occurs.clear(), words.clear();
        for (int j = 0; j < count; j++) {
            size_t s = slot(b[j]);
            if (where[s] < 0) {
                key[s] = b[j], where[s] = int(occurs.size());
                occurs.push_back(0), words.resize(words.size() + stride, 0);
            }
            occurs[where[s]]++;
            words[size_t(where[s]) * stride + 1 + j / BITS] |= Word(1) << (j % BITS);
        }
        allowed = autojunk && count >= 200 ? count / 100 + 1 : count;
        some_popular = std::any_of(occurs.begin(), occurs.end(), [&](int n) { return n > allowed; });
    }

    const Word* mask(int32_t element) const { // null: not in b, or popular there
        int at = where[slot(element)];
        return at < 0 || occurs[at] > allowed ? nullptr : &words[size_t(at) * stride + 1];
    }

  private:
    size_t stride = 0;
    int allowed = 0;
    std::vector<int32_t> key;
    std::vector<int> where, occurs;
    std::vector<Word> words;

    size_t slot(int32_t element) const {
        uint32_t hash = uint32_t(element) * 2654435761u;
        size_t s = (hash ^ hash >> 15) & (where.size() - 1);
        while (where[s] >= 0 && key[s] != element) s = (s + 1) & (where.size() - 1);
        return s;
    }
};

class Search {
  public:
    Expert expert;

    int matched(const int32_t* elements, int length) {
        if (!length || !expert.length) return 0;
        a = elements;
        row.resize(length);
        for (int i = 0; i < length; i++) row[i] = expert.mask(a[i]);
        alive.assign((expert.length + BITS - 1) / BITS + 1, 0);
        longer = alive;
        Rectangle waiting[WAITING];
        int depth = 0, total = 0;
        waiting[depth++] = {0, length, 0, expert.length};
        while (depth) {
            Rectangle r = waiting[--depth];
            Block block = longest(r);
            if (expert.some_popular) block = prolong(r, block);
            if (!block.size) continue;
            total += block.size;
            Rectangle before{r.top, block.row, r.left, block.column};
            Rectangle after{block.row + block.size, r.bottom, block.column + block.size, r.right};
            if (before.bottom - before.top > after.bottom - after.top) std::swap(before, after);
            if (!after.empty()) waiting[depth++] = after; // the one with more rows, so that few have to wait
            if (!before.empty()) waiting[depth++] = before;
        }
        return total;
    }

  private:
    const int32_t* a = nullptr;
    std::vector<const Word*> row; // mask of each a[i]
    std::vector<Word> alive;      // from word 1 on, the rectangle's columns where a window's rows have matched so far
    std::vector<Word> longer;     // the same with one row more, while a block grows
    int first = 0, words = 0;     // the words of a mask that the rectangle has columns in
    Word low = 0, high = 0;       // its columns in the first and in the last of them

    // The longest block, the earliest in a, then in b; size 0 at the rectangle's corner if there is none. A block
    // longer than the best so far needs size + 1 rows in a run, tested from the last one upwards: where the test dies
    // at row z, every window over z is dead, and the next one to test begins below z.
    Block longest(const Rectangle& r) {
        first = r.left / BITS, words = (r.right - 1) / BITS - first + 1;
        low = ~Word(0) << (r.left % BITS), high = ~Word(0) >> (BITS - 1 - (r.right - 1) % BITS);
        Block best{r.top, r.left, 0};
        for (int end = r.top; end < r.bottom;) {
            int z = end;
            bool some = begin(end);
            while (some && z > end - best.size) {
                if (end - z == PROBE && best.size > PROBE + 1 && !meets(end - best.size, best.size, r)) break;
                z--;
                some = narrow(z, end - z, r);
            }
            if (some && z > end - best.size) { // its first row does not match, which says nothing of the next window
                end++;
                continue;
            }
            if (!some) {
                end = z + best.size + 1;
                continue;
            }
            do {
                best.size++, end++;
            } while (end < r.bottom && grow(end));
            best.row = end - best.size;
            best.column = earliest() - best.size + 1;
            end++; // that row ended the run: no longer window ends on it
        }
        return best;
    }

    // alive = the matches of row i; whether there are any. Here and below, loops that a compiler vectorises.
    bool begin(int i) {
        if (!row[i]) return false;
        const Word* mask = row[i] + first;
        Word* x = &alive[1];
        for (int w = 0; w < words; w++) x[w] = mask[w];
        x[0] &= low, x[words - 1] &= high;
        Word any = 0;
        for (int w = 0; w < words; w++) any |= x[w];
        return any;
    }

    // alive &= the matches of row i, `up` rows above the window's last; whether any are left.
    bool narrow(int i, int up, const Rectangle& r) {
        Word* x = &alive[1];
        int from = std::min((r.left + up) / BITS - first, words); // columns left of it come from outside the rectangle
        if (from > 0) x[from - 1] = 0;
        if (!row[i] || from == words) return false;
        x[from] &= ~Word(0) << ((r.left + up) % BITS);
        const Word* mask = row[i] + first - up / BITS;
        int shift = up % BITS;
        Word any = 0;
        for (int w = from; w < words; w++) any |= x[w] &= mask[w] << shift | mask[w - 1] >> 1 >> (BITS - 1 - shift);
        return any;
    }

    // Whether narrow() would leave any.
    bool meets(int i, int up, const Rectangle& r) const {
        const Word* x = &alive[1];
        int from = std::min((r.left + up) / BITS - first, words);
        if (!row[i] || from == words) return false;
        const Word* mask = row[i] + first - up / BITS;
        int shift = up % BITS;
        auto shifted = [=](int w) { return mask[w] << shift | mask[w - 1] >> 1 >> (BITS - 1 - shift); };
        Word any = x[from] & shifted(from) & ~Word(0) << ((r.left + up) % BITS);
        for (int w = from + 1; w < words; w++) any |= x[w] & shifted(w);
        return any;
    }

    // alive = the blocks that go on in row i; unchanged, and false, if none does.
    bool grow(int i) {
        if (!row[i]) return false;
        const Word* mask = row[i] + first;
        const Word* x = &alive[1];
        Word* y = &longer[1];
        for (int w = 0; w < words; w++) y[w] = (x[w] << 1 | x[w - 1] >> (BITS - 1)) & mask[w];
        y[words - 1] &= high;
        Word any = 0;
        for (int w = 0; w < words; w++) any |= y[w];
        if (any) std::swap(alive, longer);
        return any;
    }

    int earliest() const {
        int w = 0;
        while (!alive[1 + w]) w++;
        return (first + w) * BITS + last_bit(alive[1 + w]);
    }

    // The block with its equal neighbours, popular ones included.
    Block prolong(const Rectangle& r, Block block) const {
        auto [i, j, size] = block;
        const int32_t* b = expert.b;
        while (i > r.top && j > r.left && a[i - 1] == b[j - 1]) i--, j--, size++;
        while (i + size < r.bottom && j + size < r.right && a[i + size] == b[j + size]) size++;
        return {i, j, size};
    }
};

} // namespace

enum { DONE, NO_MEMORY, OUTSIDE }; // what host.py is told

// out[p] = matched length of a[p, :a_len[p]] and b[q, :b_len[q]], q = b_index[p]; rows of a and b are `width` apart.
// OUTSIDE, and nothing read, if a length or an index points outside its array. At most `cpus` threads.
extern "C" int jaxsrl_matched_length(const int32_t* a, const int32_t* a_len, int64_t a_width, const int32_t* b,
                                     const int32_t* b_len, int64_t b_width, const int32_t* b_index, int64_t pairs,
                                     int64_t experts, int autojunk, int cpus, int32_t* out) {
    int64_t rows = 0;
    bool fits = true;
    for (int64_t p = 0; p < pairs; p++) {
        rows += a_len[p];
        fits &= a_len[p] >= 0 && a_len[p] <= a_width && b_index[p] >= 0 && b_index[p] < experts;
    }
    for (int64_t q = 0; q < experts; q++) fits &= b_len[q] >= 0 && b_len[q] <= b_width;
    if (!fits) return OUTSIDE;
    const int64_t threads = std::max<int64_t>(1, std::min<int64_t>({cpus, 1 + rows / ROWS, pairs}));
    std::atomic<int64_t> next{0};
    std::atomic<int> failed{DONE};
    const int64_t share = std::max<int64_t>(1, std::min<int64_t>(64, pairs / (8 * threads)));
    auto work = [&] {
        try {
            Search search;
            int32_t current = -1;
            for (int64_t begin; (begin = next.fetch_add(share)) < pairs && !failed;)
                for (int64_t p = begin; p < std::min(begin + share, pairs); p++) {
                    int32_t q = b_index[p];
                    if (q != current) search.expert.prepare(b + q * b_width, b_len[q], autojunk);
                    current = q;
                    out[p] = search.matched(a + p * a_width, a_len[p]);
                }
        } catch (const std::bad_alloc&) {
            failed = NO_MEMORY;
        }
    };
    std::vector<std::thread> others;
    try {
        for (int64_t t = 1; t < threads; t++) others.emplace_back(work);
    } catch (const std::system_error&) { // no more threads to be had: the ones there are do it all
    }
    work();
    for (auto& other : others) other.join();
    return failed;
}
