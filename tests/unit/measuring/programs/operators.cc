// C++ new and delete in all forms, and a failing new that the program handles, for the counter's tests.
// Built as a program, and with -shared as a library that Python loads (then libstdc++ is known to its callers only).
#include <cstdint>
#include <cstdio>
#include <dlfcn.h>
#include <new>
#include <string>
#include <sys/resource.h>
#include <unistd.h>
#include <vector>

static void (*counter_read)(long long *);
static long long before[8];
static char line[2048];
static int filled;

static void say(const char *name) {
    long long now[8];
    counter_read(now);
    filled += snprintf(line + filled, sizeof line - filled, "%s live %lld blocks %lld\n", name, now[0] - before[0],
                       now[4] - before[4]);
}

struct alignas(128) Wide {
    char bytes[256];
};
struct Throws {
    char bytes[40];
    Throws() { throw 1; }
};

static int tries;
static void make_room() {
    if (++tries == 3) std::set_new_handler(nullptr);
}

extern "C" int all_operators() {
    counter_read = (void (*)(long long *))dlsym(RTLD_DEFAULT, "peakmem_counter_read");
    if (!counter_read) return 3;
    counter_read(before);
    int *one = new int(1);
    char *many = new char[1001];
    char *quiet = new (std::nothrow) char[77];
    Wide *wide = new Wide;
    Wide *wides = new Wide[2];
    Wide *calm = new (std::nothrow) Wide;
    void *nothing = ::operator new(0);
    say("all");
    delete one;
    delete[] many;
    ::operator delete[](quiet, std::nothrow);
    delete wide;
    delete[] wides;
    ::operator delete(calm, std::align_val_t(128), std::nothrow);
    ::operator delete(nothing);
    say("freed");
    int caught = 0;
    try {
        new Throws;
    } catch (int) {
        caught++;
    }
    volatile size_t huge = PTRDIFF_MAX;
    try {
        char *volatile p = new char[huge];
        (void)p;
    } catch (const std::bad_alloc &) {
        caught++;
    }
    try {
        void *volatile p = ::operator new(huge & ~4095ul, std::align_val_t(64));
        (void)p;
    } catch (const std::bad_alloc &) {
        caught++;
    }
    if (!new (std::nothrow) char[huge]) caught++;
    if (!::operator new(huge & ~4095ul, std::align_val_t(64), std::nothrow)) caught++;
    std::set_new_handler(make_room);
    try {
        char *volatile p = new char[huge];
        (void)p;
    } catch (const std::bad_alloc &) {
        caught += tries == 3;
    }
    say("caught");
    {
        std::vector<double> v(12345);
        std::string s(999, 'x');
        say("inside");
    }
    say("outside");
    filled += snprintf(line + filled, sizeof line - filled, "exceptions %d\n", caught);
    return write(1, line, filled) != filled;
}

// Small blocks until the system gives no more; then all are given back. The counter's own table cannot grow either.
extern "C" int until_full() {
    counter_read = (void (*)(long long *))dlsym(RTLD_DEFAULT, "peakmem_counter_read");
    struct rlimit limit = {64 << 20, 64 << 20};
    setrlimit(RLIMIT_DATA, &limit);
    struct Link {
        Link *next;
        char bytes[40];
    } *chain = nullptr;
    counter_read(before);
    long made = 0;
    try {
        for (;; made++) {
            Link *link = new Link;
            link->next = chain;
            chain = link;
        }
    } catch (const std::bad_alloc &) {
    }
    while (chain) {
        Link *next = chain->next;
        delete chain;
        chain = next;
    }
    say("emptied");
    filled += snprintf(line + filled, sizeof line - filled, "made %d\n", made > 100000);
    return write(1, line, filled) != filled;
}

int main(int count, char **) { return count > 1 ? until_full() : all_operators(); }
